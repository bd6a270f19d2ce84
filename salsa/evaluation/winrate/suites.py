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

    In the report the experiment's models are compared with their first opponent, and in a section of its own with each
    model from outside. A head has for each model its `score`, `turns` and share won `against` each other model.
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
        met = {name for verdict in self.own if verdict.kind == "pair" for name in _models(verdict)}
        self.opponents = [opponent for opponent in field.opponents if opponent in met]
        self.among = self._report(self.own, self.opponents[0] if self.opponents else None, self.answers)
        # A baseline may be that of one category, of several or of all: its score is over all that it was asked about.
        outside = dict.fromkeys(name for verdict in verdicts for name in sorted(_models(verdict) - models))
        self.against = {name: self._outside(name) for name in outside}

    @property
    def sections(self) -> list[dict[str, Any]]:
        """The suite's sections of the report."""
        return [*self.among, *(section for sections in self.against.values() for section in sections)]

    def head(self) -> dict[str, Any]:
        """Return the figures at the head of the suite; win rates are shares from 0 to 1."""
        pairs = [verdict for verdict in self.verdicts if verdict.kind == "pair"]
        models: dict[str, dict[str, Any]] = {}
        rules: dict[str, str] = {}
        for section in self.among:
            for row in section["models"] if section["kind"] == "single" else ():
                models.setdefault(row["model"], _empty()).update(score=row["score"], turns=row["turns"])
        met = {opponent: self._report(self._games(self.own, opponent), opponent, {}) for opponent in self.opponents}
        for other, sections in [*met.items(), *self.against.items()]:
            for section in sections:
                name = other if len(sections) == 1 else f"{other} ({_apart(section)})"
                rules[name] = section.get("rules", {}).get(section["rule"], section["rule"])
                for row in section["models"]:
                    models.setdefault(row["model"], _empty())["against"][name] = _share(section, row)
        length = Replies(self.reading, self.answers).length
        return {
            "suite": self.name,
            "judge": ", ".join(dict.fromkeys(verdict.judge for verdict in self.verdicts)),
            "snapshots": sorted({verdict.snapshot for verdict in self.verdicts if verdict.snapshot}),
            "rules": rules,
            "models": models,
            "bias": bias(pairs, matches(pairs), length, self.settings) if pairs else None,
        }

    def _outside(self, baseline: str) -> list[dict[str, Any]]:
        """Return what the games with a model from outside say, under their categories where these are not all."""
        games = self._games(self.verdicts, baseline)
        asked, there = ({each.category: None for each in part} for part in (games, self.verdicts))
        category = " and ".join(asked) if len(asked) < len(there) else ""
        return [section | {"category": category} for section in self._report(games, baseline, self.answers)]

    @staticmethod
    def _games(verdicts: Sequence[Verdict], other: str) -> list[Verdict]:
        """Return the games with one model."""
        return [each for each in verdicts if each.kind == "pair" and other in _models(each)]

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


def _apart(section: Mapping[str, Any]) -> str:
    """Return what tells a section from the others against the same model: its prompts, or else its judge."""
    return " and ".join(section["prompts"]) or str(section["judge"])


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
