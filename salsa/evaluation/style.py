"""Style control: what is left of a win rate when length and Markdown are held equal, by the rules of Arena-Hard."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salsa.evaluation.bradley_terry import BASE
from salsa.evaluation.resampling import Numbers, codes_of, drawn_counts, percentiles

FEATURES = ("length", "headers", "lists", "bold")
_STEPS, _HALVINGS = 100, 30
_BLOCK = 2_000_000  # numbers of one block of rounds and rows
_CODE = re.compile(r"```[^`]*```")
_HEADERS = re.compile(r"^#{1,6}\s", re.MULTILINE)
# The release counts each kind by itself: what one takes up is there for the other.
_LISTS = re.compile(r"^\s*\d+\.\s", re.MULTILINE), re.compile(r"^\s*[-*+]\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*"), re.compile(r"__[^_\n]+__")
_WORDS = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Style:
    """The style of a reply: its length (tokens, or words and marks), and counts of Markdown outside code blocks."""

    length: float
    headers: int
    lists: int
    bold: int

    def as_row(self) -> tuple[float, ...]:
        """Return the numbers in the order of `FEATURES`."""
        return float(self.length), float(self.headers), float(self.lists), float(self.bold)


def style(text: str, tokens: int | None = None) -> Style:
    """Return the style of a reply; without a count of tokens, words and marks are counted."""
    prose = _CODE.sub("", text)
    size = float(len(_WORDS.findall(text)) if tokens is None else tokens)
    lists, bold = (sum(len(kind.findall(prose)) for kind in kinds) for kinds in (_LISTS, _BOLD))
    return Style(size, len(_HEADERS.findall(prose)), lists, bold)


@dataclass(frozen=True)
class Styled:
    """A battle with the styles of both replies: the model won `won` of `weight` from the baseline."""

    model: str
    cluster: str
    won: float
    weight: float
    own: Style
    other: Style


@dataclass(frozen=True)
class Controlled:
    """Expected win rates against the baseline with style held equal, their clustered intervals, and coefficients.

    Positive coefficients say that the judge prefers more of it; `constant` features never differ in any battle.
    """

    win_rates: dict[str, tuple[float, float | None, float | None]]
    coefficients: dict[str, float]
    constant: tuple[str, ...]
    battles: int


@dataclass(frozen=True)
class Rule:
    """A release's regression.

    `contrast` says how features of two replies [battles, features] differ; differences are z-scored with a deviation
    of `freedom` degrees less than battles. `c` is that of the logistic regression: the loss is half the squared
    coefficients over C plus the log-losses, in which each battle counts `times`. `centred` gives the baseline a
    coefficient too; else it has 0.
    """

    text: str
    contrast: Callable[[Numbers, Numbers], Numbers]
    freedom: int
    c: float
    times: float
    centred: bool


def _ratios(a: Numbers, b: Numbers) -> Numbers:
    return np.asarray((a - b) / (a + b + 1))


def _densities(a: Numbers, b: Numbers) -> Numbers:
    """Return the relative difference of the lengths, and those of how much of the rest there is for each token."""
    both = a[:, :1] + b[:, :1]
    length = (a[:, :1] - b[:, :1]) / np.where(both > 0, both, 1.0)
    return np.hstack([length, _ratios(a[:, 1:] / (a[:, :1] + 1), b[:, 1:] / (b[:, :1] + 1))])


RULES = {
    "first": Rule("first release: lengths and counts as (a - b) / (a + b + 1); C = 1", _ratios, 0, 1.0, 2.0, True),
    # The release has no penalty; this one is too small to be seen, and keeps a model that won every battle finite.
    "current": Rule(
        "current release: length as (a - b) / (a + b), counts for each token as (a - b) / (a + b + 1); no penalty",
        _densities,
        1,
        1e6,
        1.0,
        False,
    ),
}
"""The rules by the releases' names."""


def differences(
    battles: Sequence[Styled], names: Sequence[str], rule: Rule = RULES["first"]
) -> tuple[Numbers, list[str]]:
    """Return [battles, features] of the rule's contrasts z-scored over battles by weight, and which never vary.

    a is the baseline's reply, as in the battles of Arena-Hard's first release; which one it is changes no coefficient.
    """
    own = np.array([battle.own.as_row() for battle in battles])
    other = np.array([battle.other.as_row() for battle in battles])
    weight = np.array([battle.weight for battle in battles])
    raw = rule.contrast(other, own)[:, [FEATURES.index(name) for name in names]]
    mean = np.average(raw, axis=0, weights=weight)
    spread = np.sqrt(np.average((raw - mean) ** 2, axis=0, weights=weight))
    spread *= math.sqrt(weight.sum() / max(weight.sum() - rule.freedom, 1.0))
    constant = spread < 1e-12
    scaled = np.where(constant, 0.0, (raw - mean) / np.where(constant, 1.0, spread))
    return scaled, [name for name, same in zip(names, constant, strict=True) if same]


