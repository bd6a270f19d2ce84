"""Swap consistency, position and length bias."""

import numpy as np
import pytest

from salsa.evaluation import biases
from salsa.evaluation.battles import matches
from salsa.evaluation.published.mt_bench import pair as read_pair
from tests.evaluation.judgments import pair


def judged(*games):
    return [each.verdict for question, own in enumerate(games) for each in read_pair(pair(question, own), "f").judged]


def rng():
    return np.random.default_rng(0)


def test_what_a_swap_changes_is_counted():
    found = biases.swap(matches(judged("11", "22", "==", "12", "21", "1=", "=2", "1!")), rng(), 100, 0.95)
    assert (found.complete, found.same, found.first, found.second, found.tied) == (7, 3, 1, 1, 2)
    assert found.consistency.value == pytest.approx(3 / 7)
    assert found.consistency.n == 7


def test_a_judge_that_always_prefers_the_first_is_found_out():
    always = judged(*["12"] * 9)
    assert biases.position(always, rng(), 100, 0.95).value == 1
    assert biases.position(judged("11", "22", "=="), rng(), 100, 0.95).value == 0.5
    assert biases.position(judged("=="), rng(), 100, 0.95) is None


def test_how_often_the_longer_reply_wins():
    verdicts = judged("11", "11", "22", "12", "==")
    lengths = {"one": 9.0, "two": 4.0}
    found = biases.length(verdicts, lambda model, _: lengths[model], rng(), 100, 0.95)
    assert (found.value, found.n) == (5 / 8, 8)
    assert biases.length(verdicts, lambda model, _: 1.0, rng(), 100, 0.95) is None
    assert biases.length(verdicts, lambda model, _: None, rng(), 100, 0.95) is None


def test_nothing_judged_has_no_bias():
    found = biases.swap([], rng(), 100, 0.95)
    assert (found.complete, found.consistency) == (0, None)
