"""The soup of LoRA models is one adapter, and equals merging each and averaging the models."""

import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file, save_file

from salsa.models.adapters import SharedBase, merge
from salsa.models.factors import Adapter, Factors, read_adapter
from salsa.models.families import load_causal, load_scalar, load_tokenizer, save
from salsa.models.lora import LINEAR_LAYERS
from salsa.models.source import UnavailableModelError, write_pointer
from salsa.soup.adapters import average_adapters, blend_adapters, soup_of
from salsa.soup.average import average, combine
from salsa.soup.checkpoint import SoupError
from salsa.soup.recipes import liti, over_base, slerp, task_arithmetic, uniform
from tests.models.adapted import adapter_folder
from tests.models.tiny import ARCHITECTURES, causal, tokenizer

BASES = {family: causal(family).state_dict() for family in ARCHITECTURES}


def fresh(family="llama2"):
    model = causal(family)
    model.load_state_dict(BASES[family])
    return model


def random_adapter(family, seed, rank, alpha, targets):
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for name, weight in BASES[family].items():
        layer = name.removesuffix(".weight")
        if layer.rsplit(".", 1)[-1] in targets:
            out, width = weight.shape
            down, up = (torch.randn(shape, generator=generator) * 0.3 for shape in ((rank, width), (out, rank)))
            layers[layer] = Factors(down, up, alpha)
    return Adapter(layers, tuple(targets))


@st.composite
def recipes(draw):
    """A family, some adapters of any ranks, alphas and targets, and weights that sum to 1."""
    family = draw(st.sampled_from(sorted(ARCHITECTURES)))
    count = draw(st.integers(1, 4))
    targets = st.sets(st.sampled_from(LINEAR_LAYERS), min_size=1).map(sorted)
    alphas = st.floats(0.5, 32, width=32)
    adapters = [
        random_adapter(family, seed, draw(st.integers(1, 6)), draw(alphas), draw(targets)) for seed in range(count)
    ]
    free = [draw(st.floats(-2, 2, width=32)) for _ in range(count - 1)]
    return family, adapters, [*free, 1 - sum(free)]


@given(recipes())
@settings(deadline=None, max_examples=40)
def test_a_soup_equals_merging_and_averaging(recipe):
    family, adapters, weights = recipe
    average = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in BASES[family].items()}
    for adapter, weight in zip(adapters, weights, strict=True):
        for name, tensor in BASES[family].items():
            layer = adapter.layers.get(name.removesuffix(".weight"))
            change = 0.0 if layer is None else (layer.alpha / layer.rank) * layer.up.double() @ layer.down.double()
            average[name] += weight * (tensor.double() + change)
    soup = soup_of(adapters, weights)
    merged = merge(fresh(family), soup, "the soup").state_dict()
    for name, tensor in average.items():
        scale = max(1.0, tensor.abs().max().item())
        assert (merged[name].double() - tensor).abs().max().item() <= 1e-5 * scale
    view = SharedBase(fresh(family)).load("soup", soup)
    full = fresh(family)
    full.load_state_dict({name: tensor.float() for name, tensor in average.items()})
    ids = torch.tensor([[1, 5, 7, 3, 9]])
    expected = full(ids).logits
    # In single precision the way from weights to logits loses more than the soup does.
    scale = max(1.0, max(tensor.abs().max().item() for tensor in average.values())) * expected.abs().max().item()
    assert (view(input_ids=ids).logits - expected).abs().max().item() <= 1e-4 * scale


@given(st.lists(st.integers(1, 5), min_size=2, max_size=4))
@settings(deadline=None, max_examples=10)
def test_its_rank_is_the_sum_of_the_ranks(ranks):
    adapters = [random_adapter("llama2", seed, rank, 2.0, ["v_proj"]) for seed, rank in enumerate(ranks)]
    soup = soup_of(adapters, [1 / len(ranks)] * len(ranks))
    assert {factors.rank for factors in soup.layers.values()} == {sum(ranks)}
    assert {factors.alpha for factors in soup.layers.values()} == {sum(ranks)}


