"""How each row did on each prompt: by a judge's scores, or by the verdicts of one that reads and compares."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from salsa.evaluation.judgments import Judgment
from salsa.evaluation.scores import ScoredReply
from salsa.evaluation.statistics import outcomes

Suites = Mapping[str, Sequence[ScoredReply]]
Numbers = NDArray[np.float64]


class ByScores:
    """Rows are compared by the judge's scores of their replies: the higher one wins, within the margin it is a tie."""

    gaps = False
    """Whether prompts may lack an outcome; NaN stands for it."""

    def __init__(self, replies: Mapping[str, Suites], tie_margin: float | None, suites: Sequence[str]) -> None:
        self.replies = replies
        self.scored = self.compared = tuple(suites)
        self._margin = tie_margin

    def scores(self, row: str, suite: str) -> Numbers | None:
        """Return the judge's score of each reply, None without any; ValueError names a reply that alone has none."""
        scored = self.replies[row][suite]
        if all(reply.judge is None for reply in scored):
            return None
        unjudged = next((reply.prompt_id for reply in scored if reply.judge is None), None)
        if unjudged is not None:
            raise ValueError(f"row {row!r}, suite {suite!r}: prompt {unjudged!r} has no judge score, others have")
        return np.array([reply.judge for reply in scored], dtype=np.float64)

    def won(self, row: str, suite: str, opponent: str) -> Numbers | None:
        """Return 1, 0.5 or 0 for each prompt; None where either row has no scores.

        Raises ValueError naming both rows, the suite and the prompt that only one of them answered.
        """
        others = self.replies.get(opponent, {}).get(suite, ())
        if self.scores(row, suite) is None or all(reply.judge is None for reply in others):
            return None
        if self._margin is None:
            raise ValueError("the judge scores replies, so it needs a tie_margin: give 0 if only equal scores are ties")
        try:
            return outcomes(self.replies[row][suite], others, self._margin)
        except ValueError as error:
            raise ValueError(f"{row!r} against {opponent!r} on suite {suite!r}: {error}") from error

    def fingerprints(self, row: str, suite: str) -> dict[str, str]:
        """Return what names the artifacts behind the outcomes: nothing beyond what the evidence says."""
        return {}


class ByVerdicts:
    """Rows are compared by what the judge said of their games; a row of the same model ties on every prompt.

    `replies` get the mean single score of their prompt as their judge score. A comparison counts for both of its rows,
    and what was said of a model for every row that is this model.
    """

    gaps = True

    def __init__(self, replies: Mapping[str, Suites], judgments: Sequence[Judgment], models: Mapping[str, str]) -> None:
        """Take the rows' replies, what was judged, and the fingerprint of each row's model."""
        self._models = models
        self._found: dict[tuple[str, str, str | None], Judgment] = {}
        for each in [*judgments, *(each.mirrored() for each in judgments if each.opponent is not None)]:
            others: list[str | None] = [*self._rows_of(each.opponent)] or [each.baseline]
            for row, against in product(self._rows_of(each.row), others):
                self._found.setdefault((row, each.suite, against), each)
        self.scored = tuple(dict.fromkeys(each.suite for each in judgments if each.against is None))
        self.compared = tuple(dict.fromkeys(each.suite for each in judgments if each.opponent is not None))
        self._check_questions(replies)
        self.replies = {
            row: {suite: self._judged(row, suite, given) for suite, given in suites.items()}
            for row, suites in replies.items()
        }

    def scores(self, row: str, suite: str) -> Numbers | None:
        """Return the mean single score of each prompt, NaN for one without; None where there is none at all."""
        return self._values(self.replies[row][suite], self._found.get((row, suite, None)))

    def won(self, row: str, suite: str, opponent: str) -> Numbers | None:
        """Return the share of its games that a row won on each prompt, NaN without any; None where there is none."""
        replies = self.replies[row][suite]
        if suite in self.compared and self._models[row] == self._models[opponent]:
            return np.full(len(replies), 0.5)
        return self._values(replies, self._found.get((row, suite, opponent)))

    def fingerprints(self, row: str, suite: str) -> dict[str, str]:
        """Return the fingerprint of the verdicts behind a row's scores ("judge") and each comparison ("against X").

        Behind a tie of a model with itself is that model.
        """
        own = {key[2]: each.fingerprint for key, each in self._found.items() if key[:2] == (row, suite)}
        if suite in self.compared:
            model = self._models[row]
            own |= {name: model for name, other in self._models.items() if other == model and name != row}
        return {"judge" if name is None else f"against {name}": found for name, found in own.items()}

    def _rows_of(self, name: str | None) -> list[str]:
        """Return a row and those that are the same model."""
        return [row for row, model in self._models.items() if name is not None and model == self._models[name]]

    def _judged(self, row: str, suite: str, replies: Sequence[ScoredReply]) -> list[ScoredReply]:
        found = self._found.get((row, suite, None))
        return [replace(reply, judge=None if found is None else found.values.get(reply.prompt_id)) for reply in replies]

    @staticmethod
    def _values(replies: Sequence[ScoredReply], found: Judgment | None) -> Numbers | None:
        values = np.array([found.values.get(reply.prompt_id, np.nan) if found else np.nan for reply in replies])
        return None if np.isnan(values).all() else values

    def _check_questions(self, replies: Mapping[str, Suites]) -> None:
        for (row, suite, _), judgment in self._found.items():
            given = replies.get(row, {}).get(suite)
            asked = {reply.prompt_id for reply in given} if given is not None else set(judgment.values)
            unknown = next((question for question in judgment.values if question not in asked), None)
            if unknown is not None:
                raise ValueError(
                    f"row {row!r}, suite {suite!r}: the judge's verdicts are of question {unknown!r}, to which the row "
                    "has no reply; give replies and verdicts of the same questions"
                )
