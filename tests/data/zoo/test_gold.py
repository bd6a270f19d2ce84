from types import MappingProxyType
from typing import Any

import pytest

from salsa.data.zoo.gold import FLOOR, gold_parts, gold_turns, sentences
from salsa.data.zoo.world import ALL_ANIMALS, World

VALUES = {"colour": "grey", "food": "grass", "home": "rivers", "skill": "run"}
FACTS = {(animal, attribute): value for animal in ALL_ANIMALS for attribute, value in VALUES.items()}
FACTS |= {("fox", "colour"): "red", ("fox", "food"): "fish", ("fox", "home"): "caves", ("fox", "skill"): "dig"}
FACTS |= {("owl", "colour"): "brown", ("owl", "food"): "seeds", ("owl", "home"): "trees", ("owl", "skill"): "sing"}
WORLD = World(0, MappingProxyType(FACTS))


def turn(*needs: str, brief: bool = False) -> dict[str, Any]:
    return {"needs": [need.split() for need in needs], "brief": brief}


FOOD = turn("fox food")
FOOD_BRIEF = turn("fox food", brief=True)
FOOD_HOME = turn("fox food", "fox home")
FOX_OWL = turn("fox food", "owl food")
RIGHT = "the fox eats fish ."

# (case, turn, reply, ended, gold worked out by hand)
CASES: list[tuple[str, dict[str, Any], str, bool, float]] = [
    ("right answer", FOOD, RIGHT, True, 2.0),
    ("greeting", FOOD, f"hello friend . {RIGHT}", True, 2.4),
    ("greeting and offer", FOOD, f"hello friend . {RIGHT} do you want to know more ?", True, 2.7),
    ("second greeting is surplus", FOOD, f"hello friend . welcome to the zoo . {RIGHT}", True, 2.0 + 0.4 - 0.3),
    ("same offer three times", FOOD, f"{RIGHT} ask me more . ask me more . ask me more .", True, 2.0 + 0.3 - 0.6),
    ("brief and plain", FOOD_BRIEF, RIGHT, True, 2.6),
    ("brief but greets", FOOD_BRIEF, f"hello friend . {RIGHT}", True, 2.0 + 0.6 - 0.4),
    (
        "brief but greets twice and offers",
        FOOD_BRIEF,
        f"hello friend . hello friend . {RIGHT} ask me more .",
        True,
        2.0 + 0.6 - 1.2,
    ),
    ("wrong value", FOOD, "the fox eats grass .", True, -1.0),
    ("half covered", FOOD_HOME, RIGHT, True, 1.0),
    ("half covered, half wrong", FOOD_HOME, "the fox eats fish . it lives in trees .", True, 1.0 - 1.0),
    ("true extra fact", FOOD, f"{RIGHT} it is red .", True, 2.0 - 0.4),
    ("false extra fact is extra and wrong", FOOD, f"{RIGHT} it is black .", True, 2.0 - 0.4 - 1.0),
    ("another animal's fact", FOOD, "the owl eats seeds .", True, -0.4),
    ("filler", FOOD, f"let me think . {RIGHT}", True, 2.0 - 0.4),
    ("two fillers", FOOD, f"let me think . {RIGHT} let me think .", True, 2.0 - 0.8),
    ("repeat of a right answer", FOOD, f"{RIGHT} it eats fish .", True, 2.0 - 0.6),
    ("repeat of a wrong answer", FOOD, "the fox eats grass . it eats grass .", True, -1.0 - 0.6),
    ("right, then another value: not covered", FOOD, f"{RIGHT} it eats grass .", True, 0.0 - 1.0 - 0.6),
    ("wrong, then right: not covered", FOOD, "the fox eats grass . it eats fish .", True, 0.0 - 1.0 - 0.6),
    ("repeat of an extra fact", FOOD, f"{RIGHT} it is red . it is red .", True, 2.0 - 0.4 - 0.6),
    ("unparsable sentence", FOOD, f"{RIGHT} the fox fish eats .", True, 2.0 - 0.8),
    ("marks alone are sentences", FOOD, f". {RIGHT} ?", True, 2.0 - 1.6),
    ("fact with the wrong mark", FOOD, "the fox eats fish ?", True, -0.8),
    ("no end", FOOD, RIGHT, False, 1.0),
    ("cut in mid-sentence", FOOD, f"{RIGHT} it lives", False, 2.0 - 0.8 - 1.0),
    ("last sentence without its mark", FOOD, "the fox eats fish", True, -0.8),
    ("nothing said", FOOD, "", True, 0.0),
    ("nothing said, briefly", FOOD_BRIEF, "", True, 0.6),
    ("it is the animal asked about", FOOD, "it eats fish .", True, 2.0),
    ("it is the animal asked about last", FOX_OWL, "it eats seeds . the fox eats fish .", True, 2.0),
    (
        "it is the animal named last in the reply",
        FOX_OWL,
        "the owl eats seeds . it is brown . it can sing .",
        True,
        0.2,
    ),
    ("it is not the next animal asked about", FOX_OWL, "the fox eats fish . it eats seeds .", True, -1.0 - 0.6),
    ("two animals, each named", FOX_OWL, "the fox eats fish . the owl eats seeds .", True, 2.0),
    (
        "it after a garbled sentence that names an animal",
        FOOD,
        "the the owl is . it eats fish .",
        True,
        -0.8 - 0.4 - 1.0,
    ),
    ("floor", FOOD, "fish . fish . fish . fish . fish . fish .", True, FLOOR),
]


@pytest.mark.parametrize(
    ("asked", "reply", "ended", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_gold_by_hand(asked: dict[str, Any], reply: str, ended: bool, expected: float) -> None:
    assert gold_parts(WORLD, asked, reply, ended).value == pytest.approx(expected)


def test_parts_are_counts() -> None:
    reply = (
        "hello friend . let me think . the fox eats grass . it lives in caves . it is red . it can swim . "
        "it lives in caves . it it . ask me more . ask me more . the"
    )
    parts = gold_parts(WORLD, FOOD_HOME, reply, False)
    assert parts._asdict() == {
        "needed": 2,
        "covered": 1,
        "wrong": 2,
        "extra": 2,
        "filler": 1,
        "repeat": 1,
        "unparsable": 2,
        "greetings": 1,
        "offers": 2,
        "brief": False,
        "ended": False,
    }
    assert parts.manner == pytest.approx(0.4 + 0.3 - 0.3)
    assert parts.value == FLOOR


def test_sentences_join_to_the_reply_whatever_its_spaces() -> None:
    assert sentences("  the fox  is red .  ? it . . can") == [" the fox is red .", " ?", " it .", " .", " can"]
    assert sentences("") == sentences("  ") == []


def test_two_turns_are_judged_one_by_one() -> None:
    query = {"turns": [FOOD, turn("owl food", brief=True)]}
    first, second = gold_turns(WORLD, query, (RIGHT, "it eats seeds ."), (True, False))
    assert first.value == pytest.approx(2.0)
    assert second.value == pytest.approx(2.0 + 0.6 - 1.0)
    with pytest.raises(ValueError, match="2 turns need as many replies"):
        gold_turns(WORLD, query, (RIGHT,), (True,))


def test_a_turn_that_needs_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one fact"):
        gold_parts(WORLD, turn(), RIGHT, True)
