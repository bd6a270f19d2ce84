import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salsa.data.conversation import Prompt
from salsa.data.zoo.language import WORDS
from salsa.data.zoo.prompts import SUITE_SIZE, SUITES, draw_suites, draw_training_turns, prefixes, texts
from salsa.data.zoo.world import ANIMALS, UNSEEN_ANIMALS

DRAWN = draw_suites(0)
VOCABULARY = set(WORDS)


def animals(prompt: Prompt) -> set[str]:
    assert prompt.query is not None
    return {animal for turn in prompt.query["turns"] for animal, _ in turn["needs"]}


def brief_share(prompts: tuple[Prompt, ...]) -> float:
    return float(np.mean([turn["brief"] for prompt in prompts if prompt.query for turn in prompt.query["turns"]]))


def test_there_are_five_suites_of_more_than_four_hundred_prompts() -> None:
    assert SUITES == ("single", "two_turn", "hard", "unseen", "validation")
    assert SUITE_SIZE >= 400
    assert all(len(DRAWN.prompts[name]) == SUITE_SIZE for name in SUITES)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**40))
def test_no_conversation_is_in_two_prompts_of_any_suite_and_all_words_are_known(seed: int) -> None:
    suites = draw_suites(seed)
    said = [prompt.questions[:n] for name in SUITES for prompt in suites.prompts[name] for n in (1, 2)]
    singles = [texts for texts in said if len(texts) == 1]
    # A prompt of one question is listed twice above (n = 1 and n = 2), one of two questions once with each length.
    assert set(Counter(singles).values()) <= {1, 2}
    assert len({prompt.questions[0] for name in SUITES for prompt in suites.prompts[name]}) == 5 * SUITE_SIZE
    assert suites.reserved == frozenset(said)
    assert {word for texts in said for text in texts for word in text.split()} <= VOCABULARY
    rng = np.random.default_rng(seed)
    for _ in range(200):
        turns = draw_training_turns(rng, suites.reserved)
        assert suites.reserved.isdisjoint(prefixes(turns))
        assert {word for text in texts(turns) for word in text.split()} <= VOCABULARY


def test_suites_do_not_change_and_ids_are_unique() -> None:
    again = draw_suites(0)
    assert again == DRAWN
    assert draw_suites(1) != DRAWN
    assert len({prompt.id for name in SUITES for prompt in DRAWN.prompts[name]}) == 5 * SUITE_SIZE


@pytest.mark.parametrize("name", SUITES)
def test_every_stretch_of_a_suite_is_representative(name: str) -> None:
    expected = 0.5 if name == "hard" else 0.3
    for start in (0, 120, 240, 360):
        stretch = DRAWN.prompts[name][start : start + 120]
        assert brief_share(stretch) == pytest.approx(expected, abs=1e-9)
        known = UNSEEN_ANIMALS if name == "unseen" else ANIMALS
        assert set().union(*(animals(prompt) for prompt in stretch)) == set(known)
        categories = Counter(prompt.category for prompt in stretch)
        expected_categories = {
            "hard": {"three attributes": 40, "two animals": 80},
            "two_turn": {"other animal": 60, "other attribute": 60},
        }.get(name, {"one attribute": 60, "two attributes": 60})
        assert categories == expected_categories


def test_queries_are_json_and_agree_with_cluster_and_questions() -> None:
    for name in SUITES:
        for prompt in DRAWN.prompts[name]:
            assert prompt.query is not None
            assert json.loads(json.dumps(prompt.query)) == prompt.query
            turns = prompt.query["turns"]
            assert len(turns) == len(prompt.questions) == (2 if name == "two_turn" else 1)
            assert prompt.context == ()
            needs = [tuple(need) for turn in turns for need in turn["needs"]]
            assert prompt.cluster.split(":")[0] == "+".join(sorted({animal for animal, _ in needs}))
            assert set(prompt.cluster.split(":")[1].split("+")) == {attribute for _, attribute in needs}
            for question, turn in zip(prompt.questions, turns, strict=True):
                assert question.endswith("be brief .") == turn["brief"]
            # The first question names its animals in the order of the needs.
            named = [word for word in prompt.questions[0].split() if word in ANIMALS + UNSEEN_ANIMALS]
            assert named == list(dict.fromkeys(animal for animal, _ in turns[0]["needs"]))


def test_hard_questions_are_of_kinds_that_training_never_asks() -> None:
    for prompt in DRAWN.prompts["hard"]:
        assert prompt.query is not None
        needs = prompt.query["turns"][0]["needs"]
        assert len(needs) == 3 or len(animals(prompt)) == 2
    rng = np.random.default_rng(0)
    for _ in range(300):
        for turn in draw_training_turns(rng, DRAWN.reserved):
            assert len(turn.animals) == 1
            assert len(turn.attributes) <= 2


def test_training_keeps_its_shares_beside_the_suites() -> None:
    rng = np.random.default_rng(5)
    count = 6000
    drawn = [draw_training_turns(rng, DRAWN.reserved) for _ in range(count)]

    def check(hits: int, total: int, share: float) -> None:
        assert abs(hits - total * share) < 4.5 * np.sqrt(total * share * (1 - share))

    check(sum(len(turns) == 2 for turns in drawn), count, 0.25)
    check(sum(turns[0].brief for turns in drawn), count, 0.3)
    check(sum(len(turns[0].attributes) == 2 for turns in drawn), count, 0.5)
    follow_ups = [turns for turns in drawn if len(turns) == 2]
    check(sum(turns[1].brief for turns in follow_ups), len(follow_ups), 0.3)
    check(sum(turns[1].animals != turns[0].animals for turns in follow_ups), len(follow_ups), 0.5)
    for animal in ANIMALS:
        check(sum(turns[0].animals == (animal,) for turns in drawn), count, 1 / 12)
    assert len({texts(turns) for turns in drawn}) > 2500
