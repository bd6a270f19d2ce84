"""The whole report of what judgments say: the reading of the files, then a section for each suite and judge."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from salsa.evaluation.published.answers import Answer, ReplyKey
from salsa.evaluation.published.reading import Reading
from salsa.evaluation.published.rows import Judged
from salsa.evaluation.style import Style, style
from salsa.evaluation.winrate import arena, pairs, single
from salsa.evaluation.winrate.groups import groups
from salsa.evaluation.winrate.settings import Settings
from salsa.judging.verdict import Verdict

SCHEMA = 1
SHOWN = 20
"""Malformed rows that are named one by one; the others are counted."""


class Replies:
    """The replies behind judgments: from files of answers, or else as the judge's prompts show them.

    Lengths are tokens where a file counts them for every model, and words and marks otherwise.
    """

    def __init__(self, reading: Reading, answers: Mapping[ReplyKey, Answer]) -> None:
        self.models = sorted({model for model, _, _ in answers})
        self.source = "answers" if answers else "prompts" if reading.replies else ""
        self._answers = dict(answers) or {key: Answer(text) for key, text in reading.replies.items()}
        self.unit = "tokens" if answers and all(each.tokens is not None for each in answers.values()) else "words"
        self._styles: dict[ReplyKey, Style] = {}

    def style(self, model: str, question: str, turn: int) -> Style | None:
        """Return the style of a reply, or None where the reply is not known."""
        key = (model, question, turn)
        if key not in self._styles and key in self._answers:
            found = self._answers[key]
            self._styles[key] = style(found.text, found.tokens if self.unit == "tokens" else None)
        return self._styles.get(key)

    def length(self, model: str, verdict: Verdict) -> float | None:
        """Return the length of a model's reply in a verdict, or None where the reply is not known."""
        found = self.style(model, verdict.question, verdict.turn)
        return None if found is None else found.length


def report(
    reading: Reading, files: Sequence[Path], answers: Mapping[ReplyKey, Answer], settings: Settings, first: bool = False
) -> dict[str, Any]:
    """Return everything that judgment files say, ready for JSON. Raises ValueError for replicates not in them."""
    replies = Replies(reading, answers)
    sections = []
    for name, group in groups(reading).items():
        verdicts = group.verdicts
        if name.kind == "single":
            # FastChat's table is of its own files; our log repeats what was asked again.
            found = single.section(verdicts, [] if reading.format == "verdicts" else group.rows, settings)
        elif name.kind == "arena":
            found = arena.section(verdicts, group.battles, replies.style, replies.length, settings)
        else:
            main = "fastchat" if name.suite == "mt_bench" else "half_votes"
            found = pairs.section(verdicts, replies.length, settings, main)
        heading = asdict(name) | {"prompts": group.prompts}
        snapshots = sorted({verdict.snapshot for verdict in verdicts if verdict.snapshot})
        sections.append(heading | {"snapshots": snapshots} | found)
    _check_replicates(settings, sections)
    kept = asdict(settings) | {"replicates": {name: list(models) for name, models in settings.replicates.items()}}
    return {
        "schema": SCHEMA,
        "format": reading.format,
        "files": [str(path) for path in files],
        "settings": kept,
        "reading": _read(reading, first),
        "replies": {"source": replies.source, "length_unit": replies.unit, "models": replies.models}
        if replies.source
        else None,
        "sections": sections,
    }


def _check_replicates(settings: Settings, sections: Sequence[Mapping[str, Any]]) -> None:
    known = {row["model"] for section in sections for row in section["models"]}
    for name, models in settings.replicates.items():
        for model in models:
            if model not in known:
                raise ValueError(f"replicate {model!r} of {name} is not among the models {', '.join(sorted(known))}")


def _read(reading: Reading, first: bool) -> dict[str, Any]:
    compared = [each for each in reading.judged if each.compared]
    judged = [each for each in reading.judged if each.verdict.status == "judged"]
    return {
        "rows": reading.rows,
        "used": len(reading.used) + len(reading.battles),
        "malformed": len(reading.malformed),
        "malformed_rows": reading.malformed[:SHOWN],
        "duplicates": sum(reading.duplicates.values()),
        "duplicates_same_text": reading.same_text,
        "duplicates_other_asked": reading.other_asked,
        "retries": reading.retries,
        "duplicates_by_model": dict(reading.duplicates),
        "duplicates_kept": "first" if first else "last",
        "compared_with_stored": len(compared),
        "differ_from_stored": sum(each.differs for each in compared),
        "differing": [_difference(each) for each in compared if each.differs][:SHOWN],
        "without_text": sum(not each.verdict.completion for each in judged),
        "not_read": sum(bool(each.verdict.completion) and not each.read for each in judged),
    }


def _difference(each: Judged) -> str:
    verdict = each.verdict
    says = verdict.score if verdict.kind == "single" else verdict.label
    models = verdict.model_a if verdict.model_b is None else f"{verdict.model_a} / {verdict.model_b}"
    return f"question {verdict.question}, turn {verdict.turn}, {models}: stored {each.stored}, the text says {says}"
