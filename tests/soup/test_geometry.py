"""Norms, angles and distances of models around their base, by hand and against NumPy on whole vectors."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.models.families import load_causal, load_tokenizer, save
from salsa.models.source import write_pointer
from salsa.soup import checkpoint
from salsa.soup.average import average
from salsa.soup.checkpoint import SoupError
from salsa.soup.geometry import (
    TOTAL,
    adapter_vectors,
    gram,
    grams,
    layer_name,
    layers,
    measured,
    task_vectors,
)
from tests.models.adapted import adapter_folder
from tests.models.tiny import ARCHITECTURES, causal, tokenizer
from tests.soup.toys import toy


def vector_of(model, wanted=lambda name: True):
    parts = [tensor.double().flatten() for name, tensor in model.state_dict().items() if wanted(name)]
    return torch.cat(parts).numpy()


@pytest.fixture
def models(tmp_path):
    folders = []
    for seed in range(3):
        folder = tmp_path / f"model {seed}"
        save(causal("mistral", seed=seed), tokenizer(), folder)
        folders.append(folder)
    return folders


def test_task_vectors_by_hand(tmp_path):
    base = toy(tmp_path / "base", w=[1.0, 1.0], v=[[1.0]], n=[7])
    first = toy(tmp_path / "1", w=[4.0, 1.0], v=[[5.0]], n=[7])
    second = toy(tmp_path / "2", w=[1.0, 3.0], v=[[1.0]], n=[7])
    found = task_vectors(base, [first, second, first, base])
    assert found.norms == pytest.approx((5, 2, 5, 0))
    assert found.cosines[0][:3] == pytest.approx((1, 0, 1))
    assert found.cosines[3] == (None,) * 4
    assert found.distances[0] == pytest.approx((0, math.sqrt(29), 0, 5))
    assert all(type(value) is float for value in (*found.norms, *found.distances[0]))


@given(
    table=st.lists(st.lists(st.floats(-4, 4, width=16), min_size=3, max_size=3), min_size=1, max_size=5),
    cut=st.integers(0, 3),
)
def test_parts_of_any_size_give_the_geometry_of_the_whole(table, cut):
    vectors = np.array(table)
    found = measured(len(table), [vectors[:, :cut], vectors[:, cut:]])
    norms = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(found.norms, norms, atol=1e-12)
    differences = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    np.testing.assert_allclose(found.distances, differences, atol=1e-12)
    for i, j in np.ndindex(len(table), len(table)):
        if norms[i] * norms[j]:
            assert found.cosines[i][j] == pytest.approx(vectors[i] @ vectors[j] / (norms[i] * norms[j]), abs=1e-9)
        else:
            assert found.cosines[i][j] is None


def test_large_tensors_in_pieces_are_measured_as_a_whole(models, monkeypatch):
    whole = layers(models[0], models)
    monkeypatch.setattr(checkpoint.Checkpoint.pieces, "__defaults__", (7,))
    for name, vectors in layers(models[0], models).items():
        for field in ("norms", "distances"):
            np.testing.assert_allclose(getattr(vectors, field), getattr(whole[name], field), rtol=1e-12)


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_layers_come_in_the_models_order_and_add_up_to_the_whole(family, tmp_path):
    folders = []
    for seed in range(3):
        save(causal(family, seed=seed, layers=11), tokenizer(), tmp_path / str(seed))
        folders.append(tmp_path / str(seed))
    found = layers(folders[0], folders[1:])
    head = [] if ARCHITECTURES[family].tie_embeddings else ["lm_head"]
    assert list(found) == ["embed_tokens", *(f"layers.{index}" for index in range(11)), "norm", *head, TOTAL]
    base, first, second = (load_causal(folder) for folder in folders)
    block = [vector_of(model, lambda name: name.startswith("model.layers.10.")) for model in (base, first, second)]
    one, two = block[1] - block[0], block[2] - block[0]
    assert found["layers.10"].norms == pytest.approx((np.linalg.norm(one), np.linalg.norm(two)))
    assert found["layers.10"].distances[0][1] == pytest.approx(np.linalg.norm(one - two))
    cosine = one @ two / (np.linalg.norm(one) * np.linalg.norm(two))
    assert found["layers.10"].cosines[0][1] == pytest.approx(cosine)
    whole = task_vectors(folders[0], folders[1:])
    assert found[TOTAL].norms == pytest.approx(whole.norms, rel=1e-12)
    squares = sum(vectors.norms[0] ** 2 for name, vectors in found.items() if name != TOTAL)
    assert squares == pytest.approx(whole.norms[0] ** 2)


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("model.embed_tokens.weight", "embed_tokens"),
        ("model.layers.12.self_attn.q_proj.weight", "layers.12"),
        ("model.language_model.layers.3.mlp.experts.7.up_proj.weight", "language_model.layers.3"),
        ("transformer.h.0.attn.c_attn.bias", "h.0"),
        ("model.norm.weight", "norm"),
        ("lm_head.weight", "lm_head"),
        ("score.weight", "score"),
        ("base_model.model.layers.1.self_attn.q_proj", "layers.1"),
        ("model.layers.1.self_attn.q_proj", "layers.1"),
        ("w", "w"),
        ("model", "model"),
    ],
)
def test_the_layer_of_a_tensor(tensor, layer):
    assert layer_name(tensor) == layer


def test_embeddings_come_first_and_heads_last(tmp_path):
    names = ["lm_head__weight", "transformer__h__2__w", "transformer__h__10__w", "transformer__ln_f__weight"]
    folder = toy(tmp_path / "m", transformer__wte__weight=[1.0], score__weight=[1.0], **{name: [1.0] for name in names})
    assert list(layers(folder, [folder])) == ["wte", "h.2", "h.10", "ln_f", "lm_head", "score", TOTAL]


def test_copies_are_at_distance_zero_whatever_their_size(tmp_path):
    """The stage that makes soups relies on it: an equal model has no distance at all, not a small one."""
    generator = torch.Generator().manual_seed(0)
    base, model = ({"w": torch.randn(70_001, generator=generator) * 1e4} for _ in range(2))
    folders = [toy(tmp_path / name, **tensors) for name, tensors in [("b", base), ("1", model), ("2", model)]]
    assert task_vectors(folders[0], folders[1:]).distances == ((0.0, 0.0), (0.0, 0.0))


def test_a_small_distance_is_not_drowned_by_a_large_norm(tmp_path):
    """Taken from inner products of size 1e8, a squared distance of 1e-12 would be rounding."""
    base = toy(tmp_path / "base", w=torch.zeros(4, dtype=torch.float64))
    first = torch.full((4,), 1e4, dtype=torch.float64)
    second = first.clone()
    second[0] += 1e-6
    folders = [toy(tmp_path / "1", w=first), toy(tmp_path / "2", w=second)]
    assert task_vectors(base, folders).distances[0][1] == pytest.approx(1e-6, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_base_may_have_another_number_format(tmp_path, dtype):
    base = torch.randn(50, generator=torch.Generator().manual_seed(0)).to(dtype)
    model = base.float() + 1e-5
    folders = [toy(tmp_path / "base", w=base), toy(tmp_path / "model", w=model)]
    expected = (model.double() - base.double()).norm().item()
    assert task_vectors(folders[0], folders[1:]).norms[0] == pytest.approx(expected, rel=1e-12)


def test_the_soup_lies_on_the_line_between_its_ingredients(models, tmp_path):
    average(models[1:], [0.25, 0.75], tmp_path / "soup")
    found = task_vectors(models[0], [*models[1:], tmp_path / "soup"])
    assert found.distances[0][2] == pytest.approx(0.75 * found.distances[0][1], rel=1e-5)
    assert found.distances[1][2] == pytest.approx(0.25 * found.distances[0][1], rel=1e-5)


def test_inner_products_are_those_of_whole_vectors(models):
    vectors = [vector_of(load_causal(folder)) for folder in models]
    steps = np.stack(vectors[1:]) - vectors[0]
    np.testing.assert_allclose(gram(models[0], models[1:]), steps @ steps.T, rtol=1e-10)
    by_tensor = dict(grams(models[0], models[1:]))
    assert len(by_tensor) == len(load_causal(models[0]).state_dict())
    np.testing.assert_allclose(sum(by_tensor.values()), steps @ steps.T, rtol=1e-10)


@pytest.mark.parametrize("measure", [layers, lambda *given, progress: list(grams(*given, progress))])
def test_progress_goes_from_nothing_to_all_bytes(models, measure):
    told = []
    measure(models[0], models[1:], progress=lambda done, total: told.append((done, total)))
    total = sum(parameter.nbytes for parameter in load_causal(models[0]).parameters()) * 3
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (total, total)


def test_a_pointer_stands_for_its_model(models, tmp_path):
    write_pointer(tmp_path / "pointer", str(models[1]))
    assert task_vectors(models[0], [tmp_path / "pointer"]) == task_vectors(models[0], [models[1]])


@pytest.mark.parametrize("measure", [task_vectors, layers, gram])
def test_different_models_are_refused(models, tmp_path, measure):
    with pytest.raises(SoupError, match="is a tensor of"):
        measure(models[0], [toy(tmp_path / "toy", w=[0.0])])
    with pytest.raises(SoupError, match=r"tensor w has shape \[2\] in .*one and \[3\]"):
        measure(toy(tmp_path / "one", w=torch.zeros(2)), [toy(tmp_path / "two", w=torch.zeros(3))])


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("holder", ["base", "1", "2"])
def test_a_tensor_that_is_not_finite_is_named(tmp_path, broken, holder):
    values = {name: torch.tensor([0.0, broken if name == holder else 1.0]) for name in ("base", "1", "2")}
    base, *folders = (toy(tmp_path / name, v=torch.zeros(1), w=value) for name, value in values.items())
    with pytest.raises(SoupError, match=rf"the tensor w of .*{holder} holds NaN or infinity"):
        task_vectors(base, folders)


class TestAdapters:
    @pytest.fixture
    def base(self, tmp_path):
        save(causal(), tokenizer(), tmp_path / "base")
        return tmp_path / "base"

    @pytest.fixture
    def folders(self, base, tmp_path):
        shapes = [{"rank": 2, "alpha": 4.0}, {"rank": 3, "alpha": 3.0, "targets": ["q_proj", "down_proj"]}]
        return [
            adapter_folder(tmp_path / f"sft {seed}", base, load_causal(base), seed, tokenizer(), **shape)
            for seed, shape in enumerate(shapes)
        ]

    @pytest.fixture
    def full(self, folders, tmp_path):
        merged = []
        for number, folder in enumerate(folders):
            merged.append(tmp_path / f"full {number}")
            save(load_causal(folder), load_tokenizer(folder), merged[-1])
        return merged

    def test_they_are_measured_as_the_merged_models(self, base, folders, full):
        found, expected = adapter_vectors(folders), task_vectors(base, full)
        for field in ("norms", "cosines", "distances"):
            np.testing.assert_allclose(getattr(found, field), getattr(expected, field), rtol=1e-5, atol=1e-6)
        assert task_vectors(base, folders) == found
        by_layer, expected_by_layer = layers(base, folders), layers(base, full)
        assert list(by_layer) == ["layers.0", "layers.1", TOTAL]
        for name, vectors in by_layer.items():
            np.testing.assert_allclose(vectors.norms, expected_by_layer[name].norms, rtol=1e-5)

    def test_inner_products_from_the_base_or_from_one_of_them(self, base, folders, full):
        np.testing.assert_allclose(gram(base, folders), gram(base, full), rtol=1e-4, atol=1e-5)
        found = gram(folders[0], [folders[1], base, folders[0]])
        np.testing.assert_allclose(found, gram(full[0], [full[1], base, full[0]]), rtol=1e-4, atol=1e-5)
        assert found[2].tolist() == [0.0] * 3

    def test_rows_in_pieces(self, folders, monkeypatch):
        whole = adapter_vectors(folders)
        monkeypatch.setattr("salsa.soup.adapters.PIECE", 30)
        np.testing.assert_allclose(adapter_vectors(folders).distances, whole.distances, rtol=1e-12)

    def test_a_copy_is_at_no_distance(self, folders):
        assert adapter_vectors([folders[0], folders[0]]).distances[0][1] == 0.0

    def test_a_copy_of_the_base_is_the_base(self, base, folders, tmp_path):
        save(causal(), tokenizer(), tmp_path / "copy")
        np.testing.assert_array_equal(gram(tmp_path / "copy", folders), gram(base, folders))

    def test_another_base_is_refused(self, base, folders, tmp_path):
        save(causal(seed=5), tokenizer(), tmp_path / "other")
        odd = adapter_folder(tmp_path / "odd", tmp_path / "other", causal(seed=5), 1, tokenizer())
        with pytest.raises(SoupError, match=r"sft 0 and .*odd are over different bases, .*base and .*other"):
            adapter_vectors([folders[0], odd])
        with pytest.raises(SoupError, match=r"are over different bases, .*other and .*base"):
            gram(tmp_path / "other", folders)


@settings(max_examples=20, deadline=None)
@given(alpha=st.floats(-1, 2), seed=st.integers(0, 50))
def test_a_point_on_a_line_is_found_by_its_inner_products(tmp_path_factory, alpha, seed):
    """With the origin at one model, <p - a, b - a> / |b - a|^2 is the place of p = a + alpha (b - a)."""
    folder = tmp_path_factory.mktemp("line")
    generator = torch.Generator().manual_seed(seed)
    one, two = (torch.randn(20, generator=generator, dtype=torch.float64) for _ in range(2))
    point = one + alpha * (two - one)
    folders = [toy(folder / name, w=tensor) for name, tensor in [("1", one), ("2", two), ("p", point)]]
    found = gram(folders[0], folders[1:])
    assert found[1, 0] / found[0, 0] == pytest.approx(alpha, abs=1e-9)
    assert found[1, 1] == pytest.approx(alpha**2 * found[0, 0], abs=1e-9)


def test_full_models_are_measured_without_torch(models):
    program = (
        "import sys; from pathlib import Path; from salsa.soup.geometry import layers; "
        f"layers(Path({str(models[0])!r}), [Path({str(models[1])!r})]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
