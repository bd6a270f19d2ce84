import numpy as np
import pytest

from salsa.evaluation.statistics import cluster_bootstrap_means
from salsa.report.landscape.distribution import Distribution, Resamples

CLUSTERS = [f"subject {number % 40}" for number in range(160)]


def table(seed: int, columns: int = 5, effect: float = 0.0) -> np.ndarray:
    """Return values of related prompts with common difficulty, the columns `effect` apart."""
    rng = np.random.default_rng(seed)
    subject = rng.normal(size=40)[np.arange(160) % 40]
    ease = subject + rng.normal(size=160)
    apart = 0.3 * rng.normal(size=(40, columns))[np.arange(160) % 40]
    return ease[:, None] + apart + 0.5 * rng.normal(size=(160, columns)) + effect * np.arange(columns)


def test_means_and_intervals_are_those_of_the_house() -> None:
    values = table(0)
    found = Resamples(CLUSTERS, np.random.default_rng(7), 300).ratios(values).estimates(0.9)
    for mine, house in zip(
        found, cluster_bootstrap_means(values, CLUSTERS, np.random.default_rng(7), 300, 0.9), strict=True
    ):
        assert (mine.value, mine.low, mine.high, mine.n) == pytest.approx((house.value, house.low, house.high, house.n))


def test_differences_are_paired() -> None:
    values = table(1)
    drawn = Resamples(CLUSTERS, np.random.default_rng(3), 300)
    contrast = drawn.ratios(values).contrasts([[0, 1, -1, 0, 0]]).estimates(0.95)[0]
    alone = drawn.ratios(values[:, [1]] - values[:, [2]]).estimates(0.95)[0]
    assert (contrast.value, contrast.low, contrast.high) == pytest.approx((alone.value, alone.low, alone.high))
    single = drawn.ratios(values).estimates(0.95)[1]
    assert contrast.high - contrast.low < 0.5 * (single.high - single.low)


def test_a_ratio_weighs_documents_by_their_tokens() -> None:
    tokens = np.array([10.0, 30, 20, 40])
    nats = tokens[:, None] * np.array([[1.0], [2], [3], [4]])
    drawn = Resamples(["a", "b", "c", "d"], np.random.default_rng(0), 500)
    found = drawn.ratios(nats, tokens)
    assert found.value.tolist() == [(10 + 60 + 60 + 160) / 100]
    assert found.draws.min() >= 1
    assert found.draws.max() <= 4
    # Where every document has the same loss a token, so has every resample.
    assert drawn.ratios(2 * tokens[:, None], tokens).estimates(0.95)[0].low == pytest.approx(2)


def test_one_cluster_has_no_interval() -> None:
    found = Resamples(["a", "a"], np.random.default_rng(0), 10).ratios(np.array([[1.0, 2], [3, 4]]))
    assert [(each.value, each.low, each.high) for each in found.estimates(0.95)] == [(2, None, None), (3, None, None)]
    assert found.band(0.95) is None
    assert found.best_shares(1) is None
    assert found.chance_share(1) is None
    assert [(each.value, each.low, each.high) for each in found.together(0.95)] == [(2, None, None), (3, None, None)]
    assert found.select([1]).contrasts([[2.0]]).value.tolist() == [6]


def test_shares_of_the_best_point_sum_to_one_and_ties_are_split() -> None:
    draws = np.array([[1.0, 2, 2], [3, 1, 0], [0, 0, 0], [5, 6, 7]])
    found = Distribution(draws.mean(axis=0), draws, 4)
    assert found.best_shares(1) == pytest.approx([(1 + 1 / 3) / 4, (0.5 + 1 / 3) / 4, (0.5 + 1 / 3 + 1) / 4])
    assert found.best_shares(-1) == pytest.approx([(1 + 1 / 3 + 1) / 4, (1 / 3) / 4, (1 + 1 / 3) / 4])
    assert sum(found.best_shares(1)) == pytest.approx(1)


def test_the_share_by_chance_is_the_highest_share_in_data_without_differences() -> None:
    def made(seed: int) -> Distribution:
        values = np.random.default_rng(seed).normal(size=(100, 12))
        return Resamples([str(number) for number in range(100)], np.random.default_rng(seed), 300).ratios(values)

    tops = [max(made(seed).best_shares(1)) for seed in range(150)]
    # Well above the 1 in 12 that a reader may think of.
    assert np.mean(tops) > 0.3
    assert made(1000).chance_share(1) == pytest.approx(np.mean(tops), abs=0.1)
    better = np.random.default_rng(0).normal(size=(100, 12)) + np.arange(12)
    sure = Resamples([str(number) for number in range(100)], np.random.default_rng(0), 300).ratios(better)
    assert max(sure.best_shares(1)) == 1
    assert sure.chance_share(1) == pytest.approx(made(0).chance_share(1), abs=1e-9)


def test_the_share_by_chance_of_two_alike_points_is_known() -> None:
    # The share of the higher one is the normal distribution function at |z|, so evenly spread between .5 and 1.
    values = np.random.default_rng(0).normal(size=(400, 2))
    found = Resamples([str(number) for number in range(400)], np.random.default_rng(1), 2000).ratios(values)
    assert found.chance_share(1) == pytest.approx(0.75, abs=0.05)
    assert found.chance_share(-1) == pytest.approx(0.75, abs=0.05)


def test_a_band_holds_all_points_together_in_its_share_of_resamples() -> None:
    found = Resamples(CLUSTERS, np.random.default_rng(2), 2000).ratios(table(2))
    lows, highs = np.transpose(found.band(0.9))
    together = np.all((found.draws >= lows) & (found.draws <= highs), axis=1).mean()
    assert together == pytest.approx(0.9, abs=0.002)
    for (low, high), alone in zip(found.band(0.9), found.estimates(0.9), strict=True):
        assert high - low > alone.high - alone.low
    assert [(each.low, each.high) for each in found.together(0.9)] == found.band(0.9)
    still = Distribution(np.array([1.0, 2]), np.array([[1.0, 2], [1, 3]]), 2).band(0.9)
    assert still[0] == (1, 1)


def test_intervals_of_differences_cover_the_truth() -> None:
    runs, level, held = 200, 0.9, 0
    for seed in range(runs):
        drawn = Resamples(CLUSTERS, np.random.default_rng(seed), 200).ratios(table(seed, 2, effect=0.1))
        low, high = (lambda each: (each.low, each.high))(drawn.contrasts([[-1, 1]]).estimates(level)[0])
        held += low <= 0.1 <= high
    # Four standard errors of the count below, and the bootstrap's own optimism with 40 clusters.
    assert 0.80 <= held / runs <= 0.98
