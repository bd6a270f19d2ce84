"""Which prompts are shown: a function of the scores and of the prompts' order, told to the reader."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from salsa.evaluation.scores import ScoredReply
from salsa.report.compendium import contents
from salsa.report.compendium.replies import APART, EVENLY, Model, Shelf, select
from salsa.store.artifact import Store
from tests.report.compendium import factory

MODELS = [Model("SFT1", "sft", "a"), Model("PPO", "ppo", "b"), Model("SALSA", "salsa", "c")]


def reply(number: int, judge: float | None, reward: float) -> ScoredReply:
    return ScoredReply(f"p{number}", "c", "k", "s", f"q{number}", ("text",), judge, reward, 3.0, True)


scores = st.lists(st.tuples(*[st.floats(-5, 5)] * 3), min_size=1, max_size=30)


@given(scores, st.booleans())
def test_trained_models_lie_farther_apart_on_the_chosen_prompts_than_on_any_other(
    drawn: list[tuple[float, float, float]], judged: bool
) -> None:
    found = {
        model.name: {"s": [reply(n, each[m] if judged else None, each[m]) for n, each in enumerate(drawn)]}
        for m, model in enumerate(MODELS)
    }
    samples = list(select(MODELS, found))
    spread = {f"q{number}": abs(ppo - salsa) for number, (_, ppo, salsa) in enumerate(drawn)}
    apart = [sample.question for sample in samples if sample.apart]
    assert len(apart) == min(APART, len(drawn))
    assert len(samples) == min(APART + EVENLY, len(drawn))
    assert min(spread[question] for question in apart) >= max(
        (value for question, value in spread.items() if question not in apart), default=0.0
    )
    assert list(select(MODELS, found)) == samples


def test_of_prompts_on_which_models_are_equally_far_apart_the_earlier_ones_are_chosen() -> None:
    found = {model.name: {"s": [reply(number, 1.0, 1.0) for number in range(9)]} for model in MODELS}
    samples = list(select(MODELS, found))
    assert [sample.question for sample in samples] == ["q0", "q1", "q5"]
    assert [sample.apart for sample in samples] == [True, True, False]


def test_a_prompt_that_a_model_has_not_answered_is_not_shown() -> None:
    found = {model.name: {"s": [reply(number, 1.0, 1.0) for number in range(9)]} for model in MODELS}
    found["PPO"]["s"] = found["PPO"]["s"][4:]
    assert {sample.question for sample in select(MODELS, found)} <= {f"q{number}" for number in range(4, 9)}


def test_replies_come_from_the_store_with_both_scores(tmp_path: Path) -> None:
    store = Store(tmp_path)
    factory.study(store)
    found = contents.read(tmp_path)
    book = Shelf(found).book(found.results[contents.STUDY][0])
    assert book is not None
    assert book.about == "llama2, replicate 0"
    assert [model.name for model in book.models] == ["SFT1", "soup", "PPO", "SALSA"]
    assert {sample.suite for sample in book.samples} == set(factory.SUITES)
    first = book.samples[0]
    assert (first.question, first.apart) == ("question 7 of single?", True)
    assert first.replies["SALSA"].text == "SALSA says: the fox is red ."
    assert first.replies["SALSA"].judge == 2 * (first.replies["SALSA"].reward or 0) > 8