def test_it_is_not_the_average_of_the_factors():
    first, second = (random_adapter("llama2", seed, 3, 6.0, ["v_proj"]) for seed in (1, 2))
    soup = soup_of([first, second], [0.5, 0.5])
    for name, factors in soup.layers.items():
        one, two = first.layers[name], second.layers[name]
        naive = 2.0 * (one.up + two.up) / 2 @ (one.down + two.down) / 2
        assert (factors.change() - naive).abs().max() > 0.1


@pytest.fixture
def base(tmp_path):
    save(causal(), tokenizer(), tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def folders(base, tmp_path):
    """Ingredients of different ranks and alphas, and of different targets."""
    shapes = [{"rank": 2, "alpha": 4.0}, {"rank": 3, "alpha": 3.0, "targets": ["q_proj", "down_proj"]}]
    return [
        adapter_folder(tmp_path / f"sft {seed}", base, load_causal(base), seed, tokenizer(), **shape)
        for seed, shape in enumerate(shapes)
    ]


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.25, 0.75], [1.5, -0.5]])
def test_the_folder_of_a_soup_loads_as_the_average_of_the_full_models(folders, tmp_path, weights):
    average_adapters(folders, weights, tmp_path / "soup", "../base")
    full = []
    for number, folder in enumerate(folders):
        full.append(tmp_path / f"full {number}")
        save(load_causal(folder), load_tokenizer(folder), full[-1])
    average(full, weights, tmp_path / "average")
    expected = load_causal(tmp_path / "average").state_dict()
    for name, tensor in load_causal(tmp_path / "soup").state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0)
    assert load_tokenizer(tmp_path / "soup").chat_template == load_tokenizer(folders[0]).chat_template


def test_it_equals_what_peft_concatenates(folders, base, tmp_path):
    average_adapters(folders, [0.3, 0.7], tmp_path / "soup", "../base")
    model = PeftModel.from_pretrained(load_causal(base), str(folders[0]), adapter_name="one")
    model.load_adapter(str(folders[1]), adapter_name="two")
    model.add_weighted_adapter(["one", "two"], [0.3, 0.7], "soup", combination_type="cat")
    model.set_adapter("soup")
    ids = torch.tensor([[1, 5, 7, 3]])
    torch.testing.assert_close(load_causal(tmp_path / "soup")(ids).logits, model(input_ids=ids).logits)


def test_an_ingredient_without_weight_adds_no_rank(folders, tmp_path):
    average_adapters(folders, [1.0, 0.0], tmp_path / "soup", "../base")
    assert {factors.rank for factors in read_adapter(tmp_path / "soup").layers.values()} == {2}


def test_a_soup_of_soups_is_a_soup(folders, tmp_path):
    average_adapters(folders, [0.5, 0.5], tmp_path / "half", "../base")
    average_adapters([tmp_path / "half", folders[0]], [0.5, 0.5], tmp_path / "nested", "../base")
    average_adapters(folders, [0.75, 0.25], tmp_path / "direct", "../base")
    nested, direct = (load_causal(tmp_path / name).state_dict() for name in ("nested", "direct"))
    for name, tensor in direct.items():
        torch.testing.assert_close(nested[name], tensor, atol=1e-6, rtol=0)


def full_models(folders, tmp_path):
    """Write the models that adapters make of their base."""
    merged = []
    for number, folder in enumerate(folders):
        merged.append(tmp_path / f"full {number}")
        save(load_causal(folder), load_tokenizer(folder), merged[-1])
    return merged


