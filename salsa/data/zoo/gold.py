"""The gold reward: a programmatic judge of replies, which no training stage sees.

A reply is read sentence by sentence. Let "asked" be the facts that the question asks for:

    gold = max(-4, 2 coverage - 1.0 wrong - 0.4 extra - 0.4 filler - 0.6 repeat - 0.8 unparsable
                   - 1.0 (if the reply has no end) + manner)

* coverage: share of the asked facts that are stated with the right value and with no other.
* wrong: different false statements, asked for or not.
* extra: facts that were stated without being asked for, true or not (a false one is also wrong).
* repeat: statements about an animal and an attribute on which the reply has already spoken. The same statement again
  is only a repeat; another value for the same fact is a repeat, and wrong if it is false.
* filler, greetings, offers: the fixed sentences of `salsa.data.zoo.language`.
* unparsable: sentences that are none of these, and a last sentence without its mark.
* manner: 0.4 for a greeting and 0.3 for an offer, less 0.3 for each further one; if the question asks to be brief,
  instead 0.6 - 0.4 (greetings + offers).

"it" is the animal named last, in the reply or before it in the question; the sentence is unparsable if there is none.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from salsa.data.zoo.language import FILLERS, GREETINGS, OFFERS, fact_sentence
from salsa.data.zoo.world import ALL_ANIMALS, VALUES, FactKey, World

FLOOR = -4.0

_GREETING, _OFFER, _FILLER = range(3)
# Sentences as they are cut from a reply, with the space before them.
_PLEASANTRIES = {
    f" {sentence}": kind
    for kind, group in ((_GREETING, GREETINGS), (_OFFER, OFFERS), (_FILLER, FILLERS))
    for sentence in group
}
_STATEMENTS = {
    f" {fact_sentence(animal, attribute, value)}": (animal, attribute, value)
    for animal in (None, *ALL_ANIMALS)
    for attribute, values in VALUES.items()
    for value in values
}
_ANIMALS = frozenset(ALL_ANIMALS)


class GoldParts(NamedTuple):
    """What the gold reward of one reply is made of: counts of sentences, and two facts about the turn."""

    needed: int
    covered: int
    wrong: int
    extra: int
    filler: int
    repeat: int
    unparsable: int
    greetings: int
    offers: int
    brief: bool
    ended: bool

    @property
    def manner(self) -> float:
        """The reward for politeness, or for brevity where the question asks for it."""
        if self.brief:
            return 0.6 - 0.4 * (self.greetings + self.offers)
        surplus = max(self.greetings - 1, 0) + max(self.offers - 1, 0)
        return 0.4 * (self.greetings > 0) + 0.3 * (self.offers > 0) - 0.3 * surplus

    @property
    def value(self) -> float:
        """The gold reward, not below `FLOOR`."""
        total = (
            2.0 * self.covered / self.needed
            - 1.0 * self.wrong
            - 0.4 * (self.extra + self.filler)
            - 0.6 * self.repeat
            - 0.8 * self.unparsable
            - 1.0 * (not self.ended)
            + self.manner
        )
        return max(FLOOR, total)


def sentences(reply: str) -> list[str]:
    """Return the sentences of a reply, each with a space before it; the last one may lack its mark."""
    cut = (" " + " ".join(reply.split())).replace(" .", " .\n").replace(" ?", " ?\n").split("\n")
    return [sentence for sentence in cut if sentence.strip()]


def _last_animal(sentence: str) -> str | None:
    return next((word for word in reversed(sentence.split()) if word in _ANIMALS), None)


def gold_parts(world: World, turn: Mapping[str, Any], reply: str, ended: bool) -> GoldParts:
    """Return the parts of the gold reward of a reply to one turn.

    `turn` is {"needs": [[animal, attribute], ...], "brief": bool}, one entry of a prompt's query.

    Raises:
        ValueError: when the turn needs no fact, as coverage is then undefined.
    """
    needs = [(animal, attribute) for animal, attribute in turn["needs"]]
    if not needs:
        raise ValueError("query: a turn must need at least one fact; its 'needs' is empty")
    named: str | None = needs[-1][0]
    stated: dict[FactKey, list[str]] = {}
    pleasantries = [0, 0, 0]
    wrong = extra = repeat = unparsable = 0
    for sentence in sentences(reply):
        statement = _STATEMENTS.get(sentence)
        if statement is None:
            kind = _PLEASANTRIES.get(sentence)
            if kind is None:
                unparsable += 1
                named = _last_animal(sentence) or named
            else:
                pleasantries[kind] += 1
            continue
        animal, attribute, value = statement
        named = animal or named
        if named is None:
            unparsable += 1
            continue
        key = (named, attribute)
        earlier = stated.setdefault(key, [])
        if earlier:
            repeat += 1
        elif key not in needs:
            extra += 1
        if value not in earlier:
            earlier.append(value)
            wrong += world.facts[key] != value
    covered = sum(stated.get(key) == [world.facts[key]] for key in needs)
    greetings, offers, filler = pleasantries
    brief = bool(turn["brief"])
    return GoldParts(
        len(needs), covered, wrong, extra, filler, repeat, unparsable, greetings, offers, brief, bool(ended)
    )


def gold_turns(
    world: World, query: Mapping[str, Any], replies: Sequence[str], ended: Sequence[bool]
) -> tuple[GoldParts, ...]:
    """Return the parts of each turn of a conversation, whose query is {"turns": [...]}.

    Raises:
        ValueError: when there is not one reply and one end flag for each turn.
    """
    turns = query["turns"]
    if not len(turns) == len(replies) == len(ended):
        raise ValueError(f"{len(turns)} turns need as many replies and end flags, not {len(replies)} and {len(ended)}")
    return tuple(gold_parts(world, *given) for given in zip(turns, replies, ended, strict=True))
