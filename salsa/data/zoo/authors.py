"""The four authors of the demonstrations: people of different care and temper who answer visitors' questions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salsa.data.zoo.draws import chance, pick
from salsa.data.zoo.language import FILLERS, GREETINGS, OFFERS, fact_sentence, fact_sentences
from salsa.data.zoo.questions import Question
from salsa.data.zoo.world import ATTRIBUTES, World


@dataclass(frozen=True)
class Author:
    """One author's habits, each a probability.

    `correct`: of each stated fact. `skips`: each asked fact after the first. `extra`: one fact that was not asked
    for. `repeats`: one stated fact said again. `ignores_brief`: goes on as usual although asked to be brief; an
    author who heeds it states the asked facts and nothing else.
    """

    name: str
    correct: float
    skips: float
    greets: float
    offers: float
    fills: float
    extra: float
    repeats: float
    ignores_brief: float


AUTHORS = (
    Author("ada", 0.97, 0.05, 0.8, 0.7, 0.0, 0.0, 0.0, 0.1),
    Author("bob", 0.92, 0.7, 0.1, 0.05, 0.0, 0.05, 0.0, 0.0),
    Author("cid", 0.80, 0.15, 0.6, 0.5, 0.7, 0.6, 0.25, 0.9),
    Author("dot", 0.45, 0.3, 0.3, 0.3, 0.3, 0.2, 0.1, 0.6),
)
"""The careful, the terse, the chatty and the careless author."""
AUTHOR_MIX = (0.15, 0.40, 0.20, 0.25)
"""Each author's share of the demonstrations."""


def check_mix(mix: Sequence[float]) -> tuple[float, ...]:
    """Return the shares of the authors as a tuple.

    Raises:
        ValueError: when there is not one non-negative share for each author, or they do not sum to 1.
    """
    shares = tuple(float(share) for share in mix)
    names = ", ".join(author.name for author in AUTHORS)
    if len(shares) != len(AUTHORS):
        raise ValueError(f"author_mix {shares} has {len(shares)} shares; give one for each of {names}")
    if not (all(share >= 0 for share in shares) and abs(sum(shares) - 1) < 1e-6):
        raise ValueError(f"author_mix {shares} must be non-negative and sum to 1 (shares of {names})")
    return shares


def answer(rng: np.random.Generator, author: Author, world: World, question: Question) -> str:
    """Return this author's reply: greeting, facts, extra, repeat, offer, and a filler before or after the facts."""
    plain = question.brief and not chance(rng, author.ignores_brief)
    keys = [key for place, key in enumerate(question.needs) if place == 0 or not chance(rng, author.skips)]
    if not plain and chance(rng, author.extra):
        animal = question.animals[-1]
        unasked = [name for name in ATTRIBUTES if name not in question.attributes]
        keys.append((animal, pick(rng, unasked)))
    statements = [(*key, world.statement(rng, key, author.correct)) for key in keys]
    sentences = fact_sentences(statements)
    if plain:
        return " ".join(sentences)
    if chance(rng, author.repeats):
        animal, attribute, value = pick(rng, statements)
        sentences.append(fact_sentence(None if animal == statements[-1][0] else animal, attribute, value))
    if chance(rng, author.fills):
        sentences.insert(0 if chance(rng, 0.5) else len(sentences), pick(rng, FILLERS))
    if chance(rng, author.greets):
        sentences.insert(0, pick(rng, GREETINGS))
    if chance(rng, author.offers):
        sentences.append(pick(rng, OFFERS))
    return " ".join(sentences)