class TestBlends:
    """Coefficients of their own for each layer."""

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_slerp_is_that_of_the_full_models(self, base, folders, tmp_path, count):
        third = adapter_folder(tmp_path / "sft 2", base, load_causal(base), 2, tokenizer(), rank=1, alpha=2.0)
        chosen = [*folders, third][:count]
        coefficients = slerp(base, chosen, 0.3)
        blend_adapters(chosen, lambda name: coefficients(name)[:-1], tmp_path / "soup", "../base")
        full = full_models(chosen, tmp_path)
        combine([*full, base], slerp(base, full, 0.3), tmp_path / "expected")
        expected = load_causal(tmp_path / "expected").state_dict()
        for name, tensor in load_causal(tmp_path / "soup").state_dict().items():
            torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0)
        assert slerp(None, chosen, 0.3)("model.layers.1.mlp.down_proj") == coefficients("model.layers.1.mlp.down_proj")

    def test_a_layer_that_one_leaves_alone_is_on_the_line(self, base, folders):
        coefficients = slerp(base, folders)
        assert coefficients("model.layers.0.self_attn.v_proj") == pytest.approx([0.5, 0.5, 0.0], abs=1e-12)
        assert sum(coefficients("model.layers.0.self_attn.q_proj")[:-1]) > 1.2

    @pytest.mark.parametrize("scales", [[0.6, 0.6], [1.5, -2.0], [0.0, 0.7]])
    def test_task_arithmetic_scales_the_changes(self, base, folders, tmp_path, scales):
        weights = task_arithmetic(scales)
        blend_adapters(folders, lambda name: weights[:-1], tmp_path / "soup", "../base")
        combine([*full_models(folders, tmp_path), base], lambda name: weights, tmp_path / "expected")
        expected = load_causal(tmp_path / "expected").state_dict()
        for name, tensor in load_causal(tmp_path / "soup").state_dict().items():
            torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0)

    def test_liti_ends_at_the_base_and_at_the_merge(self, base, folders, tmp_path):
        merge = over_base(uniform(2))
        for eta in (0.0, 0.5, 1.0):
            weights = liti(merge, eta)
            blend_adapters(folders, lambda name, weights=weights: weights[:-1], tmp_path / f"at {eta}", "../base")
        average_adapters(folders, uniform(2), tmp_path / "merge", "../base")
        whole, half, nothing = (load_causal(tmp_path / f"at {eta}").state_dict() for eta in (1.0, 0.5, 0.0))
        start, end = load_causal(base).state_dict(), load_causal(tmp_path / "merge").state_dict()
        for name, tensor in start.items():
            assert torch.equal(nothing[name], tensor)
            assert torch.equal(whole[name], end[name])
            torch.testing.assert_close(half[name], (tensor + end[name]) / 2, atol=1e-6, rtol=0)
        ids = torch.tensor([[1, 5, 7]])
        peft = PeftModel.from_pretrained(load_causal(base), str(tmp_path / "at 0.0"))
        assert torch.equal(peft(input_ids=ids).logits, load_causal(base)(ids).logits)

    def test_an_average_is_the_blend_with_the_same_coefficients_everywhere(self, folders, tmp_path):
        average_adapters(folders, [0.3, 0.7], tmp_path / "average", "../base")
        blend_adapters(folders, lambda name: [0.3, 0.7], tmp_path / "blend", "../base")
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            assert (tmp_path / "average" / name).read_bytes() == (tmp_path / "blend" / name).read_bytes()

    def test_each_layer_is_asked_for_by_its_name(self, folders, tmp_path):
        asked = []

        def only_the_first_block(name):
            asked.append(name)
            return [1.0, 0.0] if ".layers.0." in name else [0.0, 0.0]

        blend_adapters(folders, only_the_first_block, tmp_path / "soup", "../base")
        first, found = (read_adapter(folder).layers for folder in (folders[0], tmp_path / "soup"))
        assert set(asked) == set(first)
        assert set(found) == {name for name in first if ".layers.0." in name}
        assert all(torch.equal(found[name].change(), first[name].change()) for name in found)

    @pytest.mark.parametrize("given", [[0.5], [0.5, 0.25, 0.25], [0.5, float("nan")]])
    def test_coefficients_that_do_not_fit_are_refused(self, folders, tmp_path, given):
        with pytest.raises(SoupError, match=r"down_proj needs a finite coefficient for each of 2 adapters, got \["):
            blend_adapters(folders, lambda name: given, tmp_path / "soup", "../base")

    def test_full_models_are_not_blended_with_adapters(self, base, folders, tmp_path):
        with pytest.raises(SoupError, match="base holds no adapter; a soup is made of adapters only or of full"):
            blend_adapters([folders[0], base], lambda name: [0.5, 0.5], tmp_path / "soup", "../base")


