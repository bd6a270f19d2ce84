"""Recipes as coefficients, by closed forms, and as the models that they make of small checkpoints."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.models.families import load_causal, load_scalar, save
from salsa.models.heads import reward_from_causal
from salsa.soup.average import average, combine
from salsa.soup.checkpoint import SoupError
from salsa.soup.recipes import arc, line, liti, over_base, slerp, task_arithmetic, uniform, weighted
from tests.models.tiny import ARCHITECTURES, causal, tokenizer
from tests.soup.toys import toy, weights_of

NUMBERS = st.floats(-3, 3, width=32)
SHARES = st.floats(0, 1, width=32)
# On a grid, so that vectors are either parallel or not nearly so.
VECTOR = st.lists(st.integers(-12, 12).map(lambda number: number / 4), min_size=4, max_size=4)


def turned(vectors, share=0.5):
    """The spherical interpolation of vectors, by the coefficients that their inner products give."""
    table = np.array(vectors, dtype=float)
    return np.array(arc((table @ table.T).tolist(), share)) @ table


def published(vectors, share=0.5):
    """The paper's formula on the vectors themselves, merged one after the other."""
    first, *rest = (np.array(vector, dtype=float) for vector in vectors)
    for number, second in enumerate(rest, start=2):
        part = share if number == 2 else 1 / number
        norms = np.linalg.norm(first) * np.linalg.norm(second)
        angle = math.acos(np.clip(first @ second / norms, -1, 1)) if norms else 0.0
        if math.sin(angle) < 1e-6:
            first = (1 - part) * first + part * second
        else:
            first = (math.sin((1 - part) * angle) * first + math.sin(part * angle) * second) / math.sin(angle)
    return first


class TestWeights:
    @given(NUMBERS)
    def test_the_line_is_the_same_from_both_ends(self, alpha):
        """T2.2: soup(alpha; 1, 2) = soup(1 - alpha; 2, 1)."""
        assert line(alpha) == pytest.approx(line(1 - alpha)[::-1])
        assert sum(line(alpha)) == pytest.approx(1)

    def test_the_ends_of_the_line_are_its_ingredients(self):
        assert line(0) == [1.0, 0.0]
        assert line(1) == [0.0, 1.0]

    @given(st.integers(1, 20))
    def test_uniform_weights_are_equal_and_sum_to_one(self, count):
        assert len(set(uniform(count))) == 1
        assert sum(uniform(count)) == pytest.approx(1)

    @given(st.lists(NUMBERS, max_size=4))
    def test_weights_pass_as_they_are_if_they_sum_to_one(self, free):
        weights = [*free, 1 - math.fsum(free)]
        assert weighted(weights) == weights

    def test_any_sum_is_taken_if_it_is_asked_for(self):
        assert weighted([1.5, 1], any_sum=True) == [1.5, 1.0]
        with pytest.raises(SoupError, match=r"weights=\[1\.5, 1\]: they must sum to 1, and sum to 2\.5"):
            weighted([1.5, 1])

    @given(st.lists(NUMBERS, min_size=1, max_size=4))
    def test_task_arithmetic_adds_scaled_task_vectors(self, scales):
        base, *models = np.random.default_rng(0).normal(size=(len(scales) + 1, 5))
        merge = np.array(task_arithmetic(scales)) @ np.stack([*models, base])
        expected = base + sum(scale * (model - base) for scale, model in zip(scales, models, strict=True))
        np.testing.assert_allclose(merge, expected, atol=1e-12)

    def test_task_arithmetic_of_scales_that_sum_to_one_needs_no_base(self):
        assert task_arithmetic([0.25, 0.75]) == over_base(weighted([0.25, 0.75]))
        assert task_arithmetic([0, 0]) == [0.0, 0.0, 1.0]

    @given(st.lists(NUMBERS, min_size=1, max_size=4), NUMBERS)
    def test_liti_is_the_line_from_the_base_to_the_merge(self, scales, eta):
        merge = task_arithmetic(scales)
        found = liti(merge, eta)
        base = [0.0] * len(scales) + [1.0]
        np.testing.assert_allclose(found, (1 - eta) * np.array(base) + eta * np.array(merge), atol=1e-12)
        np.testing.assert_allclose(found, task_arithmetic([eta * scale for scale in scales]), atol=1e-12)
        assert liti(merge, 1) == merge
        assert liti(merge, 0) == base

    @given(SHARES, SHARES)
    def test_liti_twice_is_liti_once(self, first, second):
        merge = over_base(uniform(3))
        np.testing.assert_allclose(liti(liti(merge, first), second), liti(merge, first * second), atol=1e-12)

    def test_liti_of_coefficients_by_tensor_is_taken_in_each(self):
        found = liti({"a": [1.0, 0.0], "b": [0.5, 0.5]}.__getitem__, 0.5)
        assert (found("a"), found("b")) == ([0.5, 0.5], [0.25, 0.75])

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_numbers_that_are_not_finite_are_refused_by_name(self, value):
        for name, recipe in [
            ("alpha", lambda: line(value)),
            ("weights", lambda: weighted([value, 1.0])),
            ("scales", lambda: task_arithmetic([value])),
            ("eta", lambda: liti([0.5, 0.5, 0.0], value)),
        ]:
            with pytest.raises(SoupError, match=rf"^{name}=\[.*{value}.*\]: give finite numbers"):
                recipe()

    def test_no_model_no_soup(self):
        for recipe in (lambda: uniform(0), lambda: weighted([]), lambda: task_arithmetic([])):
            with pytest.raises(SoupError, match="a soup needs a model"):
                recipe()


