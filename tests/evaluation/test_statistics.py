import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from salsa.evaluation.scores import ScoredReply
from salsa.evaluation.statistics import (
    WinRate,
    cluster_bootstrap_mean,
    cluster_bootstrap_means,
    clustered_standard_error,
    mean_of_suites,
    outcomes,
    t_interval,
    t_quantile,
)
from tests.evaluation.rates import win_rate

numbers = st.floats(-100, 100).map(lambda value: round(value, 3))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scored(judges: list[float | None], clusters: list[str] | None = None) -> list[ScoredReply]:
    names = clusters or [f"c{number}" for number in range(len(judges))]
    return [
        ScoredReply(f"p{number}", cluster, "", "single", "?", ("a",), judge, 0.0, 1.0, True)
        for number, (judge, cluster) in enumerate(zip(judges, names, strict=True))
    ]


# --- bootstrap ------------------------------------------------------------------------------------------------------


def test_clusters_of_one_value_are_the_ordinary_bootstrap() -> None:
    values = rng(1).normal(size=80)
    estimate = cluster_bootstrap_mean(values, [f"{number:03d}" for number in range(80)], rng(2))
    draws = rng(2).integers(80, size=(1000, 80))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((values.mean(), low, high))
    assert estimate.n == 80


def test_the_interval_of_equal_clusters_agrees_with_the_analytic_clustered_standard_error() -> None:
    generator = rng(3)
    values = np.repeat(generator.normal(size=200), 4) + 0.3 * generator.normal(size=800)
    clusters = [f"c{number // 4}" for number in range(800)]
    # For equal clusters the clustered standard error is that of the mean of the clusters' means.
    means = values.reshape(200, 4).mean(axis=1)
    error = clustered_standard_error(values, clusters)
    assert error == pytest.approx(means.std(ddof=1) / np.sqrt(200))
    estimate = cluster_bootstrap_mean(values, clusters, rng(4), rounds=20_000)
    assert estimate.low is not None
    assert estimate.high is not None
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * error, rel=0.03)
    # Without clusters it would look almost twice as certain as it is.
    naive = cluster_bootstrap_mean(values, [str(number) for number in range(800)], rng(4))
    assert naive.low is not None
    assert naive.high is not None
    assert (naive.high - naive.low) < 0.6 * (estimate.high - estimate.low)


def test_the_interval_of_unequal_clusters_agrees_with_the_analytic_clustered_standard_error() -> None:
    generator = rng(5)
    sizes = generator.integers(1, 8, size=300)
    clusters = np.repeat([f"c{number}" for number in range(300)], sizes)
    values = np.repeat(generator.normal(size=300), sizes) + generator.normal(size=sizes.sum())
    error = clustered_standard_error(values, list(clusters))
    estimate = cluster_bootstrap_mean(values, list(clusters), rng(6), rounds=20_000)
    assert error is not None
    assert estimate.low is not None
    assert estimate.high is not None
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * error, rel=0.04)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(300):
        generator = rng(seed)
        values = np.repeat(generator.normal(size=60), 3) + generator.normal(size=180)
        clusters = [f"c{number // 3}" for number in range(180)]
        estimate = cluster_bootstrap_mean(values, clusters, generator, rounds=300)
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 0 <= estimate.high
    assert 0.90 <= covered / 300 <= 0.98


def test_the_generator_alone_decides_the_interval() -> None:
    values, clusters = list(rng(7).normal(size=30)), [f"c{number % 9}" for number in range(30)]
    first, again = (cluster_bootstrap_mean(values, clusters, rng(8)) for _ in range(2))
    assert first == again
    assert cluster_bootstrap_mean(values, clusters, rng(9)) != first


def test_the_order_of_the_values_does_not_matter() -> None:
    values, clusters = rng(7).normal(size=30), np.array([f"c{number % 9}" for number in range(30)])
    order = rng(1).permutation(30)
    first = cluster_bootstrap_mean(values, list(clusters), rng(8))
    moved = cluster_bootstrap_mean(values[order], list(clusters[order]), rng(8))
    assert (moved.value, moved.low, moved.high) == pytest.approx((first.value, first.low, first.high))


def test_columns_share_their_resamples() -> None:
    values, clusters = rng(7).normal(size=40), [f"c{number % 11}" for number in range(40)]
    one, other = cluster_bootstrap_means(np.stack([values, 2 * values + 1], axis=1), clusters, rng(8))
    alone = cluster_bootstrap_mean(values, clusters, rng(8))
    assert (one.value, one.n) == (alone.value, alone.n)
    assert (one.low, one.high) == pytest.approx((alone.low, alone.high))
    assert one.low is not None
    assert one.high is not None
    assert (other.low, other.high) == pytest.approx((2 * one.low + 1, 2 * one.high + 1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(numbers, st.sampled_from("abcdef")), min_size=1, max_size=30))