class TestRewardModels:
    """WARM: reward models averaged, trunk and head."""

    @pytest.fixture
    def rewards(self, base, tmp_path):
        made = []
        for seed in range(3):
            folder = tmp_path / f"reward {seed}"
            start = adapter_folder(tmp_path / f"start {seed}", base, load_causal(base), seed, rank=2)
            head = torch.randn(1, 16, generator=torch.Generator().manual_seed(seed))
            save(SharedBase(load_causal(base)).load("reward", start).give_head(head), tokenizer(), folder, "../base")
            made.append(folder)
        return made

    @pytest.mark.parametrize("weights", [uniform(3), [0.5, 0.75, -0.25]])
    def test_the_soup_is_the_average_of_the_full_reward_models(self, rewards, tmp_path, weights):
        average_adapters(rewards, weights, tmp_path / "soup", "../base")
        full = []
        for number, folder in enumerate(rewards):
            full.append(tmp_path / f"full {number}")
            save(load_scalar(folder), load_tokenizer(folder), full[-1])
        average(full, weights, tmp_path / "average")
        found, expected = (load_scalar(tmp_path / name) for name in ("soup", "average"))
        for name, tensor in expected.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], tensor, atol=1e-5, rtol=0)

    def test_on_one_trunk_it_scores_with_the_mean_of_the_heads(self, base, tmp_path):
        start = adapter_folder(tmp_path / "start", base, load_causal(base), 0, rank=2)
        folders = []
        for seed in range(2):
            head = torch.randn(1, 16, generator=torch.Generator().manual_seed(seed))
            folders.append(tmp_path / f"reward {seed}")
            view = SharedBase(load_causal(base)).load("reward", start).give_head(head)
            save(view, tokenizer(), folders[-1], "../base")
        average_adapters(folders, uniform(2), tmp_path / "soup", "../base")
        ids = torch.tensor([[1, 5, 7, 3, 2]])
        one, two, soup = (load_scalar(folder)(ids).logits for folder in (*folders, tmp_path / "soup"))
        torch.testing.assert_close(soup, (one + two) / 2, atol=1e-5, rtol=1e-4)

    def test_of_copies_it_scores_as_the_model(self, rewards, tmp_path):
        average_adapters([rewards[0]] * 3, uniform(3), tmp_path / "soup", "../base")
        ids = torch.tensor([[1, 5, 7, 3, 2]])
        found, expected = (load_scalar(folder)(ids).logits for folder in (tmp_path / "soup", rewards[0]))
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)

    def test_slerp_turns_their_layers_and_averages_their_heads(self, base, rewards, tmp_path):
        coefficients = slerp(base, rewards)
        blend_adapters(rewards, lambda name: coefficients(name)[:-1], tmp_path / "soup", "../base")
        heads = [read_adapter(folder).head for folder in rewards]
        torch.testing.assert_close(read_adapter(tmp_path / "soup").head, sum(heads) / 3)

    def test_heads_have_no_base_to_make_up_for_a_sum_that_is_not_one(self, rewards, tmp_path):
        with pytest.raises(SoupError, match=r"heads of reward models must sum to 1, got .* \(sum 1\.8\)"):
            blend_adapters(rewards, lambda name: [0.6, 0.6, 0.6], tmp_path / "soup", "../base")

    def test_a_head_that_is_not_finite_is_named(self, rewards, tmp_path):
        path = rewards[1] / "adapter_model.safetensors"
        tensors = load_file(path)
        tensors["base_model.model.score.weight"][0, 0] = float("inf")
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(SoupError, match=r"the head in .*reward 1 holds NaN or infinity"):
            average_adapters(rewards, uniform(3), tmp_path / "soup", "../base")

    def test_a_language_model_among_them_is_refused(self, folders, rewards, tmp_path):
        with pytest.raises(SoupError, match="1 of 2 adapters are those of reward models"):
            average_adapters([folders[0], rewards[0]], [0.5, 0.5], tmp_path / "soup", "../base")