class TestArc:
    """Slerp by the inner products of task vectors."""

    @given(VECTOR, VECTOR, SHARES)
    def test_it_is_the_published_formula(self, first, second, share):
        np.testing.assert_allclose(turned([first, second], share), published([first, second], share), atol=1e-9)

    @given(st.integers(3, 6), st.integers(0, 1000), SHARES)
    def test_many_models_are_merged_one_after_the_other(self, count, seed, share):
        vectors = np.random.default_rng(seed).normal(size=(count, 8))
        np.testing.assert_allclose(turned(vectors, share), published(vectors, share), atol=1e-9)

    @given(VECTOR, VECTOR)
    def test_its_ends_are_the_ingredients(self, first, second):
        table = np.array([first, second])
        gram = (table @ table.T).tolist()
        assert arc(gram, 0.0) == [1.0, 0.0]
        assert arc(gram, 1.0) == [0.0, 1.0]

    @given(st.floats(1e-3, math.pi - 1e-3), SHARES, st.floats(0.1, 10))
    def test_of_equal_norms_it_keeps_the_norm_and_turns_evenly(self, angle, share, norm):
        first, second = np.array([norm, 0.0]), norm * np.array([math.cos(angle), math.sin(angle)])
        found = turned([first, second], share)
        expected = norm * np.array([math.cos(share * angle), math.sin(share * angle)])
        np.testing.assert_allclose(found, expected, atol=1e-6 * norm)

    def test_at_a_right_angle_the_line_would_shrink_to_707(self):
        found = turned([[3.0, 0.0], [0.0, 3.0]])
        assert np.linalg.norm(found) == pytest.approx(3)
        straight = np.array(line(0.5)) @ np.array([[3.0, 0.0], [0.0, 3.0]])
        assert np.linalg.norm(straight) == pytest.approx(3 * math.sqrt(0.5))

    @given(VECTOR, SHARES)
    def test_of_a_vector_with_itself_it_is_that_vector(self, vector, share):
        np.testing.assert_allclose(turned([vector, vector], share), vector, atol=1e-9)

    @pytest.mark.parametrize(
        "vectors",
        [
            [[1.0, 2.0], [0.0, 0.0]],
            [[0.0, 0.0], [1.0, 2.0]],
            [[0.0, 0.0], [0.0, 0.0]],
            [[1.0, 2.0], [-1.0, -2.0]],
            [[1.0, 0.0], [1.0, 1e-7]],
            [[1.0, 0.0], [-1.0, 1e-7]],
        ],
    )
    def test_where_there_is_no_angle_it_is_the_line(self, vectors):
        table = np.array(vectors)
        assert arc((table @ table.T).tolist(), 0.3) == pytest.approx([0.7, 0.3], abs=1e-12)

    @given(VECTOR, VECTOR, SHARES, st.floats(0.01, 100))
    def test_scale_and_order_do_not_matter(self, first, second, share, scale):
        pair = np.array([first, second])
        found = turned(pair, share)
        np.testing.assert_allclose(turned(pair[::-1], 1 - share), found, atol=1e-9)
        np.testing.assert_allclose(turned(scale * pair, share), scale * found, atol=scale * 1e-9)

    def test_the_third_model_goes_into_the_merge_of_the_first_two_with_a_third(self):
        found = arc(np.eye(3).tolist(), 0.5)
        inner, outer = math.sqrt(0.5), (math.sin(math.pi / 3), math.sin(math.pi / 6))
        assert found == pytest.approx([outer[0] * inner, outer[0] * inner, outer[1]])

    @given(st.integers(1, 6))
    def test_many_copies_are_one_model(self, count):
        assert arc([[2.0] * count] * count, 0.5) == pytest.approx([1 / count] * count)

    @given(VECTOR.filter(any), st.integers(1, 7), st.floats(0.01, 1))
    def test_a_merge_that_cancels_has_no_direction(self, vector, times, scale):
        """Of d and -n d, merged to zero, only rounding is left, and its angle to a third vector means nothing."""
        d = scale * np.array(vector)
        table = np.stack([d, -times * d, [0.1, 0.7, -0.3, 0.2]])
        share = 1 / (times + 1)
        found = arc((table @ table.T).tolist(), share)
        assert found == pytest.approx([2 / 3 * (1 - share), 2 / 3 * share, 1 / 3])