def test_an_interval_lies_between_the_extreme_values_and_moves_with_them(pairs: list[tuple[float, str]]) -> None:
    values, clusters = np.array([value for value, _ in pairs]), [cluster for _, cluster in pairs]
    estimate = cluster_bootstrap_mean(values, clusters, rng(), rounds=50)
    moved = cluster_bootstrap_mean(values + 7, clusters, rng(), rounds=50)
    assert estimate.value == pytest.approx(values.mean())
    if len(set(clusters)) == 1:
        assert (estimate.low, estimate.high) == (None, None)
        return
    assert estimate.low is not None
    assert estimate.high is not None
    assert values.min() - 1e-9 <= estimate.low <= estimate.high <= values.max() + 1e-9
    assert (moved.low, moved.high) == pytest.approx((estimate.low + 7, estimate.high + 7))


def test_a_large_suite_is_resampled_in_blocks_without_changing_the_result_much() -> None:
    values = rng(1).normal(size=10_000)
    estimate = cluster_bootstrap_mean(values, [str(number) for number in range(10_000)], rng(2))
    assert estimate.low is not None
    assert estimate.high is not None
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * values.std() / 100, rel=0.1)


def test_it_is_fast() -> None:
    values, clusters = rng(1).normal(size=300), [str(number) for number in range(300)]
    durations = []
    for _ in range(10):
        start = time.perf_counter()
        cluster_bootstrap_mean(values, clusters, rng(2))
        durations.append(time.perf_counter() - start)
    # Some 3 ms where nothing else runs (5 ms is the aim); the bound leaves room for a busy machine.
    assert min(durations) < 0.02


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([], [], "at least one value"),
        ([1.0, 2.0], ["a"], "2 values, but 1 clusters"),
        ([1.0, np.nan], ["a", "b"], "value 1 is not a finite number"),
        ([[1.0]], ["a"], "one dimension"),
    ],
)
def test_values_without_a_mean_are_refused(values: list, clusters: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_bootstrap_mean(values, clusters, rng())


# --- mean over suites -----------------------------------------------------------------------------------------------


def test_every_suite_counts_the_same_however_large() -> None:
    tables = [np.zeros((90, 1)), np.ones((10, 1))]
    clusters = [[f"a{number}" for number in range(90)], [f"b{number}" for number in range(10)]]
    (estimate,) = mean_of_suites(tables, clusters, rng())
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0.5, 0.5, 0.5, 100)


def test_suites_without_common_clusters_vary_independently() -> None:
    tables = [rng(seed).normal(size=(400, 1)) for seed in (1, 2)]
    clusters = [[f"{suite}{number}" for number in range(400)] for suite in "ab"]
    (estimate,) = mean_of_suites(tables, clusters, rng(3), rounds=20_000)
    error = np.sqrt(sum(table.var(ddof=1) / 400 for table in tables)) / 2
    assert estimate.low is not None
    assert estimate.high is not None
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * error, rel=0.04)


def test_clusters_that_suites_share_make_the_mean_less_certain() -> None:
    values = rng(1).normal(size=(200, 1))
    own = [[f"{suite}{number}" for number in range(200)] for suite in "ab"]
    shared = [[f"{number}" for number in range(200)]] * 2
    widths = []
    for clusters in (own, shared):
        (estimate,) = mean_of_suites([values, values], clusters, rng(3), rounds=10_000)
        assert estimate.low is not None
        assert estimate.high is not None
        widths.append(estimate.high - estimate.low)
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(2), rel=0.05)


def test_a_suite_of_one_cluster_leaves_no_interval() -> None:
    (estimate,) = mean_of_suites([np.ones((4, 1)), np.ones((4, 1))], [["a", "b", "c", "d"], ["e"] * 4], rng())
    assert (estimate.value, estimate.low, estimate.high) == (1.0, None, None)


def test_no_suites_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no suites"):
        mean_of_suites([], [], rng())


def test_one_cluster_has_no_standard_error() -> None:
    assert clustered_standard_error([1.0, 2.0], ["a", "a"]) is None


# --- win rate -------------------------------------------------------------------------------------------------------


def test_wins_ties_and_losses_are_counted_and_a_tie_is_half_a_win() -> None:
    a, b = scored([3.0, 1.0, 1.0, 1.0, 2.0]), scored([1.0, 1.0, 2.0, 3.0, 1.9])
    rate = win_rate(a, b, 0.0, rng())
    assert (rate.value, rate.wins, rate.ties, rate.losses, rate.n) == (0.5, 2, 1, 2, 5)
    wide = win_rate(a, b, 1.0, rng())
    assert (wide.value, wide.wins, wide.ties, wide.losses) == (0.5, 1, 3, 1)


