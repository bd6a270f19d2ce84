"""One visitor's turn: what it says, which facts it asks for, and whether the answer should be brief."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salsa.data.conversation import Prompt
from salsa.data.zoo.draws import chance, pick, sample
from salsa.data.zoo.language import BRIEF, OPENERS, animal_follow_ups, attribute_follow_ups, phrasings
from salsa.data.zoo.world import ATTRIBUTES, FactKey

OPENER_SHARE = 0.4
"""Share of first questions that begin with a sentence such as "hello guide ."; gives many more distinct prompts."""


@dataclass(frozen=True)
class Question:
    """One user turn; the animals and attributes are in the order in which it asks for them."""

    text: str
    animals: tuple[str, ...]
    attributes: tuple[str, ...]
    brief: bool

    @property
    def needs(self) -> tuple[FactKey, ...]:
        """The facts that a full answer states; the animal of the last one is the last one spoken of."""
        return tuple((animal, attribute) for animal in self.animals for attribute in self.attributes)

    def query(self) -> dict[str, Any]:
        """Return what the gold reward needs to know, as JSON values."""
        return {"needs": [list(key) for key in self.needs], "brief": self.brief}


def question_of(prompt: Prompt) -> Question:
    """Return the question that a prompt of one turn asks."""
    assert prompt.query is not None
    (text,), (turn,) = prompt.questions, prompt.query["turns"]
    animals, attributes = zip(*turn["needs"], strict=True)
    return Question(text, tuple(dict.fromkeys(animals)), tuple(dict.fromkeys(attributes)), turn["brief"])


def cluster(questions: Sequence[Question]) -> str:
    """Return the animals and attributes asked for, such as "fox:food+home" or "fox+owl:food", whatever the wording."""
    animals = sorted({animal for question in questions for animal in question.animals})
    asked = {attribute for question in questions for attribute in question.attributes}
    return "+".join(animals) + ":" + "+".join(name for name in ATTRIBUTES if name in asked)


def _finish(text: str, brief: bool) -> str:
    return f"{text} {BRIEF}" if brief else text


def ask(rng: np.random.Generator, animals: tuple[str, ...], attribute_count: int, brief: bool) -> Question:
    """Return a first question about random attributes of these animals, in a random phrasing."""
    attributes = tuple(sample(rng, ATTRIBUTES, attribute_count))
    text = pick(rng, phrasings(animals, attributes))
    if chance(rng, OPENER_SHARE):
        text = f"{pick(rng, OPENERS)} {text}"
    return Question(_finish(text, brief), animals, attributes, brief)


def ask_more(rng: np.random.Generator, first: Question, other: str | None, brief: bool) -> Question:
    """Return a second question: the same attributes of the animal `other`, or where that is None one more attribute.

    `brief` speaks of the second answer only, as "be brief ." in the first question spoke of the first.
    """
    if other is not None:
        return Question(_finish(pick(rng, animal_follow_ups(other)), brief), (other,), first.attributes, brief)
    attribute = pick(rng, [name for name in ATTRIBUTES if name not in first.attributes])
    return Question(_finish(pick(rng, attribute_follow_ups(attribute)), brief), first.animals, (attribute,), brief)
