"""Questions for training and the five fixed suites, with no conversation in two of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from salsa.data.conversation import Conversation, Prompt
from salsa.data.zoo.draws import blocks, chance, pick
from salsa.data.zoo.questions import Question, ask, ask_more, cluster
from salsa.data.zoo.world import ANIMALS, UNSEEN_ANIMALS
from salsa.seeds import generator

SUITE_SIZE = 480
"""Prompts in each suite."""
BRIEF_SHARE = 0.3
TWO_TURN_SHARE = 0.25
"""Share of two-turn conversations in training."""

Turns = tuple[Question, ...]
Texts = tuple[str, ...]
Draw = Callable[[], Turns]
"""Draws once more a conversation whose animal, numbers of facts and wishes for brevity are settled."""

# Brief and other questions in the proportion of BRIEF_SHARE, for a suite that must be balanced in every stretch.
_BRIEF_BLOCK = (True,) * 3 + (False,) * 7


def texts(turns: Turns) -> Texts:
    """Return what the visitor says in each turn."""
    return tuple(turn.text for turn in turns)


def prefixes(turns: Turns) -> Iterator[Texts]:
    """Yield the conversation up to each of its questions: each of them is a prompt in its own right."""
    said = texts(turns)
    for length in range(1, len(said) + 1):
        yield said[:length]


def _kind(turns: Turns) -> str:
    first = turns[0]
    if len(turns) > 1:
        return "other animal" if turns[1].animals != first.animals else "other attribute"
    if len(first.animals) > 1:
        return "two animals"
    return ("one attribute", "two attributes", "three attributes")[len(first.attributes) - 1]


def as_prompt(identity: str, turns: Turns, context: Conversation = ()) -> Prompt:
    """Return the record of these questions, with what the gold reward needs to know about each."""
    return Prompt(
        id=identity,
        questions=texts(turns),
        context=context,
        cluster=cluster(turns),
        category=_kind(turns),
        query={"turns": [turn.query() for turn in turns]},
    )


def _another(rng: np.random.Generator, animal: str) -> str:
    return pick(rng, [other for other in ANIMALS if other != animal])


def _one_turn(rng: np.random.Generator, animal: str, count: int, brief: bool) -> Turns:
    return (ask(rng, (animal,), count, brief),)


def _two_turns(
    rng: np.random.Generator, animal: str, count: int, moves_on: bool, brief: bool, second_brief: bool
) -> Turns:
    first = ask(rng, (animal,), count, brief)
    return first, ask_more(rng, first, _another(rng, animal) if moves_on else None, second_brief)


def _hard_turn(rng: np.random.Generator, animal: str, kind: tuple[int, int], brief: bool) -> Turns:
    animals = (animal,) if kind[0] == 1 else (animal, _another(rng, animal))
    return (ask(rng, animals, kind[1], brief),)


def _simple(rng: np.random.Generator, animals: tuple[str, ...]) -> Iterator[Draw]:
    """One or two attributes of one animal: the questions of training."""
    for factors in zip(blocks(rng, animals), blocks(rng, (1, 2)), blocks(rng, _BRIEF_BLOCK), strict=False):
        yield partial(_one_turn, rng, *factors)


def _two_turn(rng: np.random.Generator) -> Iterator[Draw]:
    """The same question, then another attribute or, as often, another animal; each turn may ask to be brief."""
    briefs = blocks(rng, _BRIEF_BLOCK), blocks(rng, _BRIEF_BLOCK)
    for factors in zip(blocks(rng, ANIMALS), blocks(rng, (1, 2)), blocks(rng, (True, False)), *briefs, strict=False):
        yield partial(_two_turns, rng, *factors)


def _hard(rng: np.random.Generator) -> Iterator[Draw]:
    """Three attributes of an animal, or one or two attributes of two animals; half of the questions are brief."""
    kinds = ((1, 3), (2, 1), (2, 2))
    for factors in zip(blocks(rng, ANIMALS), blocks(rng, kinds), blocks(rng, (True, False)), strict=False):
        yield partial(_hard_turn, rng, *factors)


_SUITES: dict[str, Callable[[np.random.Generator], Iterator[Draw]]] = {
    "single": partial(_simple, animals=ANIMALS),
    "two_turn": _two_turn,
    "hard": _hard,
    "unseen": partial(_simple, animals=UNSEEN_ANIMALS),
    "validation": partial(_simple, animals=ANIMALS),
}
SUITES = tuple(_SUITES)
"""In distribution; two questions in turn; harder than training; animals never asked about; for choosing settings."""


@dataclass(frozen=True)
class Suites:
    """All suites of a world, and the conversations that training must therefore leave alone."""

    prompts: dict[str, tuple[Prompt, ...]]
    reserved: frozenset[Texts]


def draw_suites(seed: int) -> Suites:
    """Return the suites of a world's seed, each in a fixed order of which every stretch is representative.

    Animals, numbers of attributes and "be brief ." come in shuffled blocks; wording and attributes are redrawn until
    no prefix of the conversation is in any suite yet.
    """
    reserved: set[Texts] = set()
    prompts: dict[str, tuple[Prompt, ...]] = {}
    for name, stream in _SUITES.items():
        drawn: list[Prompt] = []
        for draw in stream(generator(seed, 0, f"zoo suite {name}")):
            turns = draw()
            while not reserved.isdisjoint(prefixes(turns)):
                turns = draw()
            reserved.update(prefixes(turns))
            drawn.append(as_prompt(f"{name}-{len(drawn):03d}", turns))
            if len(drawn) == SUITE_SIZE:
                break
        prompts[name] = tuple(drawn)
    return Suites(prompts, frozenset(reserved))


def draw_training_turns(rng: np.random.Generator, reserved: frozenset[Texts]) -> Turns:
    """Return the questions of one training conversation, no prefix of which is in a suite.

    Animal, number of attributes, turns and brevity are drawn once and a collision redraws only the rest, so that the
    suites do not bend the shares that are stated for them.
    """
    animal = pick(rng, ANIMALS)
    count = pick(rng, (1, 2))
    brief = chance(rng, BRIEF_SHARE)
    draw: Draw = partial(_one_turn, rng, animal, count, brief)
    if chance(rng, TWO_TURN_SHARE):
        draw = partial(_two_turns, rng, animal, count, chance(rng, 0.5), brief, chance(rng, BRIEF_SHARE))
    turns = draw()
    while not reserved.isdisjoint(prefixes(turns)):
        turns = draw()
    return turns