def controlled(
    battles: Sequence[Styled],
    names: Sequence[str],
    rng: np.random.Generator,
    rounds: int = 200,
    level: float = 0.95,
    release: str = "first",
) -> Controlled:
    """Return what is left when the named features are held equal, with intervals from drawing clusters.

    A logistic regression on models and features by the release's rule. Features are scaled once, not in every draw.
    Raises ValueError for no battles.
    """
    if not battles:
        raise ValueError("no battles whose two replies are known: style cannot be controlled")
    rule = RULES[release]
    battles = sorted(battles, key=lambda battle: battle.model)
    scaled, constant = differences(battles, names, rule)
    models = sorted({battle.model for battle in battles})
    column = {model: index for index, model in enumerate(models)}
    weight = np.array([rule.times * battle.weight for battle in battles])
    lost = np.array([1 - battle.won / battle.weight for battle in battles])
    problem = Regression(np.array([column[battle.model] for battle in battles]), scaled, lost, rule.c, rule.centred)
    fitted = problem.fit(weight[None])
    found = _win_rates(fitted, len(models))[0]
    low, high = np.full(len(models), np.nan), np.full(len(models), np.nan)
    codes, groups = codes_of([battle.cluster for battle in battles])
    if groups > 1:
        draws = [
            _win_rates(problem.fit(weight * part[:, codes], fitted), len(models))
            for block in drawn_counts(groups, rounds, rng)
            for part in np.array_split(block, 1 + len(block) * len(battles) // _BLOCK)
        ]
        low, high = percentiles(np.concatenate(draws), level)
    ends = [(None, None) if np.isnan(a) else (float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return Controlled(
        {model: (float(found[index]), *ends[index]) for model, index in column.items()},
        {name: float(value) for name, value in zip(names, fitted[0, 1 + len(models) :], strict=True)},
        tuple(constant),
        len(battles),
    )


def _win_rates(coefficients: Numbers, models: int) -> Numbers:
    """Return [rounds, models] of expected win rates against the baseline."""
    strengths = coefficients[:, : 1 + models] * math.log(BASE)
    return 1 / (1 + np.exp(strengths[:, :1] - strengths[:, 1:]))


class Regression:
    """Logistic regression of the baseline's success on itself, one model a row and features; penalised, no intercept.

    `c` and `centred` are those of a `Rule`. The columns are those of Arena-Hard's first release: the baseline has
    log(10), the row's model -log(10). Rows are ordered by model, so that what belongs to a model is summed in one go,
    for all rounds of a bootstrap together.
    """

    def __init__(
        self, model: NDArray[np.int64], features: Numbers, target: Numbers, c: float = 1.0, centred: bool = True
    ) -> None:
        self.c, self.free = c, slice(0 if centred else 1, None)
        self.model, self.features, self.target = model, features, target
        self.starts = np.flatnonzero(np.diff(model, prepend=-1))
        self.models = len(self.starts)

    def fit(self, weight: Numbers, start: Numbers | None = None) -> Numbers:
        """Return the coefficients [rounds, baseline and models and features] for weights [rounds, rows].

        Newton's method; a step that does not lower a round's loss is halved.
        """
        size = 1 + self.models + self.features.shape[1]
        found = np.zeros((len(weight), size)) if start is None else np.repeat(start, len(weight), axis=0)
        logit = self._logits(found)
        loss = self._loss(logit, weight, found)
        for _ in range(_STEPS):
            step = self._step(logit, weight, found)
            share = np.ones((len(weight), 1))
            for _ in range(_HALVINGS):
                tried = found - share * step
                logit = self._logits(tried)
                new = self._loss(logit, weight, tried)
                worse = new > loss + 1e-12 * np.abs(loss)
                if not worse.any():
                    break
                share[worse] /= 2
            found, loss = tried, new
            if np.abs(share * step).max() < 1e-9:
                break
        return found

    def _logits(self, found: Numbers) -> Numbers:
        strengths = math.log(BASE) * (found[:, :1] - found[:, 1 : 1 + self.models])
        return strengths[:, self.model] + found[:, 1 + self.models :] @ self.features.T

    def _loss(self, logit: Numbers, weight: Numbers, found: Numbers) -> Numbers:
        losses = weight * (np.logaddexp(0.0, logit) - self.target * logit)
        return losses.sum(axis=1) + (found**2).sum(axis=1) / (2 * self.c)

    def _step(self, logit: Numbers, weight: Numbers, found: Numbers) -> Numbers:
        chance = 1 / (1 + np.exp(-logit))
        gradient = self._by_column(weight * (chance - self.target)) + found / self.c
        curve = weight * chance * (1 - chance)
        size, models = found.shape[1], self.models
        hessian = np.zeros((len(found), size, size))
        own = math.log(BASE) ** 2 * np.add.reduceat(curve, self.starts, axis=1)
        diagonal = np.arange(1, 1 + models)
        hessian[:, diagonal, diagonal] = own
        hessian[:, 0, diagonal] = hessian[:, diagonal, 0] = -own
        hessian[:, 0, 0] = own.sum(axis=1)
        for index, feature in enumerate(self.features.T):
            crossed = self._by_column(curve * feature)
            hessian[:, 1 + models + index] = crossed
            hessian[:, :, 1 + models + index] = crossed
        hessian[:, np.arange(size), np.arange(size)] += 1 / self.c
        step = np.zeros_like(found)
        free = self.free
        step[:, free] = np.linalg.solve(hessian[:, free, free], gradient[:, free, None])[..., 0]
        return step

    def _by_column(self, values: Numbers) -> Numbers:
        """Return the product of values [rounds, rows] with the design matrix."""
        own = math.log(BASE) * np.add.reduceat(values, self.starts, axis=1)
        return np.concatenate([own.sum(axis=1, keepdims=True), -own, values @ self.features], axis=1)
