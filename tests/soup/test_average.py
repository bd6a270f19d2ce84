"""Weighted sums of models: their laws, their rounding, and what they mean for policies and rewards."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.models.families import save
from salsa.models.heads import reward_from_causal
from salsa.soup import mixture
from salsa.soup.average import SoupError, average, combine
from tests.models.tiny import causal, tokenizer
from tests.soup.models import content_of, random_tensors, toys, weights_bytes
from tests.soup.toys import toy, weights_of

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
WEIGHTS = st.integers(2, 6).flatmap(
    lambda count: st.lists(st.floats(-2, 2, allow_subnormal=False), min_size=count - 1, max_size=count - 1)
).map(lambda rest: [*rest, 1 - sum(rest)])  # fmt: skip


class TestSum:
    def test_a_soup_is_the_weighted_mean_of_its_ingredients(self, models, out):
        average(models, [0.2, 0.3, 0.5], out)
        first, second, third = (weights_of(folder) for folder in models)
        for name, mixed in weights_of(out).items():
            torch.testing.assert_close(mixed, 0.2 * first[name] + 0.3 * second[name] + 0.5 * third[name])

    @pytest.mark.parametrize("dtype", DTYPES)
    @given(weights=WEIGHTS, seed=st.integers(0, 99))
    @settings(max_examples=25, deadline=None)
    def test_sums_are_taken_in_double_precision_and_rounded_once(self, tmp_path_factory, dtype, weights, seed):
        folder = tmp_path_factory.mktemp("soup")
        tensors = random_tensors(seed, len(weights), dtype)
        average(toys(folder, tensors), weights, folder / "soup")
        exact = sum(weight * tensor.double() for weight, tensor in zip(weights, tensors, strict=True))
        largest = sum(abs(weight) * tensor.double().abs() for weight, tensor in zip(weights, tensors, strict=True))
        mixed = weights_of(folder / "soup")["w"]
        assert mixed.dtype == dtype
        rounding = torch.finfo(dtype).eps / 2 * exact.abs() + torch.finfo(dtype).smallest_normal
        assert ((mixed.double() - exact).abs() <= rounding + 4 * len(weights) * 2.0**-53 * largest).all()

    @given(seed=st.integers(0, 99))
    @settings(max_examples=20, deadline=None)
    def test_the_midpoint_in_float32_is_that_of_arithmetic_in_float32(self, tmp_path_factory, seed):
        folder = tmp_path_factory.mktemp("soup")
        tensors = random_tensors(seed, 2, torch.float32, 500)
        average(toys(folder, tensors), [0.5, 0.5], folder / "soup")
        assert torch.equal(weights_of(folder / "soup")["w"], 0.5 * tensors[0] + 0.5 * tensors[1])

    @pytest.mark.parametrize("dtype", DTYPES)
    @given(weights=WEIGHTS, seed=st.integers(0, 99), data=st.data())
    @settings(max_examples=25, deadline=None)
    def test_the_order_of_the_ingredients_does_not_matter(self, tmp_path_factory, dtype, weights, seed, data):
        folder = tmp_path_factory.mktemp("soup")
        folders = toys(folder, random_tensors(seed, len(weights), dtype))
        order = data.draw(st.permutations(range(len(weights))))
        average(folders, weights, folder / "one")
        average([folders[index] for index in order], [weights[index] for index in order], folder / "two")
        assert content_of(folder / "one") == content_of(folder / "two")

    @pytest.mark.parametrize("weights", [[0.5, 0.5], [0.3, 0.7], [1 / 3] * 3, [0.1, 0.2, 0.7], [0.1] * 10, [1.5, -0.5]])
    @pytest.mark.parametrize("dtype", DTYPES[1:])
    def test_a_soup_of_copies_is_the_model_bit_for_bit(self, tmp_path, weights, dtype):
        special = torch.tensor([0.0, 0.1, torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal], dtype=dtype)
        if min(weights) >= 0:
            special = torch.cat([special, -special])
        folder = toy(tmp_path / "model", a=random_tensors(0, 1, dtype, 500)[0], b=special, c=special[:0].clone())
        average([folder] * len(weights), weights, tmp_path / "soup")
        assert content_of(tmp_path / "soup") == content_of(folder)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    @given(weights=st.tuples(*[st.floats(-1, 2)] * 4), seed=st.integers(0, 99))
    @settings(max_examples=25, deadline=None)
    def test_a_soup_of_soups_is_a_soup(self, tmp_path_factory, dtype, weights, seed):
        """sum_j b_j (sum_i a_ij theta_i) = sum_i (sum_j b_j a_ij) theta_i."""
        folder = tmp_path_factory.mktemp("soup")
        folders = toys(folder, random_tensors(seed, 3, dtype))
        a, b, c, share = weights
        inner = [[a, b, 1 - a - b], [c, 1 - c - a, a]]
        for index, mix in enumerate(inner):
            average(folders, mix, folder / f"inner {index}")
        average([folder / "inner 0", folder / "inner 1"], [1 - share, share], folder / "outer")
        direct = [(1 - share) * one + share * two for one, two in zip(*inner, strict=True)]
        average(folders, direct, folder / "direct")
        outer, expected = (weights_of(folder / name)["w"] for name in ("outer", "direct"))
        torch.testing.assert_close(outer, expected, rtol=0, atol=200 * torch.finfo(dtype).eps)

    def test_low_precision_is_rounded_once(self, tmp_path, out):
        values = [torch.tensor([1.0, 256.0]), torch.tensor([1.0078125, 1.0]), torch.tensor([1.0, 1.0])]
        folders = toys(tmp_path, [value.bfloat16() for value in values])
        average(folders, [0.25, 0.5, 0.25], out)
        exact = sum(weight * value.double() for weight, value in zip([0.25, 0.5, 0.25], values, strict=True))
        assert weights_of(out)["w"].tolist() == exact.bfloat16().tolist()

    def test_weights_need_not_sum_to_one_where_that_is_asked(self, tmp_path, out):
        folders = toys(tmp_path, [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])])
        with pytest.raises(SoupError, match="must sum to 1"):
            average(folders, [1.0, 1.0], out)
        average(folders, [1.0, 1.0], out, any_sum=True)
        assert weights_of(out)["w"].tolist() == [4, 7]
        average(folders, [0.0, 0.5], tmp_path / "half", any_sum=True)
        assert weights_of(tmp_path / "half")["w"].tolist() == [1.5, 2.5]

    @given(
        sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4),
        piece=st.integers(1, 35).map(lambda count: 4 * count),
        threads=st.integers(1, 4),
    )
    @settings(max_examples=30, deadline=None)
    def test_neither_pieces_nor_threads_change_the_bytes(self, tmp_path_factory, sizes, piece, threads):
        folder = tmp_path_factory.mktemp("soup")
        tensors = [random_tensors(seed, len(sizes), torch.float32, 30) for seed in range(3)]
        folders = [
            toy(folder / f"{index}", **{f"t{i}": one[i][:size].clone() for i, size in enumerate(sizes)})
            for index, one in enumerate(tensors)
        ]
        average(folders, [0.2, 0.3, 0.5], folder / "whole", threads=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mixture, "PIECE", piece)
            average(folders, [0.2, 0.3, 0.5], folder / "pieces", threads=threads)
        assert content_of(folder / "whole") == content_of(folder / "pieces")


class TestCombine:
    def test_each_tensor_has_its_own_coefficients(self, tmp_path, out):
        folders = [toy(tmp_path / f"{i}", a=torch.tensor([1.0 + i]), b=torch.tensor([10.0 * i])) for i in range(3)]
        asked = []

        def coefficients(name):
            asked.append(name)
            return {"a": [1, 2, 0], "b": [0, -1, 0.5]}[name]

        combine(folders, coefficients, out)
        assert {name: tensor.tolist() for name, tensor in weights_of(out).items()} == {"a": [5.0], "b": [0.0]}
        assert sorted(asked) == ["a", "b"]

    @given(weights=WEIGHTS, seed=st.integers(0, 99))
    @settings(max_examples=20, deadline=None)
    def test_the_same_coefficients_everywhere_are_an_average(self, tmp_path_factory, weights, seed):
        folder = tmp_path_factory.mktemp("soup")
        folders = toys(folder, random_tensors(seed, len(weights), torch.float32))
        average(folders, weights, folder / "average")
        combine(folders, lambda _: weights, folder / "combination")
        assert content_of(folder / "average") == content_of(folder / "combination")

    @pytest.mark.parametrize("like", [0, 1])
    def test_formats_and_settings_are_those_of_one_of_the_models(self, models, tmp_path, out, like):
        base = Path(shutil.copytree(models[0], tmp_path / "base"))
        save(causal(seed=0).half(), tokenizer(), base)
        (base / "chat_template.jinja").unlink()
        combine([base, models[1]], lambda _: [0.25, 0.75], out, like=like)
        mixed, (first, second) = weights_of(out), (weights_of(folder) for folder in (base, models[1]))
        for name, tensor in mixed.items():
            assert tensor.dtype == (torch.float16, torch.float32)[like]
            expected = (0.25 * first[name].double() + 0.75 * second[name].double()).to(tensor.dtype)
            torch.testing.assert_close(tensor, expected, rtol=1e-3 if like == 0 else 1e-7, atol=0)
        assert (out / "chat_template.jinja").exists() is (like == 1)
        assert json.loads((out / "config.json").read_text())["dtype"] == ("float16", "float32")[like]

    def test_all_coefficients_zero_give_zeros_and_one_gives_a_copy(self, tmp_path, out):
        folders = toys(tmp_path, random_tensors(0, 2, torch.bfloat16))
        twice = [toy(tmp_path / f"more {i}", v=torch.ones(40), w=torch.ones(40)) for i in range(2)]
        combine(twice, lambda name: [0, 0] if name == "w" else [1, 1], out, threads=1)
        assert {name: set(tensor.tolist()) for name, tensor in weights_of(out).items()} == {"v": {2.0}, "w": {0.0}}
        combine(folders, lambda _: [0, 1], tmp_path / "copy")
        assert weights_bytes(tmp_path / "copy") == weights_bytes(folders[1])

    @pytest.mark.parametrize("given", [[1.0], [float("nan"), 1.0], [1.0, 2.0, 3.0]])
    def test_coefficients_that_do_not_fit_are_refused_and_nothing_is_left(self, tmp_path, out, given):
        with pytest.raises(SoupError, match="the coefficients of w must be 2 finite numbers"):
            combine(toys(tmp_path, random_tensors(0, 2, torch.float32)), lambda _: given, out)
        assert not out.exists()

    def test_no_model_and_a_format_without_averages(self, tmp_path, out):
        with pytest.raises(SoupError, match="at least one model"):
            combine([], lambda _: [], out)
        wide, low = toys(tmp_path, [torch.ones(4), torch.ones(4).to(torch.float8_e4m3fn)])
        with pytest.raises(SoupError, match=r"tensor w has the number format F32 in .*0 and F8_E4M3 in"):
            combine([wide, low], lambda _: [1, 1], out)
        with pytest.raises(SoupError, match=r"tensor w of .*1 has the number format F8_E4M3; only F64"):
            combine([low], lambda _: [1], out)


class TestTheory:
    @given(seed=st.integers(0, 100), alpha=st.floats(0, 1))
    @settings(max_examples=15, deadline=None)
    def test_log_linear_policies_mix_to_their_normalised_geometric_mean(self, tmp_path_factory, seed, alpha):
        """T2.3: with logits = features @ weights, KL(p || soup) = sum_i a_i KL(p || p_i) + log Z for every p."""
        folder = tmp_path_factory.mktemp("log-linear")
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        first, second = (torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
        average(toys(folder, [first, second]), [1 - alpha, alpha], folder / "soup")
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

    @given(shares=st.tuples(*[st.floats(0.01, 1)] * 3), seed=st.integers(0, 99))
    @settings(max_examples=15, deadline=None)
    def test_rewarded_soups_are_optimal_for_the_mixed_reward(self, tmp_path_factory, shares, seed):
        """12.4: log-linear optima theta_i for rewards r_i mix to pi_ref exp(sum_i lambda_i r_i / beta), normalised."""
        folder, beta = tmp_path_factory.mktemp("rewarded"), 0.3
        generator = torch.Generator().manual_seed(seed)
        reference, *rewards = (torch.randn(2, 5, generator=generator, dtype=torch.float64) for _ in range(4))
        folders = toys(folder, [reference.log_softmax(-1) + reward / beta for reward in rewards])
        weights = [share / sum(shares) for share in shares]
        average(folders, weights, folder / "soup")
        mixed = sum(weight * reward for weight, reward in zip(weights, rewards, strict=True))
        optimum = (reference.log_softmax(-1).exp() * (mixed / beta).exp()).log()
        soup = weights_of(folder / "soup")["w"]
        torch.testing.assert_close(soup.log_softmax(-1), optimum.log_softmax(-1))
        average(folders, [0.0, 1.0, 0.0], folder / "one")
        assert weights_bytes(folder / "one") == weights_bytes(folders[1])

    def test_heads_over_one_backbone_predict_the_mean(self, tmp_path, out):
        """12.3 (WARM): a frozen backbone with linear heads, so the soup's reward is the mean of the rewards."""
        backbone, folders, scores = causal(seed=0), [], []
        ids = torch.randint(3, 15, (4, 7), generator=torch.Generator().manual_seed(0))
        for seed in range(3):
            reward = reward_from_causal(backbone, head_seed=seed).eval()
            with torch.no_grad():
                reward.score.weight.normal_(generator=torch.Generator().manual_seed(seed))
                scores.append(reward(ids).logits)
            folders.append(tmp_path / f"{seed}")
            save(reward, tokenizer(), folders[-1])
        average(folders, [1 / 3] * 3, out)
        soup = type(reward).from_pretrained(out).eval()
        with torch.no_grad():
            torch.testing.assert_close(soup(ids).logits, torch.stack(scores).mean(0), rtol=1e-5, atol=1e-6)
        average([folders[0]] * 3, [1 / 3] * 3, tmp_path / "same")
        assert content_of(tmp_path / "same") == content_of(folders[0])
