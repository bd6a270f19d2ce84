import json
import math
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from salsa.models.families import load_causal, load_tokenizer, save
from salsa.models.source import write_pointer
from salsa.soup.average import SoupError, average, task_vectors
from tests.models.tiny import ARCHITECTURES, CHAT_TEMPLATE, causal, tokenizer


def toy(folder, **tensors):
    """A model folder that holds nothing but tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def weights_of(folder):
    return load_file(folder / "model.safetensors")


@pytest.fixture
def models(tmp_path):
    folders = []
    for seed in range(3):
        folder = tmp_path / f"model {seed}"
        save(causal(seed=seed), tokenizer(), folder)
        folders.append(folder)
    return folders


@pytest.fixture
def out(tmp_path):
    return tmp_path / "soup"


def test_a_soup_is_the_weighted_mean_of_its_ingredients(models, out):
    average(models, [0.2, 0.3, 0.5], out)
    first, second, third = (weights_of(folder) for folder in models)
    for name, mixed in weights_of(out).items():
        torch.testing.assert_close(mixed, 0.2 * first[name] + 0.3 * second[name] + 0.5 * third[name])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_swapping_models_and_weights_gives_the_same_bytes(models, tmp_path, alpha):
    average(models[:2], [1 - alpha, alpha], tmp_path / "one")
    average(models[1::-1], [alpha, 1 - alpha], tmp_path / "two")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_the_order_of_a_uniform_soup_does_not_matter(models, tmp_path):
    for name, order in (("one", models), ("two", [models[2], models[0], models[1]])):
        average(order, [1 / 3] * 3, tmp_path / name)
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("weights", [[1 / 3] * 3, [0.1, 0.2, 0.7], [0.1] * 10, [0.5, -0.25, 0.75]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_soup_of_copies_is_the_model_bit_for_bit(tmp_path, weights, dtype):
    generator = torch.Generator().manual_seed(0)
    folder = toy(tmp_path / "model", a=torch.randn(500, generator=generator).to(dtype), b=torch.tensor([0.1]).to(dtype))
    average([folder] * len(weights), weights, tmp_path / "soup")
    for name, mixed in weights_of(tmp_path / "soup").items():
        assert torch.equal(mixed, weights_of(folder)[name])


def test_a_one_hot_soup_is_a_copy_of_the_files(models, out):
    average(models, [0.0, 1.0, 0.0], out)
    assert (out / "model.safetensors").read_bytes() == (models[1] / "model.safetensors").read_bytes()


@given(seed=st.integers(0, 100), alpha=st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_log_linear_policies_mix_to_their_normalised_geometric_mean(tmp_path_factory, seed, alpha):
    """T2.3: with logits = features @ weights, KL(p || soup) = sum_i a_i KL(p || p_i) + log Z for every p."""
    folder = tmp_path_factory.mktemp("log-linear")
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    first, second = (torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    average([toy(folder / "1", w=first), toy(folder / "2", w=second)], [1 - alpha, alpha], folder / "soup")
    logp_1, logp_2, soup = (
        (features @ weights).log_softmax(-1) for weights in (first, second, weights_of(folder / "soup")["w"])
    )
    geometric = (1 - alpha) * logp_1 + alpha * logp_2
    log_z = geometric.logsumexp(-1)
    torch.testing.assert_close(soup, geometric - log_z[:, None])
    policy = torch.randn(3, 6, generator=generator, dtype=torch.float64).log_softmax(-1)

    def kl(reference):
        return (policy.exp() * (policy - reference)).sum(-1)

    torch.testing.assert_close(kl(soup), (1 - alpha) * kl(logp_1) + alpha * kl(logp_2) + log_z)
    assert (log_z <= 1e-12).all()


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_a_soup_loads_with_the_library_and_tied_weights_stay_tied(family, tmp_path, out):
    for seed in range(2):
        save(causal(family, seed=seed), tokenizer(), tmp_path / str(seed))
    average([tmp_path / "0", tmp_path / "1"], [0.5, 0.5], out)
    soup = AutoModelForCausalLM.from_pretrained(out)
    tied = ARCHITECTURES[family].tie_embeddings
    assert (soup.lm_head.weight.data_ptr() == soup.model.embed_tokens.weight.data_ptr()) is tied
    expected = (causal(family, seed=0).lm_head.weight + causal(family, seed=1).lm_head.weight) / 2
    torch.testing.assert_close(soup.lm_head.weight, expected)
    assert load_tokenizer(out).chat_template == CHAT_TEMPLATE
    assert (out / "generation_config.json").is_file()


def test_shards_are_read_and_written(models, tmp_path, out):
    sharded = tmp_path / "sharded"
    shutil.copytree(models[0], sharded)
    (sharded / "model.safetensors").unlink()
    causal(seed=0).save_pretrained(sharded, max_shard_size="2KB")
    assert len(list(sharded.glob("model-*.safetensors"))) > 1
    average([sharded, models[1]], [0.5, 0.5], tmp_path / "whole")
    average([sharded, models[1]], [0.5, 0.5], out, shard_bytes=3000)
    files = sorted(path.name for path in out.glob("*.safetensors"))
    assert files == [f"model-{n:05d}-of-{len(files):05d}.safetensors" for n in range(1, len(files) + 1)]
    assert len(files) > 1
    whole, parts = load_causal(tmp_path / "whole").state_dict(), load_causal(out).state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    average([sharded, models[1]], [1.0, 0.0], tmp_path / "copy")
    assert torch.equal(load_causal(tmp_path / "copy").lm_head.weight, causal(seed=0).lm_head.weight)


def test_double_precision_stays_and_whole_numbers_are_copied(tmp_path, out):
    first = toy(tmp_path / "1", w=torch.tensor([0.1], dtype=torch.float64), n=torch.tensor([3]), b=torch.tensor([True]))
    second = toy(
        tmp_path / "2", w=torch.tensor([0.2], dtype=torch.float64), n=torch.tensor([3]), b=torch.tensor([True])
    )
    average([first, second], [0.5, 0.5], out)
    mixed = weights_of(out)
    assert mixed["w"].dtype == torch.float64
    assert mixed["w"].item() == pytest.approx(0.15, rel=1e-15)
    assert (mixed["n"].tolist(), mixed["b"].tolist()) == ([3], [True])
    third = toy(tmp_path / "3", w=torch.tensor([0.2], dtype=torch.float64), n=torch.tensor([4]), b=torch.tensor([True]))
    with pytest.raises(SoupError, match="the integer tensor n differs"):
        average([first, third], [0.5, 0.5], out)


def test_low_precision_is_rounded_once(tmp_path, out):
    values = [torch.tensor([1.0, 256.0]), torch.tensor([1.0078125, 1.0]), torch.tensor([1.0, 1.0])]
    folders = [toy(tmp_path / str(i), w=value.bfloat16()) for i, value in enumerate(values)]
    average(folders, [0.25, 0.5, 0.25], out)
    exact = sum(weight * value.double() for weight, value in zip([0.25, 0.5, 0.25], values, strict=True))
    assert weights_of(out)["w"].tolist() == exact.bfloat16().tolist()


def test_a_pointer_is_an_ingredient_like_its_model(models, tmp_path, out):
    write_pointer(tmp_path / "pointer", str(models[0]))
    average([tmp_path / "pointer", models[1]], [0.5, 0.5], out)
    average(models[:2], [0.5, 0.5], tmp_path / "direct")
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "direct" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("weights", [[0.5, 0.6], [1.0], [float("nan"), 1.0], [float("inf"), float("-inf")], []])
def test_weights_that_make_no_average_are_refused(models, out, weights):
    with pytest.raises(SoupError, match=r"must sum to 1|one weight for each model"):
        average(models[:2], weights, out)
    assert not out.exists()


def test_the_first_difference_of_tensors_is_named(tmp_path, out):
    first = toy(tmp_path / "1", w=torch.zeros(2, 3), v=torch.zeros(2))
    for number, (tensors, message) in enumerate(
        [
            ({"w": torch.zeros(2, 3)}, "v is a tensor of .*1 only"),
            ({"w": torch.zeros(2, 3), "v": torch.zeros(2), "x": torch.zeros(1)}, "x is a tensor of .* only"),
            ({"w": torch.zeros(3, 2), "v": torch.zeros(2)}, r"tensor w has shape \[2, 3\] in .* and \[3, 2\]"),
            ({"w": torch.zeros(2, 3), "v": torch.zeros(2).half()}, "tensor v has the number format F32 in .* and F16"),
        ]
    ):
        with pytest.raises(SoupError, match=message):
            average([first, toy(tmp_path / f"other {number}", **tensors)], [0.5, 0.5], out)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.0, 1.0]])
def test_a_tensor_that_is_not_finite_is_named_and_nothing_is_left(tmp_path, out, broken, weights):
    first = toy(tmp_path / "1", a=torch.zeros(9), w=torch.zeros(2))
    second = toy(tmp_path / "2", a=torch.zeros(9), w=torch.tensor([0.0, broken]))
    with pytest.raises(SoupError, match=r"the tensor w of .*2 holds NaN or infinity"):
        average([first, second], weights, out, shard_bytes=8)
    assert list(out.iterdir()) == []


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_other_architectures_are_refused(models, out):
    edit(models[1] / "config.json", lambda config: config.update(rms_norm_eps=1e-3))
    with pytest.raises(SoupError, match=r"architectures of .* differ \(config.json\): rms_norm_eps is 1e-05 and 0.001"):
        average(models[:2], [0.5, 0.5], out)


def test_the_rope_base_is_part_of_the_architecture(models, out):
    edit(models[1] / "config.json", lambda config: config["rope_parameters"].update(rope_theta=5.0))
    with pytest.raises(SoupError, match=r"rope_parameters\.rope_theta is 10000\.0 and 5\.0"):
        average(models[:2], [0.5, 0.5], out)


def test_where_a_model_came_from_does_not_matter(models, out):
    edit(models[1] / "config.json", lambda config: config.update(transformers_version="5.0", _name_or_path="x"))
    edit(models[1] / "tokenizer.json", lambda content: content.update(padding={"strategy": "BatchLongest"}))
    average(models[:2], [0.5, 0.5], out)


def test_other_tokenizers_and_chat_templates_are_refused(models, out):
    def swap(content):
        words = content["model"]["vocab"]
        words["w1"], words["w2"] = words["w2"], words["w1"]

    edit(models[1] / "tokenizer.json", swap)
    with pytest.raises(SoupError, match=r"tokenizers of .* differ \(tokenizer.json\): model\.vocab\.w1 is 4 and 5"):
        average(models[:2], [0.5, 0.5], out)
    (models[2] / "chat_template.jinja").write_text("{{ bos_token }}")
    with pytest.raises(SoupError, match="chat templates"):
        average([models[0], models[2]], [0.5, 0.5], out)
    (models[2] / "tokenizer.json").unlink()
    with pytest.raises(SoupError, match="only in the first"):
        average([models[0], models[2]], [0.5, 0.5], out)


def test_task_vectors_by_hand(tmp_path):
    base = toy(tmp_path / "base", w=torch.tensor([1.0, 1.0]), v=torch.tensor([[1.0]]), n=torch.tensor([7]))
    first = toy(tmp_path / "1", w=torch.tensor([4.0, 1.0]), v=torch.tensor([[5.0]]), n=torch.tensor([7]))
    second = toy(tmp_path / "2", w=torch.tensor([1.0, 3.0]), v=torch.tensor([[1.0]]), n=torch.tensor([7]))
    found = task_vectors(base, [first, second, first, base])
    assert found.norms == pytest.approx((5, 2, 5, 0))
    assert found.cosines[0][:3] == pytest.approx((1, 0, 1))
    assert found.cosines[3] == (None,) * 4
    assert found.distances[0] == pytest.approx((0, math.sqrt(29), 0, 5))


def test_the_soup_lies_on_the_line_between_its_ingredients(models, out):
    average(models[1:], [0.25, 0.75], out)
    found = task_vectors(models[0], [*models[1:], out])
    assert found.distances[0][2] == pytest.approx(0.75 * found.distances[0][1], rel=1e-5)
    assert found.distances[1][2] == pytest.approx(0.25 * found.distances[0][1], rel=1e-5)


def test_task_vectors_of_different_models_are_refused(models, tmp_path):
    with pytest.raises(SoupError, match="is a tensor of"):
        task_vectors(models[0], [toy(tmp_path / "toy", w=torch.zeros(1))])
