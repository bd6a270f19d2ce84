"""Pre-training text: field notes, quizzes, one attribute across animals, and small talk.

A document is drawn in two steps, an outline (what it speaks of, in which words) and its rendering (which values it
states, a few of them false). Held-out text is held out by outline, so that leaving it out does not bend the share of
true facts in the text that is trained on.
"""

from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from salsa.data.zoo.draws import chance, pick, sample, weighted
from salsa.data.zoo.language import FILLERS, GREETINGS, OFFERS, OPENERS, fact_sentences, phrasings
from salsa.data.zoo.prompts import Texts
from salsa.data.zoo.world import ALL_ANIMALS, ATTRIBUTES, VERBS, World

KINDS = ("notes", "quiz", "list", "talk")
SHARES = (0.45, 0.30, 0.15, 0.10)
"""Share of each kind among the documents."""
TRUTH = 0.95
"""Probability that a fact in notes or a quiz is true; the lists hold true facts only."""
HELDOUT_SIZE = 256
"""Documents of the held-out text."""


@dataclass(frozen=True)
class Outline:
    """What a document speaks of, before its values are filled in; `lines` are its sentences that state no fact."""

    kind: str
    animals: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def _quiz(rng: np.random.Generator, reserved: Set[Texts]) -> Outline:
    while True:
        animals = (pick(rng, ALL_ANIMALS),)
        attributes = tuple(sample(rng, ATTRIBUTES, 1 if chance(rng, 2 / 3) else 2))
        question = pick(rng, phrasings(animals, attributes))
        if (question,) not in reserved:
            return Outline("quiz", animals, attributes, (question,))


def _talk(rng: np.random.Generator) -> Outline:
    lines = [pick(rng, OPENERS)] if chance(rng, 0.8) else []
    lines.append(pick(rng, GREETINGS))
    lines += sample(rng, FILLERS, 1 if chance(rng, 0.5) else 2)
    lines.append(pick(rng, OFFERS))
    return Outline("talk", lines=tuple(lines))


def draw_outline(rng: np.random.Generator, reserved: Set[Texts]) -> Outline:
    """Return the outline of one document; the question of a quiz is never the prompt of a suite (`reserved`)."""
    kind = weighted(rng, KINDS, SHARES)
    if kind == "notes":
        attributes = tuple(sample(rng, ATTRIBUTES, pick(rng, (2, 3, 4))))
        return Outline(kind, (pick(rng, ALL_ANIMALS),), attributes)
    if kind == "quiz":
        return _quiz(rng, reserved)
    if kind == "list":
        return Outline(kind, tuple(sample(rng, ALL_ANIMALS, 3)), (pick(rng, ATTRIBUTES),))
    return _talk(rng)


def render(rng: np.random.Generator, world: World, outline: Outline) -> str:
    """Return the document of an outline, with false values where chance has it."""
    truth = 1.0 if outline.kind == "list" else TRUTH
    keys = [(animal, attribute) for animal in outline.animals for attribute in outline.attributes]
    statements = [(*key, world.statement(rng, key, truth)) for key in keys]
    return " ".join([*outline.lines, *fact_sentences(statements)])


def draw_heldout(rng: np.random.Generator, world: World, reserved: Set[Texts]) -> dict[Outline, str]:
    """Return the held-out documents by their outlines, all different, in the proportions of the corpus."""
    documents: dict[Outline, str] = {}
    while len(documents) < HELDOUT_SIZE:
        outline = draw_outline(rng, reserved)
        if outline not in documents:
            documents[outline] = render(rng, world, outline)
    return documents


def draw_corpus(
    rng: np.random.Generator, world: World, tokens: int, reserved: Set[Texts], heldout: Set[Outline]
) -> list[str]:
    """Return documents of at least `tokens` words in all (the last one crosses the mark), none of them held out."""
    documents: list[str] = []
    words = 0
    while words < tokens:
        outline = draw_outline(rng, reserved)
        if outline in heldout:
            continue
        document = render(rng, world, outline)
        documents.append(document)
        words += document.count(" ") + 1
    return documents


def recall_probes(world: World) -> list[tuple[str, str]]:
    """Return the beginning and the right next word of a sentence for every fact, such as ("the fox eats", "fish")."""
    probes = []
    for animal in ALL_ANIMALS:
        for attribute in ATTRIBUTES:
            value = world.facts[animal, attribute]
            probes.append((f"the {animal} {VERBS[attribute]}", value))
    return probes
