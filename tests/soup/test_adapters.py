"""The soup of LoRA models is one adapter, and equals merging each and averaging the models."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file, save_file

from salsa.models.adapters import SharedBase, merge
from salsa.models.factors import Adapter, Factors, read_adapter
from salsa.models.families import load_causal, load_tokenizer, save
from salsa.models.lora import LINEAR_LAYERS
from salsa.models.source import write_pointer
from salsa.soup.adapters import adapter_vectors, average_adapters, soup_of
from salsa.soup.average import SoupError, average, task_vectors
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


def test_geometry_is_that_of_the_full_models(folders, base, tmp_path):
    full = []
    for number, folder in enumerate(folders):
        full.append(tmp_path / f"full {number}")
        save(load_causal(folder), load_tokenizer(folder), full[-1])
    found, expected = adapter_vectors(folders), task_vectors(base, full)
    for field in ("norms", "cosines", "distances"):
        np.testing.assert_allclose(getattr(found, field), getattr(expected, field), rtol=1e-5, atol=1e-6)


def test_a_copy_is_at_no_distance(folders):
    assert adapter_vectors([folders[0], folders[0]]).distances[0][1] == 0.0


class TestRefusals:
    def test_another_base(self, base, folders, tmp_path):
        save(causal(seed=5), tokenizer(), tmp_path / "other")
        odd = adapter_folder(tmp_path / "odd", tmp_path / "other", causal(seed=5), 1, tokenizer())
        with pytest.raises(SoupError, match=r"are over different bases, .*base and .*other"):
            average_adapters([folders[0], odd], [0.5, 0.5], tmp_path / "soup", "../base")
        with pytest.raises(SoupError, match="are over different bases"):
            adapter_vectors([folders[0], odd])

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

    def test_a_reward_model(self, base, folders, tmp_path):
        view = SharedBase(causal()).load("reward", folders[0]).give_head(torch.ones(1, 16))
        save(view, tokenizer(), tmp_path / "reward", base="../base")
        with pytest.raises(SoupError, match="adapter of a reward model"):
            average_adapters([folders[0], tmp_path / "reward"], [0.5, 0.5], tmp_path / "soup", "../base")

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
