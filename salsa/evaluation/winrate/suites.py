"""What an experiment's verdicts say, suite by suite: the whole report, and the figures that stand at its head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from salsa.evaluation.battles import matches
from salsa.evaluation.published.answers import Answer, ReplyKey
from salsa.evaluation.published.reading import Reading
from salsa.evaluation.winrate.pairs import bias
from salsa.evaluation.winrate.report import Replies, report
from salsa.evaluation.winrate.settings import Settings
from salsa.judging.verdict import Verdict


@dataclass(frozen=True)
class Field:
    """Who is judged: the names of the experiment's models, and those of them that others are compared with.

    `answers` are the replies by suite, for their lengths and styles.
    """

    models: Sequence[str]
    opponents: Sequence[str]
    answers: Mapping[str, Mapping[ReplyKey, Answer]]


def suites(
    reading: Reading, files: Sequence[Path], field: Field, settings: Settings
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the report of `salsa winrate` on an experiment's verdicts, and the head of each suite.

    In the report the experiment's models are compared with their first opponent, and in sections of their own with
    models from outside. A head has for each model its `score`, `turns` and share won `against` each other model.
    """
    merged = {key: answer for own in field.answers.values() for key, answer in own.items()}
    found = report(replace(reading, verdicts=[], appended=[]), files, merged, settings)
    heads = []
    for suite in dict.fromkeys(verdict.suite for verdict in reading.verdicts):
        verdicts = [verdict for verdict in reading.verdicts if verdict.suite == suite]
        one = _Suite(suite, verdicts, reading, field, settings)
        found["sections"] += one.sections
        heads.append(one.head())
    return found, heads


class _Suite:
    """The verdicts of one suite: those among the experiment's models, and those that compare them with others."""

    def __init__(
        self, name: str, verdicts: Sequence[Verdict], reading: Reading, field: Field, settings: Settings
    ) -> None:
        self.name, self.verdicts, self.reading, self.settings = name, verdicts, reading, settings
        self.answers = field.answers.get(name, {})
        models = set(field.models)
        self.own = [verdict for verdict in verdicts if _models(verdict) <= models]
        outside = [verdict for verdict in verdicts if not _models(verdict) <= models]
        met = {name for verdict in self.own if verdict.kind == "pair" for name in _models(verdict)}
        self.opponents = [opponent for opponent in field.opponents if opponent in met]
        baselines = sorted({name for verdict in outside for name in _models(verdict) - models})
        self.among = self._report(self.own, self.opponents[0] if self.opponents else None, self.answers)
        # With several, each is that of one category: the report finds out which.
        self.against = self._report(outside, baselines[0] if len(baselines) == 1 else None, self.answers)

    @property
    def sections(self) -> list[dict[str, Any]]:
        """The suite's sections of the report."""
        return [*self.among, *self.against]

    def head(self) -> dict[str, Any]:
        """Return the figures at the head of the suite; win rates are shares from 0 to 1."""
        pairs = [verdict for verdict in self.verdicts if verdict.kind == "pair"]
        models: dict[str, dict[str, Any]] = {}
        rules: dict[str, str] = {}
        for section in self.among:
            for row in section["models"] if section["kind"] == "single" else ():
                models.setdefault(row["model"], _empty()).update(score=row["score"], turns=row["turns"])
        met = [*(section for opponent in self.opponents for section in self._with(opponent)), *self.against]
        for section in met:
            if section["baseline"] is None:
                continue
            rules[section["baseline"]] = section.get("rules", {}).get(section["rule"], section["rule"])
            for row in section["models"]:
                models.setdefault(row["model"], _empty())["against"][section["baseline"]] = _share(section, row)
        length = Replies(self.reading, self.answers).length
        return {
            "suite": self.name,
            "judge": ", ".join(dict.fromkeys(verdict.judge for verdict in self.verdicts)),
            "snapshots": sorted({verdict.snapshot for verdict in self.verdicts if verdict.snapshot}),
            "rules": rules,
            "models": models,
            "bias": bias(pairs, matches(pairs), length, self.settings) if pairs else None,
        }

    def _with(self, opponent: str) -> list[dict[str, Any]]:
        """Return what the games with one of the experiment's models say."""
        games = [each for each in self.own if each.kind == "pair" and opponent in _models(each)]
        return self._report(games, opponent, {})

    def _report(
        self, verdicts: Sequence[Verdict], baseline: str | None, answers: Mapping[ReplyKey, Answer]
    ) -> list[dict[str, Any]]:
        part = replace(self.reading, verdicts=list(verdicts), appended=[])
        sections: list[dict[str, Any]] = report(part, [], answers, replace(self.settings, baseline=baseline))[
            "sections"
        ]
        return sections


def _models(verdict: Verdict) -> set[str]:
    return {name for name in (verdict.model_a, verdict.model_b) if name is not None}


def _empty() -> dict[str, Any]:
    return {"score": None, "turns": {}, "against": {}}


def _share(section: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the share that a model won from the section's baseline; None where no game has a verdict."""
    if section["kind"] == "pair":
        own = row[section["rule"]]
        return None if own is None else {key: own[key] for key in ("value", "low", "high", "n")}
    if row["score"] is None:
        return None
    ends = {key: row["questions"][key] for key in ("low", "high")}
    shares = {"value": row["score"]} | ends
    return {key: None if value is None else value / 100 for key, value in shares.items()} | {"n": row["questions"]["n"]}