class TestRefusals:
    def test_another_base(self, base, folders, tmp_path):
        save(causal(seed=5), tokenizer(), tmp_path / "other")
        odd = adapter_folder(tmp_path / "odd", tmp_path / "other", causal(seed=5), 1, tokenizer())
        with pytest.raises(SoupError, match=r"are over different bases, .*base and .*other"):
            average_adapters([folders[0], odd], [0.5, 0.5], tmp_path / "soup", "../base")

    def test_a_base_on_the_hub_is_known_by_its_name(self, base, folders, tmp_path):
        """Published adapters name it so, and it need not be on this machine."""

        def rename(folder, name):
            path = folder / "adapter_config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": name}))

        expected, soup = tmp_path / "expected", tmp_path / "soup"
        average_adapters(folders, [0.5, 0.5], expected, "../base")
        rename(folders[0], "owner/model")
        with pytest.raises(SoupError, match=r"are over different bases, owner/model and .*base;"):
            average_adapters(folders, [0.5, 0.5], soup, "owner/model")
        rename(folders[1], "owner/model")
        average_adapters(folders, [0.5, 0.5], soup, "owner/model")
        weights = "adapter_model.safetensors"
        assert (soup / weights).read_bytes() == (expected / weights).read_bytes()
        assert json.loads((soup / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/model"

    def test_a_base_that_is_gone_is_an_error(self, folders, tmp_path):
        path = folders[1] / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "../gone"}))
        with pytest.raises(UnavailableModelError, match=r"there is no base model .*gone"):
            average_adapters(folders, [0.5, 0.5], tmp_path / "soup", "../base")

    def test_a_copy_of_the_base_at_another_place_is_the_same_base(self, base, folders, tmp_path):
        write_pointer(tmp_path / "pointer", str(base))
        odd = adapter_folder(tmp_path / "odd", tmp_path / "pointer", causal(), 1, tokenizer())
        average_adapters([folders[0], odd], [0.5, 0.5], tmp_path / "soup", "../base")
        assert load_causal(tmp_path / "soup").num_parameters() == causal().num_parameters()

    def test_another_tokenizer(self, base, folders, tmp_path):
        odd = adapter_folder(tmp_path / "odd", base, causal(), 1, tokenizer(words=11))
        with pytest.raises(SoupError, match="tokenizers of"):
            average_adapters([folders[0], odd], [0.5, 0.5], tmp_path / "soup", "../base")

    def test_weights_that_do_not_sum_to_one(self, folders, tmp_path):
        with pytest.raises(SoupError, match="must sum to 1"):
            average_adapters(folders, [0.5, 0.6], tmp_path / "soup", "../base")

    def test_factors_that_are_not_finite(self, folders, tmp_path):
        path = folders[1] / "adapter_model.safetensors"
        tensors = load_file(path)
        next(iter(tensors.values()))[0, 0] = float("nan")
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(SoupError, match=r"sft 1 hold NaN or infinity"):
            average_adapters(folders, [0.5, 0.5], tmp_path / "soup", "../base")

    def test_layers_of_different_sizes(self):
        one, two = (Adapter({"x": Factors(torch.ones(1, n), torch.ones(2, 1), 1.0)}, ("x",)) for n in (3, 4))
        with pytest.raises(SoupError, match="the layer x has different sizes"):
            soup_of([one, two], [0.5, 0.5])


def test_layers_that_only_some_adapt_are_named_in_full(folders, tmp_path):
    average_adapters(folders, [0.5, 0.5], tmp_path / "soup", "../base")
    written = json.loads((tmp_path / "soup" / "adapter_config.json").read_text())
    both = {
        f"model.layers.{layer}.{name}"
        for layer, name in itertools.product((0, 1), ("self_attn.q_proj", "mlp.down_proj"))
    }
    assert written["r"] == 2
    assert written["rank_pattern"] == dict.fromkeys(both, 5)
    assert len(written["target_modules"]) == 2 * len(LINEAR_LAYERS)
