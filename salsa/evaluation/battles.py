"""Battles, the unit of every win rate: who met whom on which question, what came out, with what weight."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salsa.evaluation.resampling import Numbers, codes_of
from salsa.judging.verdict import Verdict

OUTCOMES = {"A>>B": 1.0, "A>B": 1.0, "A=B": 0.5, "B>A": 0.0, "B>>A": 0.0}
STRONG = ("A>>B", "B>>A")


@dataclass(frozen=True)
class Battle:
    """One comparison of `first` with `second`: `outcome` is 1 if the first won, 0.5 for a tie, 0 if it lost."""

    question: str
    cluster: str
    category: str
    turn: int
    first: str
    second: str
    outcome: float
    weight: float = 1.0


@dataclass(frozen=True)
class Match:
    """The games of two models on one turn of a question: `forward` shows `first` first, `backward` shows it second.

    A game is None where it is not there; it may be there without a verdict.
    """

    first: str
    second: str
    forward: Verdict | None
    backward: Verdict | None

    @property
    def asked(self) -> Verdict:
        """One of the games, for what both have in common."""
        game = self.forward or self.backward
        assert game is not None
        return game

    @property
    def outcomes(self) -> tuple[float | None, float | None]:
        """What each game says of `first` (1 won, 0.5 tie, 0 lost); None without a verdict."""
        forward = None if self.forward is None or self.forward.label is None else OUTCOMES[self.forward.label]
        backward = None if self.backward is None or self.backward.label is None else 1 - OUTCOMES[self.backward.label]
        return forward, backward

    @property
    def complete(self) -> bool:
        """Whether both games have a verdict."""
        return None not in self.outcomes


def matches(verdicts: Iterable[Verdict]) -> list[Match]:
    """Return the games of each pair of models on each turn of a question together, in the order of their first game.

    `first` is the compared model: that which is shown first in the game of order 0. Games of several prompts are no
    match, and a second game of the same order begins another one, so that none is lost.
    """
    found: dict[tuple[str, ...], list[list[Verdict | None]]] = {}
    names: dict[tuple[str, ...], tuple[str, str]] = {}
    for verdict in verdicts:
        if verdict.kind != "pair" or verdict.model_b is None:
            continue
        compared = (verdict.model_a, verdict.model_b) if verdict.order == 0 else (verdict.model_b, verdict.model_a)
        about = (verdict.suite, verdict.judge, verdict.prompt, verdict.category, verdict.question, str(verdict.turn))
        key, swapped = (*about, *compared), (*about, *compared[::-1])
        if key not in found and swapped in found and compared[0] != compared[1]:
            key = swapped
        names.setdefault(key, compared)
        shown_first = verdict.model_a == names[key][0] and (compared[0] != compared[1] or verdict.order == 0)
        place = 0 if shown_first else 1
        pairs = found.setdefault(key, [])
        if all(pair[place] is not None for pair in pairs):
            pairs.append([None, None])
        next(pair for pair in pairs if pair[place] is None)[place] = verdict
    return [Match(*names[key], *pair) for key, games in found.items() for pair in games]


def fastchat(match: Match) -> list[Battle]:
    """FastChat's rule: a game without a verdict drops the row; two verdicts that differ are a tie, as are two ties."""
    forward, backward = match.outcomes
    if forward is None or backward is None:
        return []
    return [_battle(match, forward if forward == backward else 0.5, 1.0)]


def half_votes(match: Match) -> list[Battle]:
    """Our rule: each game with a verdict is half a vote, whatever the other one says."""
    return [_battle(match, outcome, 0.5) for outcome in match.outcomes if outcome is not None]


def arena(match: Match, release: str, strong: float) -> list[Battle]:
    """Arena-Hard's rule: each game is a battle, a strong verdict counts `strong` times.

    In the current release a game without a verdict drops the other one, too; in the first it does not.
    """
    if release == "current" and not match.complete:
        return []
    found = []
    for game, outcome in zip((match.forward, match.backward), match.outcomes, strict=True):
        if game is not None and outcome is not None:
            found.append(_battle(match, outcome, strong if game.label in STRONG else 1.0))
    return found


def _battle(match: Match, outcome: float, weight: float) -> Battle:
    asked = match.asked
    return Battle(asked.question, asked.cluster, asked.category, asked.turn, match.first, match.second, outcome, weight)


class Table:
    """Battles as arrays: models and clusters as codes. Battles of a model against itself are left out."""

    def __init__(self, battles: Iterable[Battle], models: Sequence[str] | None = None) -> None:
        self.battles = [battle for battle in battles if battle.first != battle.second]
        names = dict.fromkeys(models or ())
        for battle in self.battles:
            names.update({battle.first: None, battle.second: None})
        self.models = list(names)
        code = {name: index for index, name in enumerate(self.models)}
        self.first = _codes(self.battles, lambda battle: code[battle.first])
        self.second = _codes(self.battles, lambda battle: code[battle.second])
        self.outcome = np.array([battle.outcome for battle in self.battles], dtype=np.float64)
        self.weight = np.array([battle.weight for battle in self.battles], dtype=np.float64)
        self.cluster, self.clusters = codes_of([battle.cluster for battle in self.battles])

    def __len__(self) -> int:
        return len(self.battles)

    def wins(self) -> Numbers:
        """Return [clusters, models, models] of the weight that the row's model won from the column's."""
        found = np.zeros((self.clusters, len(self.models), len(self.models)))
        np.add.at(found, (self.cluster, self.first, self.second), self.weight * self.outcome)
        np.add.at(found, (self.cluster, self.second, self.first), self.weight * (1 - self.outcome))
        return found


def _codes(battles: Sequence[Battle], code: Callable[[Battle], int]) -> NDArray[np.int64]:
    return np.fromiter((code(battle) for battle in battles), dtype=np.int64, count=len(battles))