@pytest.fixture
def folders(tmp_path):
    """A base and three models of it, in that order."""
    made = []
    for seed in range(4):
        save(causal("mistral", seed=seed), tokenizer(), tmp_path / f"model {seed}")
        made.append(tmp_path / f"model {seed}")
    return made


class TestModels:
    """Recipes on checkpoints."""

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
    def test_slerp_turns_each_tensor_by_its_own_angle(self, folders, tmp_path, share):
        base, *models = folders[:3]
        combine([*models, base], slerp(base, models, share), tmp_path / "soup")
        origin, first, second = (weights_of(folder) for folder in (base, *models))
        soup = weights_of(tmp_path / "soup")
        for name, centre in origin.items():
            steps = [(model[name].double() - centre.double()).flatten().numpy() for model in (first, second)]
            expected = centre.double().flatten().numpy() + published(steps, share)
            np.testing.assert_allclose(soup[name].flatten().numpy(), expected, atol=1e-6)
        if share in (0.0, 1.0):
            for name, tensor in (first if share == 0 else second).items():
                assert torch.equal(soup[name], tensor)

    def test_one_angle_for_all_tensors_would_keep_the_norm_of_none(self, tmp_path):
        base = toy(tmp_path / "base", flat=torch.zeros(2), steep=torch.zeros(2))
        one = toy(tmp_path / "1", flat=[1.0, 0.0], steep=[1.0, 0.0])
        two = toy(tmp_path / "2", flat=[1.0, 0.0], steep=[0.0, 1.0])
        coefficients = slerp(base, [one, two])
        assert coefficients("flat") == pytest.approx([0.5, 0.5, 0.0], abs=1e-12)
        assert coefficients("steep") == pytest.approx([math.sqrt(0.5), math.sqrt(0.5), 1 - math.sqrt(2)])
        combine([one, two, base], coefficients, tmp_path / "soup")
        for tensor in weights_of(tmp_path / "soup").values():
            assert tensor.norm().item() == pytest.approx(1)

    def test_slerp_of_three_models(self, folders, tmp_path):
        base, *models = folders
        combine([*models, base], slerp(base, models), tmp_path / "soup")
        origin, *others = (weights_of(folder) for folder in folders)
        for name, tensor in weights_of(tmp_path / "soup").items():
            steps = [(model[name].double() - origin[name].double()).flatten().numpy() for model in others]
            expected = origin[name].double().flatten().numpy() + published(steps)
            np.testing.assert_allclose(tensor.flatten().numpy(), expected, atol=1e-6)

    def test_slerp_of_one_model_or_of_copies_is_the_model(self, folders, tmp_path):
        base, model = folders[:2]
        for count in (1, 2, 3):
            copies = [model] * count
            combine([*copies, base], slerp(base, copies), tmp_path / str(count))
            for name, tensor in weights_of(tmp_path / str(count)).items():
                torch.testing.assert_close(tensor, weights_of(model)[name], rtol=1e-6, atol=1e-7)

    def test_what_is_not_trained_stays_and_whole_numbers_are_copied(self, tmp_path):
        shared = torch.tensor([0.1, 0.2])
        tensors = [{"w": torch.randn(3, generator=torch.Generator().manual_seed(seed))} for seed in range(3)]
        base, *models = (
            toy(tmp_path / str(seed), n=torch.tensor([3]), v=shared, **made) for seed, made in enumerate(tensors)
        )
        combine([*models, base], slerp(base, models), tmp_path / "soup")
        soup = weights_of(tmp_path / "soup")
        assert torch.equal(soup["v"], shared)
        assert soup["n"].tolist() == [3]

    def test_the_base_may_be_in_half_precision(self, tmp_path):
        base = torch.randn(8, generator=torch.Generator().manual_seed(0)).half()
        steps = [torch.randn(8, generator=torch.Generator().manual_seed(seed)) * 1e-3 for seed in (1, 2)]
        models = [toy(tmp_path / str(i), w=base.float() + step) for i, step in enumerate(steps)]
        origin = toy(tmp_path / "base", w=base)
        combine([*models, origin], slerp(origin, models), tmp_path / "soup")
        found = weights_of(tmp_path / "soup")["w"]
        exact = [(weights_of(model)["w"].double() - base.double()).numpy() for model in models]
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), base.double().numpy() + published(exact), atol=1e-7)

    @pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
    def test_liti_of_slerp_goes_from_the_base_to_the_merge(self, folders, tmp_path, eta):
        base, *models = folders[:3]
        merge = slerp(base, models)
        combine([*models, base], merge, tmp_path / "merge")
        combine([*models, base], liti(merge, eta), tmp_path / "soup")
        origin, end, soup = (weights_of(folder) for folder in (base, tmp_path / "merge", tmp_path / "soup"))
        for name, tensor in soup.items():
            torch.testing.assert_close(tensor, (1 - eta) * origin[name] + eta * end[name], atol=1e-6, rtol=0)
            if eta == 0:
                assert torch.equal(tensor, origin[name])

    def test_task_arithmetic_adds_and_forgets(self, folders, tmp_path):
        base, *models = folders[:3]
        scales = task_arithmetic([0.5, -1.0])
        combine([*models, base], lambda name: scales, tmp_path / "soup")
        origin, first, second = (weights_of(folder) for folder in (base, *models))
        for name, tensor in weights_of(tmp_path / "soup").items():
            expected = origin[name] + 0.5 * (first[name] - origin[name]) - (second[name] - origin[name])
            torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
    def test_the_line_as_weights_and_as_coefficients_is_one_model(self, folders, tmp_path, alpha):
        average(folders[:2], line(alpha), tmp_path / "average")
        average(folders[1::-1], line(alpha)[::-1], tmp_path / "swapped")
        combine(folders[:2], lambda name: line(alpha), tmp_path / "combined")
        found = [weights_of(tmp_path / name) for name in ("average", "swapped", "combined")]
        for name, tensor in found[0].items():
            assert torch.equal(tensor, found[1][name])
            assert torch.equal(tensor, found[2][name])

    def test_the_order_of_a_uniform_soup_does_not_matter(self, folders, tmp_path):
        soups = []
        for number, order in enumerate(itertools.permutations(folders[:3])):
            average(order, uniform(3), tmp_path / str(number))
            soups.append((tmp_path / str(number) / "model.safetensors").read_bytes())
        assert len(set(soups)) == 1

    def test_models_that_do_not_fit_are_refused_before_anything_is_written(self, folders, tmp_path):
        with pytest.raises(SoupError, match="is a tensor of"):
            slerp(folders[0], [folders[1], toy(tmp_path / "toy", w=[0.0])])
        with pytest.raises(SoupError, match=r"the tensor w of .*odd holds NaN"):
            slerp(toy(tmp_path / "base", w=[1.0]), [toy(tmp_path / "odd", w=[math.nan])])
        with pytest.raises(SoupError, match="a soup needs a model"):
            slerp(folders[0], [])
        with pytest.raises(SoupError, match="share="):
            slerp(folders[0], folders[1:], math.nan)
        with pytest.raises(SoupError, match="does not name its base"):
            slerp(None, folders[1:])

    def test_progress_tells_the_bytes_that_are_read(self, folders):
        told = []
        slerp(folders[0], folders[1:], progress=lambda done, total: told.append((done, total)))
        assert told[-1][0] == told[-1][1] > 0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 100), weight=SHARES, beta=st.floats(0.1, 3))
