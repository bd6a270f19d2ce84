"""Reading judgment files as verdicts: what is malformed is named, what was judged twice counts once."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from salsa.evaluation.battles import Battle
from salsa.evaluation.published import arena_hard, mt_bench
from salsa.evaluation.published.answers import Question
from salsa.evaluation.published.lines import FormatError, RowError, check_format, lines, looks_like
from salsa.evaluation.published.rows import Judged, Row
from salsa.judging.answer import reparsed
from salsa.judging.grammar import GRAMMARS
from salsa.judging.verdict import Verdict, VerdictError


@dataclass(frozen=True)
class Options:
    """How files are read: the opponent that they do not name, whose rule reads Arena-Hard's texts (None: as laid out).

    `stored` takes scores and winners as they are stored instead of reading the judge's texts. `first` uses the first
    of several judgments of one thing, instead of the last that gave a verdict.
    """

    baseline: str | None = None
    release: str | None = None
    stored: bool = False
    first: bool = False


@dataclass(frozen=True)
class Reading:
    """What was read. `rows` counts all rows; each is malformed, a retry, a duplicate, a battle, or in `used`.

    `appended` has every row in the order of the files, duplicates too, which is what FastChat's own tables are made
    from. `retries` counts our own verdicts that were asked for again because there was none. Of the duplicates,
    `same_text` says how many repeat the judge's words, and `other_asked` how many are of other replies or settings.
    """

    format: str
    rows: int = 0
    malformed: list[str] = field(default_factory=list)
    used: list[Row] = field(default_factory=list)
    appended: list[Row] = field(default_factory=list)
    duplicates: Counter[str] = field(default_factory=Counter)
    same_text: int = 0
    other_asked: int = 0
    retries: int = 0
    battles: list[Battle] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    replies: dict[tuple[str, str, int], str] = field(default_factory=dict)

    @property
    def judged(self) -> list[Judged]:
        """What each verdict that counts was read from."""
        return [each for row in self.used for each in row.judged]


def detect(path: Path) -> str:
    """Return the format of a file by its first readable row. Raises FormatError if there is none, or OSError."""
    for line in lines(path):
        if not line.problem:
            found = looks_like(line.value)
            if found in ("mt-bench-single", "mt-bench-pair", "arena-hard", "verdicts"):
                return found
            check_format(path, line.value, "judgments or verdicts")
    raise FormatError(f"{path} has no readable row of JSON")


def read(
    paths: Sequence[Path], form: str, options: Options, questions: Mapping[str, Question] | None = None
) -> Reading:
    """Return what files of one format hold; `questions` gives categories that count before those of the rows.

    Raises:
        OSError: if a file cannot be read.
        FormatError: for a file of another format (the message says which), or without a readable row.
    """
    rows: list[Row] = []
    reading = Reading(form)
    total = 0
    for path in paths:
        good = 0
        for line in lines(path):
            total += 1
            if not line.problem and good == 0:
                check_format(path, line.value, form)
            try:
                if line.problem:
                    raise RowError(line.problem)
                found = _row(form, line.value, line.place, options)
            except (RowError, VerdictError) as error:
                reading.malformed.append(f"{line.place}: {error}")
                continue
            good += 1
            if isinstance(found, Battle):
                reading.battles.append(found)
            else:
                rows.append(found)
        if good == 0:
            raise FormatError(f"{path} has no readable row of {form}{_first(reading.malformed)}")
    once = _Once(options.first, retried=form == "verdicts")
    for row in rows:
        once.add(row)
    used, appended = _told(list(once.found.values()), questions), _told(rows, questions)
    return replace(
        reading,
        rows=total,
        used=used,
        appended=appended,
        duplicates=once.duplicates,
        same_text=once.same_text,
        other_asked=once.other_asked,
        retries=once.retries,
        battles=[_categorised(battle, questions) for battle in reading.battles],
        verdicts=[each.verdict for row in used for each in row.judged],
        replies=_replies(used),
    )


def _first(malformed: Sequence[str]) -> str:
    return f" ({malformed[-1]})" if malformed else ""


def _row(form: str, value: Mapping[str, Any], place: str, options: Options) -> Row | Battle:
    if form == "arena-hard" and "games" not in value and "winner" in value:
        return arena_hard.battle(value)
    readers: Mapping[str, Callable[[], Row]] = {
        "mt-bench-single": lambda: mt_bench.single(value, place, options.stored),
        "mt-bench-pair": lambda: mt_bench.pair(value, place, options.stored),
        "arena-hard": lambda: arena_hard.judgment(value, place, options.baseline, options.release, options.stored),
        "verdicts": lambda: _own(value, place, options.stored),
    }
    return readers[form]()


def _own(value: Mapping[str, Any], place: str, stored_counts: bool) -> Row:
    try:
        told = Verdict.from_json(value)
        rule = GRAMMARS.get(told.grammar)
        read = not stored_counts and rule is not None and rule.kind == told.kind
        verdict = reparsed(told) if read else told
    except (VerdictError, OverflowError) as error:
        raise RowError(f"no verdict: {error}") from error
    models = [verdict.model_a] if verdict.model_b is None else [verdict.model_a, verdict.model_b]
    names = (verdict.suite, verdict.kind, verdict.judge, verdict.question, str(verdict.turn), *models)
    # Whichever of two models is the compared one, the game is the same; a model's with itself differ by their order.
    order = str(verdict.order) if len(set(models)) < len(models) else ""
    stored = told.label if told.score is None else float(told.score)
    judged = Judged(verdict, stored, told.status != "failed", read=read)
    return Row(place, (*names, order, verdict.prompt), " / ".join(sorted(models)), (judged,))


@dataclass
class _Once:
    """Each row once: the first, or the last of those that say most; a retry counts if it says more."""

    first: bool
    retried: bool
    found: dict[tuple[str, ...], Row] = field(default_factory=dict)
    texts: dict[tuple[str, ...], set[tuple[str, ...]]] = field(default_factory=dict)
    duplicates: Counter[str] = field(default_factory=Counter)
    same_text: int = 0
    other_asked: int = 0
    retries: int = 0

    def add(self, row: Row) -> None:
        kept = self.found.setdefault(row.identity, row)
        seen = self.texts.setdefault(row.identity, set())
        if kept is not row:
            otherwise = _alike(row, kept) and row.asks_otherwise(kept)
            retry = self.retried and not otherwise and not (row.whole and kept.whole)
            if retry:
                self.retries += 1
            else:
                self.duplicates[row.model] += 1
                self.same_text += row.text in seen
                self.other_asked += otherwise
            later = not self.first and row.rank == kept.rank
            if later or (row.rank > kept.rank and (retry or not self.first)):
                self.found[row.identity] = row
        seen.add(row.text)


def _alike(row: Row, other: Row) -> bool:
    """Return whether the same model is the compared one in both; a key says who is, and tells them apart if not."""
    return all(a.verdict.order == b.verdict.order for a, b in zip(row.judged, other.judged, strict=False))


def _told(rows: Sequence[Row], questions: Mapping[str, Question] | None) -> list[Row]:
    if not questions:
        return list(rows)
    return [replace(row, judged=tuple(_judged(each, questions) for each in row.judged)) for row in rows]


def _judged(each: Judged, questions: Mapping[str, Question]) -> Judged:
    told = questions.get(each.verdict.question)
    if told is None:
        return each
    verdict = replace(
        each.verdict,
        category=told.category or each.verdict.category,
        cluster=told.topic or each.verdict.cluster,
    )
    return replace(each, verdict=verdict)


def _categorised(battle: Battle, questions: Mapping[str, Question] | None) -> Battle:
    told = (questions or {}).get(battle.question)
    if told is None:
        return battle
    return replace(battle, category=told.category or battle.category, cluster=told.topic or battle.cluster)


def _replies(rows: Iterable[Row]) -> dict[tuple[str, str, int], str]:
    found = {}
    for row in rows:
        for each in row.judged:
            for model, text in each.replies.items():
                found[(model, each.verdict.question, each.verdict.turn)] = text
    return found
