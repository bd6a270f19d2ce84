"""From a judge's verdicts to one number a question: mean scores of single replies, shares of games that were won."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from salsa.evaluation.battles import OUTCOMES
from salsa.judging.verdict import Verdict


@dataclass(frozen=True)
class Judgment:
    """What a judge that reads says of one row's replies to one suite: `values` by question.

    Of a comparison with the row `opponent`, or with the outside model `baseline`, they are shares of games won, a tie
    counting one half; with neither they are scores of single replies. A question without any verdict is not in them.
    """

    row: str
    suite: str
    values: Mapping[str, float]
    opponent: str | None = None
    baseline: str | None = None
    fingerprint: str = ""

    @property
    def against(self) -> str | None:
        """The name of the model that the row is compared with; None for scores."""
        return self.opponent or self.baseline

    def mirrored(self) -> "Judgment":
        """Return the same comparison as the opponent's. Raises ValueError where there is no opponent."""
        if self.opponent is None:
            raise ValueError(f"the judgment of {self.row!r} on {self.suite!r} compares it with no other row")
        values = {question: 1 - value for question, value in self.values.items()}
        return replace(self, row=self.opponent, opponent=self.row, values=values)


def scores(verdicts: Iterable[Verdict], model: str) -> dict[str, float]:
    """Return the mean score of a model's replies to each question, over its turns that have one."""
    found: dict[str, list[float]] = {}
    for verdict in verdicts:
        if verdict.kind == "single" and verdict.model_a == model and verdict.score is not None:
            found.setdefault(verdict.question, []).append(float(verdict.score))
    return _means(found)


def shares(verdicts: Iterable[Verdict], model: str, other: str) -> dict[str, float]:
    """Return the share of its games with another model that a model won on each question, a tie counting one half.

    Every game with a verdict counts alike, whichever order and turn it is of. Games of other models are left out.
    """
    found: dict[str, list[float]] = {}
    for verdict in verdicts:
        if verdict.label is None or {verdict.model_a, verdict.model_b} != {model, other}:
            continue
        outcome = OUTCOMES[verdict.label]
        found.setdefault(verdict.question, []).append(outcome if verdict.model_a == model else 1 - outcome)
    return _means(found)


def _means(found: Mapping[str, list[float]]) -> dict[str, float]:
    return {question: sum(values) / len(values) for question, values in found.items()}