def test_a_rewarded_soup_is_the_optimum_of_the_mixed_reward(tmp_path_factory, seed, weight, beta):
    """For log-linear policies: pi_i prop. to pi_ref exp(r_i / beta) mix to pi_ref exp(sum_i w_i r_i / beta)."""
    folder = tmp_path_factory.mktemp("rewarded")
    generator = torch.Generator().manual_seed(seed)
    reference, *rewards = (torch.randn(5, 6, generator=generator, dtype=torch.float64) for _ in range(3))
    features = torch.eye(5, dtype=torch.float64)
    models = [toy(folder / str(i), w=reference + reward / beta) for i, reward in enumerate(rewards)]
    weights = weighted([weight, 1 - weight])
    average(models, weights, folder / "soup")
    soup = (features @ weights_of(folder / "soup")["w"]).log_softmax(-1)
    mixed = weights[0] * rewards[0] + weights[1] * rewards[1]
    torch.testing.assert_close(soup, (reference.log_softmax(-1) + mixed / beta).log_softmax(-1))


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_warm_of_heads_on_one_backbone_is_the_mean_of_their_scores(family, tmp_path):
    backbone = causal(family)
    folders = []
    for seed in range(3):
        save(reward_from_causal(backbone, seed), tokenizer(), tmp_path / str(seed))
        folders.append(tmp_path / str(seed))
    average(folders, uniform(3), tmp_path / "soup")
    ids = torch.tensor([[1, 5, 7, 3, 2]])
    scores = [load_scalar(folder)(ids).logits for folder in (*folders, tmp_path / "soup")]
    torch.testing.assert_close(scores[-1], torch.stack(scores[:-1]).mean(0), atol=1e-6, rtol=1e-5)
    assert (scores[0] - scores[1]).abs().max() > 1e-3


def test_warm_of_one_reward_model_is_that_model(tmp_path):
    save(reward_from_causal(causal(), 0), tokenizer(), tmp_path / "reward")
    average([tmp_path / "reward"] * 3, uniform(3), tmp_path / "soup")
    for name, tensor in weights_of(tmp_path / "soup").items():
        assert torch.equal(tensor, weights_of(tmp_path / "reward")[name])


def test_a_merge_loads_as_a_model_like_its_ingredients(folders, tmp_path):
    combine([*folders[1:], folders[0]], slerp(folders[0], folders[1:]), tmp_path / "soup")
    found = load_causal(tmp_path / "soup")
    assert found.config.to_dict().keys() == load_causal(folders[1]).config.to_dict().keys()
    assert torch.isfinite(found(torch.tensor([[1, 5, 7]])).logits).all()


def test_plans_import_recipes_without_numpy():
    program = (
        "import sys; from salsa.soup import recipes; recipes.liti(recipes.task_arithmetic([.6, .6]), .3); "
        "assert not {'numpy', 'torch'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
