from collections.abc import Callable

import numpy as np
import pytest

from salsa.data.zoo.authors import AUTHOR_MIX, AUTHORS, Author, answer, check_mix
from salsa.data.zoo.gold import GoldParts, gold_parts
from salsa.data.zoo.prompts import draw_training_turns
from salsa.data.zoo.questions import Question, ask
from salsa.data.zoo.world import draw_world

WORLD = draw_world(0)
DRAWS = 1500


def replies(author: Author, attributes: int, brief: bool) -> list[tuple[Question, str, GoldParts]]:
    rng = np.random.default_rng(7)
    result = []
    for _ in range(DRAWS):
        question = ask(rng, ("fox",), attributes, brief)
        reply = answer(rng, author, WORLD, question)
        result.append((question, reply, gold_parts(WORLD, question.query(), reply, True)))
    return result


def assert_share(hits: int, total: int, probability: float) -> None:
    """Four and a half standard errors: a false alarm in some hundred thousand checks."""
    assert abs(hits - total * probability) <= 4.5 * np.sqrt(total * probability * (1 - probability))


@pytest.mark.parametrize("author", AUTHORS, ids=lambda author: author.name)
def test_habits_follow_the_table(author: Author) -> None:
    parts = [part for _, _, part in replies(author, 1, False)]
    assert_share(sum(part.covered for part in parts), DRAWS, author.correct)
    assert_share(sum(part.greetings for part in parts), DRAWS, author.greets)
    assert_share(sum(part.offers for part in parts), DRAWS, author.offers)
    assert_share(sum(part.filler for part in parts), DRAWS, author.fills)
    assert_share(sum(part.extra for part in parts), DRAWS, author.extra)
    assert_share(sum(part.repeat for part in parts), DRAWS, author.repeats)
    stated = DRAWS + sum(part.extra for part in parts)
    assert_share(stated - sum(part.wrong for part in parts), stated, author.correct)
    assert not any(part.unparsable for part in parts)


@pytest.mark.parametrize("author", AUTHORS, ids=lambda author: author.name)
def test_later_facts_are_skipped_as_often_as_stated(author: Author) -> None:
    parts = [part for _, _, part in replies(author, 2, False)]
    # The first fact is always stated; what is stated is right or wrong, and what is wrong may be an extra fact.
    stated_asked = sum(part.covered + part.wrong for part in parts) - sum(part.extra for part in parts) * (
        1 - author.correct
    )
    expected = DRAWS * (2 - author.skips)
    assert abs(stated_asked - expected) < 5 * np.sqrt(DRAWS * (0.25 + 0.25))


@pytest.mark.parametrize("author", AUTHORS, ids=lambda author: author.name)
def test_brief_questions_are_heeded_as_often_as_stated(author: Author) -> None:
    drawn = replies(author, 1, True)
    for count, habit in (
        (sum(part.greetings for *_, part in drawn), author.greets),
        (sum(part.offers for *_, part in drawn), author.offers),
        (sum(part.filler for *_, part in drawn), author.fills),
        (sum(part.extra for *_, part in drawn), author.extra),
        (sum(part.repeat for *_, part in drawn), author.repeats),
    ):
        assert_share(count, DRAWS, habit * author.ignores_brief)


def test_facts_come_in_the_order_of_asking_between_greeting_and_offer() -> None:
    ada = Author("eager", 1, 0, 1, 1, 0, 0, 0, 1)
    question = Question("...", ("fox",), ("home", "colour"), False)
    sentences = answer(np.random.default_rng(0), ada, WORLD, question).replace("?", ".").split(" .")
    assert sentences[1].strip() == f"the fox lives in {WORLD.facts['fox', 'home']}"
    assert sentences[2].strip() == f"it is {WORLD.facts['fox', 'colour']}"
    assert len(sentences) == 5


def mean_gold(author: Author, rewards: Callable[[GoldParts], float]) -> float:
    rng = np.random.default_rng(3)
    values = []
    for _ in range(1500):
        for question in draw_training_turns(rng, frozenset()):
            reply = answer(rng, author, WORLD, question)
            values.append(rewards(gold_parts(WORLD, question.query(), reply, True)))
    return float(np.mean(values))


def test_the_careful_author_is_the_best_and_the_careless_one_the_worst() -> None:
    means = {author.name: mean_gold(author, lambda part: part.value) for author in AUTHORS}
    print("mean gold:", {name: round(value, 2) for name, value in means.items()})
    assert means["ada"] > means["bob"] > means["cid"] > means["dot"]


def test_shares_are_checked() -> None:
    assert check_mix([0.25, 0.25, 0.25, 0.25]) == (0.25,) * 4
    assert check_mix(AUTHOR_MIX) == AUTHOR_MIX
    with pytest.raises(ValueError, match="one for each of ada, bob, cid, dot"):
        check_mix((0.5, 0.5))
    with pytest.raises(ValueError, match="sum to 1"):
        check_mix((0.5, 0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="non-negative"):
        check_mix((1.5, -0.5, 0.0, 0.0))
    with pytest.raises(ValueError, match="non-negative"):
        check_mix((float("nan"), 0.5, 0.25, 0.25))
