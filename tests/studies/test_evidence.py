"""The arrays of a study are what reading its replies one by one gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.evaluation.scores import ScoredReply, read, write
from salsa.evaluation.statistics import outcomes
from salsa.studies.evidence import Evidence, Model

SCORES = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 0.75, 1.5]), min_size=24, max_size=24)
MARGIN = 0.75
ARMS = ("PPO", "SALSA")


def replies(gold: list[float]) -> list[ScoredReply]:
    return [
        ScoredReply(f"p{n}", f"c{n // 2}", "", "single", "?", ("!",), value, value / 3, n, n % 3 > 0)
        for n, value in enumerate(gold)
    ]


def models(gold: list[float], shuffled: int = 0) -> list[Model]:
    """Two arms of three replicates and four prompts; some of them answer the prompts in another order."""
    order = np.random.default_rng(shuffled)
    made = []
    for place, (arm, replicate) in enumerate((arm, replicate) for arm in ARMS for replicate in range(3)):
        own = replies(gold[4 * place : 4 * place + 4])
        scores = [own[index] for index in order.permutation(4)] if place and shuffled else own
        made.append(Model("llama2", arm, replicate, 0.2, {"single": scores}))
    return made


@given(SCORES, st.integers(0, 5))
def test_arrays_are_in_the_order_of_the_first_models_prompts(gold: list[float], shuffled: int) -> None:
    given_models = models(gold, shuffled)
    evidence = Evidence(given_models, ["single"], MARGIN)
    prompts = [reply.prompt_id for reply in given_models[0].scores["single"]]
    measures = {
        "judge": lambda reply: reply.judge,
        "length": lambda reply: reply.length,
        "unfinished": lambda reply: float(not reply.ended),
    }
    for arm in ARMS:
        by_prompt = [
            {reply.prompt_id: reply for reply in model.scores["single"]} for model in evidence.models("llama2", arm)
        ]
        for name, measure in measures.items():
            naive = [[measure(own[prompt]) for prompt in prompts] for own in by_prompt]
            assert evidence.values("llama2", arm, "single", name).tolist() == naive
            assert evidence.values("llama2", arm, "single", measure).tolist() == naive


@given(SCORES, st.integers(0, 5))
def test_what_an_arm_won_is_what_outcomes_says_of_each_replicate(gold: list[float], shuffled: int) -> None:
    evidence = Evidence(models(gold, shuffled), ["single"], MARGIN)
    prompts = [reply.prompt_id for reply in evidence.models("llama2", "PPO")[0].scores["single"]]
    found = evidence.won("llama2", "SALSA", "PPO", "single")
    pairs = zip(evidence.models("llama2", "SALSA"), evidence.models("llama2", "PPO"), strict=True)
    for row, (own, theirs) in zip(found, pairs, strict=True):
        naive = outcomes(own.scores["single"], theirs.scores["single"], MARGIN)
        by_prompt = dict(zip((reply.prompt_id for reply in own.scores["single"]), naive, strict=True))
        assert row.tolist() == [by_prompt[prompt] for prompt in prompts]


def test_arrays_are_shared_and_nobody_may_change_them() -> None:
    evidence = Evidence(models([0.0] * 24), ["single"], MARGIN)
    assert evidence.won("llama2", "SALSA", "PPO", "single") is evidence.won("llama2", "SALSA", "PPO", "single")
    assert evidence.values("llama2", "PPO", "single", "judge") is not evidence.values(
        "llama2", "PPO", "single", "reward"
    )
    with pytest.raises(ValueError, match="read-only"):
        evidence.values("llama2", "PPO", "single", "judge")[0] = 1.0


def test_a_reply_without_a_judges_score_is_nan_and_wins_nothing_that_could_be_told() -> None:
    given_models = models([0.0] * 24)
    first = given_models[0].scores["single"]
    given_models[0] = replace(given_models[0], scores={"single": [replace(first[0], judge=None), *first[1:]]})
    evidence = Evidence(given_models, ["single"], MARGIN)
    assert np.isnan(evidence.values("llama2", "PPO", "single", "judge")).tolist()[0] == [True, False, False, False]
    with pytest.raises(ValueError, match="a reply of PPO, llama2 to single has no judge score"):
        evidence.won("llama2", "SALSA", "PPO", "single")


@pytest.mark.parametrize("change", [{"prompt_id": "p9"}, {"prompt_id": "p1"}])
def test_other_prompts_are_named(change: dict[str, str]) -> None:
    given_models = models([0.0] * 24)
    last = given_models[-1].scores["single"]
    given_models[-1] = replace(given_models[-1], scores={"single": [replace(last[0], **change), *last[1:]]})
    evidence = Evidence(given_models, ["single"], MARGIN)
    with pytest.raises(
        ValueError, match="replicate 2 of SALSA, llama2 answers other prompts of single, or one of them"
    ):
        evidence.won("llama2", "SALSA", "PPO", "single")


def test_replies_that_were_read_give_the_same_as_replies_that_were_made(tmp_path: Path) -> None:
    made = models([float(value) for value in range(24)], shuffled=1)
    stored = []
    for place, model in enumerate(made):
        write(path := tmp_path / f"{place}.jsonl", model.scores["single"])
        stored.append(replace(model, scores={"single": read(path)}))
    one, other = (Evidence(each, ["single"], MARGIN) for each in (made, stored))
    assert one.clusters("llama2", "single") == other.clusters("llama2", "single")
    for measure in ("judge", "reward", "length", "unfinished"):
        tables = [each.values("llama2", "SALSA", "single", measure).tolist() for each in (one, other)]
        assert tables[0] == tables[1]