def test_a_difference_equal_to_the_margin_is_a_tie() -> None:
    assert list(outcomes(scored([0.75, 0.76, -0.75]), scored([0.0, 0.0, 0.0]), 0.75)) == [0.5, 1.0, 0.5]


def test_prompts_are_matched_by_name_not_by_place() -> None:
    a, b = scored([1.0, 2.0, 3.0]), scored([0.0, 5.0, 0.0])
    assert list(outcomes(a, b[::-1], 0.0)) == [1.0, 0.0, 1.0]


def test_the_interval_of_a_win_rate_is_the_clustered_one() -> None:
    generator = rng(1)
    judges = np.repeat(generator.normal(size=40), 5)
    clusters = [f"c{number // 5}" for number in range(200)]
    a, b = scored(list(judges), clusters), scored([0.0] * 200, clusters)
    rate = win_rate(a, b, 0.0, rng(2))
    expected = cluster_bootstrap_mean((judges > 0).astype(float), clusters, rng(2))
    assert (rate.value, rate.low, rate.high) == (expected.value, expected.low, expected.high)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(numbers, numbers, st.sampled_from("abcd")), min_size=1, max_size=25), st.floats(0, 50))
def test_swapped_arms_have_the_rest_to_one(triples: list[tuple[float, float, str]], margin: float) -> None:
    clusters = [cluster for _, _, cluster in triples]
    a = scored([first for first, _, _ in triples], clusters)
    b = scored([second for _, second, _ in triples], clusters)
    rate, swapped = win_rate(a, b, margin, rng(), rounds=60), win_rate(b, a, margin, rng(), rounds=60)
    assert swapped.value == pytest.approx(1 - rate.value)
    assert (swapped.wins, swapped.ties, swapped.losses) == (rate.losses, rate.ties, rate.wins)
    assert rate.value == pytest.approx((rate.wins + rate.ties / 2) / len(triples))
    if rate.low is not None and rate.high is not None:
        assert (swapped.low, swapped.high) == pytest.approx((1 - rate.high, 1 - rate.low))


@settings(max_examples=30, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=20), st.floats(0, 10))
def test_a_model_against_itself_is_a_tie_everywhere(judges: list[float], margin: float) -> None:
    rate = win_rate(scored(list(judges)), scored(list(judges)), margin, rng(), rounds=20)
    assert rate == WinRate(0.5, rate.low, rate.high, 0, len(judges), 0)
    assert rate.low in (None, 0.5)


def test_other_prompts_are_an_error_that_names_one() -> None:
    a, b = scored([1.0, 2.0]), scored([1.0, 2.0])
    other = [b[0], replace(b[1], prompt_id="elsewhere")]
    with pytest.raises(ValueError, match="'p1' has no reply by the second"):
        win_rate(a, other, 0.0, rng())
    with pytest.raises(ValueError, match="'p1' has no reply by the first"):
        win_rate(a[:1], b, 0.0, rng())
    with pytest.raises(ValueError, match="'p0' is answered twice by the second"):
        win_rate(a, [b[0], b[0], b[1]], 0.0, rng())


def test_a_missing_judge_score_is_an_error_that_names_the_prompt() -> None:
    with pytest.raises(ValueError, match="second model to prompt 'p1' has no judge score"):
        win_rate(scored([1.0, 2.0]), scored([1.0, None]), 0.0, rng())


@pytest.mark.parametrize("margin", [-0.1, float("nan")])
def test_a_margin_below_zero_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="tie_margin"):
        win_rate(scored([1.0]), scored([1.0]), margin, rng())


# --- Student's t ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 7, 8, 11, 29, 30, 99, 1000])
@pytest.mark.parametrize("probability", [0.001, 0.025, 0.3, 0.6, 0.9, 0.975, 0.995, 0.9999])
def test_the_t_quantile_is_that_of_scipy(probability: float, freedom: int) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-9)


@pytest.mark.parametrize(("probability", "freedom"), [(0.0, 3), (1.0, 3), (0.5, 0)])
def test_a_quantile_that_there_is_not_is_refused(probability: float, freedom: int) -> None:
    with pytest.raises(ValueError, match="t_quantile"):
        t_quantile(probability, freedom)


def test_the_t_interval_is_that_of_scipy() -> None:
    values = [0.1, 0.26, 0.19, 0.31, 0.22, 0.05]
    estimate = t_interval(values)
    low, high = stats.t.interval(0.95, 5, loc=np.mean(values), scale=stats.sem(values))
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == pytest.approx((np.mean(values), low, high, 6))
    wider = t_interval(values, level=0.99)
    assert wider.low is not None
    assert estimate.low is not None
    assert wider.low < estimate.low


def test_one_value_has_a_mean_but_no_t_interval() -> None:
    estimate = t_interval([0.3])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0.3, None, None, 1)
    with pytest.raises(ValueError, match="at least one value"):
        t_interval([])
