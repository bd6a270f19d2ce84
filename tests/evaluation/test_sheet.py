"""Means and win rates of items, with intervals by cluster; paired differences; replicates."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test, ttest_rel

from salsa.evaluation.battles import Battle
from salsa.evaluation.comparisons import difference, holm, replicates
from salsa.evaluation.resampling import drawn_counts, percentiles, ratio_draws
from salsa.evaluation.sheet import of_battles, of_scores
from salsa.evaluation.statistics import cluster_bootstrap_mean
from tests.evaluation.test_battles import matches, pair, read_pair


def scores(table, **clusters):
    """Return the sheet of scores[model][item]; items are questions of their own unless `clusters` names theirs."""
    return of_battles(
        [
            Battle(str(item), clusters.get(f"q{item}", str(item)), "c", 1, model, "base", value, 1.0)
            for model, values in table.items()
            for item, value in enumerate(values)
            if value is not None
        ],
        "base",
    )


def rng():
    return np.random.default_rng(3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_the_value_is_the_mean_and_inside_its_interval(values):
    [found] = scores({"m": values}).estimates(rng(), 200, 0.95).values()
    assert found.value == pytest.approx(np.mean(values))
    assert found.n == len(values)
    if len(values) == 1:
        assert found.low is found.high is None
    else:
        assert min(values) - 1e-12 <= found.low <= found.high <= max(values) + 1e-12


def test_equal_weights_are_the_bootstrap_of_the_mean():
    values = rng().random(40)
    clusters = {f"q{item}": f"{item // 2:02}" for item in range(40)}
    [found] = scores({"m": values}, **clusters).estimates(rng(), 500, 0.9).values()
    expected = cluster_bootstrap_mean(values, list(clusters.values()), rng(), 500, 0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_turns_of_a_question_are_drawn_together():
    def sheet(cluster):
        battles = [
            Battle(str(item), cluster(item, turn), "", turn, "m", "base", float(item % 2), 1.0)
            for item in range(60)
            for turn in (1, 2)
        ]
        [found] = of_battles(battles, "base").estimates(rng(), 2000, 0.95).values()
        return found.high - found.low

    together, apart = sheet(lambda item, turn: str(item)), sheet(lambda item, turn: f"{item}/{turn}")
    assert together / apart == pytest.approx(2**0.5, rel=0.1)


def test_only_battles_with_the_baseline_count_where_there_is_one():
    battles = [Battle("1", "1", "", 1, "a", "b", 1.0), Battle("1", "1", "", 1, "a", "base", 0.0)]
    assert of_battles(battles, "base").models == ("a",)
    assert of_battles(battles, "base").values() == [0]
    assert dict(zip(*(lambda s: (s.models, s.values()))(of_battles(battles, None)), strict=True)) == {
        "a": 0.5,
        "b": 0.0,
        "base": 1.0,
    }


def test_win_rates_of_two_models_sum_to_one():
    rows = [pair(question, games) for question, games in enumerate(["11", "12", "2=", "22", "=="])]
    found = matches(each.verdict for row in rows for each in read_pair(row, "f:1").judged)
    battles = [Battle("q", "q", "", 1, match.first, match.second, match.outcomes[0]) for match in found]
    assert of_battles(battles, None).values().sum() == pytest.approx(1)


def test_scores_of_single_replies_need_a_judgment():
    assert of_scores([]).models == ()


@given(st.integers(1, 30), st.integers(1, 50))
def test_draws_are_as_many_as_there_are_clusters(groups, rounds):
    counts = np.concatenate(list(drawn_counts(groups, rounds, rng())))
    assert counts.shape == (rounds, groups)
    assert np.all(counts.sum(axis=1) == groups)


@given(st.integers(1, 30), st.integers(1, 50), st.integers(0, 3))
def test_draws_that_are_kept_are_those_of_the_stream(groups, rounds, before):
    def stream():
        made = np.random.default_rng(11)
        made.integers(5, size=before, dtype=np.int32)  # may leave half of a number over
        return made

    fresh, again, naive = stream(), stream(), stream()
    first, second = (np.concatenate(list(drawn_counts(groups, rounds, each))) for each in (fresh, again))
    draws = naive.integers(groups, size=(rounds, groups))
    expected = [np.bincount(row, minlength=groups).tolist() for row in draws]
    assert first.tolist() == second.tolist() == expected
    following = [each.integers(1000, size=3, dtype=np.int32).tolist() for each in (fresh, again, naive)]
    assert following[0] == following[1] == following[2]


def test_draws_of_another_kind_of_stream_are_not_kept():
    made = [np.random.Generator(np.random.MT19937(seed)) for seed in (1, 1, 2)]
    first, same, other = (np.concatenate(list(drawn_counts(9, 40, each))).tolist() for each in made)
    assert first == same != other


def test_a_round_without_a_model_is_left_out_of_its_interval():
    draws = ratio_draws(np.array([[1.0], [0.0], [0.0]]), np.array([[1.0], [0.0], [0.0]]), 300, rng())
    assert np.isnan(draws).any()
    assert percentiles(draws, 0.95) == (1.0, 1.0)
    assert np.isnan(percentiles(np.full((5, 1), np.nan), 0.95)[0]).all()


def test_a_paired_difference_is_of_what_both_have():
    sheet = scores({"a": [1, 1, 1, None], "b": [0, None, 1, 0]})
    found = difference(sheet, "a", "b", rng(), 500, 0.95)
    assert (found.value, found.items, found.clusters) == (0.5, 2, 2)
    assert difference(scores({"a": [1, None], "b": [None, 1]}), "a", "b", rng(), 500, 0.95) is None


@pytest.mark.parametrize("count", [6, 9])
def test_few_clusters_have_the_exact_p_value(count):
    a, b = rng().random((2, count)).round(2)
    found = difference(scores({"a": a, "b": b}), "a", "b", rng(), 500, 0.95)
    expected = permutation_test((a, b), lambda x, y: np.mean(x) - np.mean(y), permutation_type="samples")
    assert found.exact
    assert found.p == pytest.approx(expected.pvalue)


def test_many_clusters_have_nearly_the_p_value_of_the_t_test():
    a, b = rng().normal([[0.3], [0.0]], 1, (2, 100))
    found = difference(scores({"a": a, "b": b}), "a", "b", rng(), 5000, 0.95)
    assert not found.exact
    assert found.p == pytest.approx(ttest_rel(a, b).pvalue, abs=0.02)
    assert found.low < found.value < found.high
    turned = difference(scores({"a": a, "b": b}), "b", "a", rng(), 5000, 0.95)
    assert (turned.value, turned.p) == pytest.approx((-found.value, found.p))


def test_the_exchange_test_does_not_hold_all_rounds_at_once():
    # A byte for each of 4000 clusters in 10 000 rounds would be 40 MB.
    sheet = scores({"a": rng().random(4000), "b": rng().random(4000)})
    tracemalloc.start()
    try:
        found = difference(sheet, "a", "b", rng(), 10_000, 0.95)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not found.exact
    assert peak < 10e6


def test_equal_models_do_not_differ():
    values = rng().random(20)
    found = difference(scores({"a": values, "b": values}), "a", "b", rng(), 300, 0.95)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_paired_interval_is_narrower_than_the_difference_of_two():
    hard = rng().normal(0, 3, 200)
    a, b = hard + rng().normal(0, 0.3, 200), hard + np.random.default_rng(9).normal(0, 0.3, 200)
    sheet = scores({"a": a, "b": b})
    alone = sheet.estimates(rng(), 500, 0.95)["a"]
    found = difference(sheet, "a", "b", rng(), 500, 0.95)
    assert found.high - found.low < (alone.high - alone.low) / 4


def test_holms_correction():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value(values):
    found = holm(values)
    assert all(1 >= after >= before for before, after in zip(values, found, strict=True))


def test_few_replicates_use_the_t_interval():
    table = {"s1": [1, 0, 1, 1], "s2": [0, 0, 1, 1], "s3": [1, 1, 1, 0]}
    found = replicates(scores(table), "method", list(table), rng(), 500, 0.95)
    assert found.shown == "t"
    assert found.t.value == found.crossed.value == pytest.approx(np.mean([0.75, 0.5, 0.75]))
    half = 4.30265 * np.std([0.75, 0.5, 0.75], ddof=1) / 3**0.5
    assert found.t.high - found.t.value == pytest.approx(half, rel=1e-4)
    with pytest.raises(ValueError, match="'s4' of method"):
        replicates(scores(table), "method", ["s1", "s4"], rng(), 10, 0.95)


def test_the_crossed_bootstrap_holds_both_variances():
    noise = rng()
    table = noise.normal(0, 1, (12, 1)) + noise.normal(0, 2, (1, 300))
    names = [f"s{index}" for index in range(12)]
    found = replicates(scores(dict(zip(names, table, strict=True))), "m", names, rng(), 4000, 0.95)
    assert found.shown == "crossed"
    expected = 2 * 1.96 * np.sqrt(table.mean(axis=1).var() / 12 + table.mean(axis=0).var() / 300)
    assert found.crossed.high - found.crossed.low == pytest.approx(expected, rel=0.1)
