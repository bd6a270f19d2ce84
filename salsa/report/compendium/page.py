"""The page over everything in an outputs folder, read from top to bottom: findings first, their origin last."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from salsa.report.compendium import ancestry, elements, experiments, landscapes, samples, studies, style, sweeps
from salsa.report.compendium.contents import (
    ASIDE,
    DAMAGED,
    FAILED,
    FLAWS,
    LANDSCAPE,
    REPORT,
    STUDY,
    Advance,
    Contents,
    Problem,
    Result,
    nothing,
    shown_cpu,
)
from salsa.report.compendium.replies import Shelf
from salsa.report.study import html, looks
from salsa.store.lineage import Lineage

_SAMPLED = 4
"""Experiments, the newest ones, of which samples are shown; of studies the first of each name."""
_DRAWN = 30
"""Studies of which the main figure is placed on the page, beside the first of each name; it is most of the page."""
_MOST_PROBLEMS, _NAMED = 200, 3
_MODELS = {"base": "base", "sft": "SFT", "soup": "soup", "reward": "reward", "align": "policy"}


@dataclass
class Draft:
    """The page while it is made: what is shown, in what order, and what turned out not to be showable."""

    contents: Contents
    folder: Path
    advance: Advance = nothing
    problems: list[Problem] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)
    done: int = 0

    def shown(self, result: Result, render: Callable[[], str]) -> str:
        """Return a part of the page, or nothing and a problem where the result is not what it should be."""
        total = 2 * sum(map(len, self.contents.results.values()))
        self.advance("sections", min(self.done, total), total)
        self.done += 1
        return self._tried(result, render) or ""

    def sound(self, results: Iterable[Result], probe: Callable[[Result], Any]) -> list[Result]:
        """Return the results of which a probe can be made; the others are problems."""
        return [each for each in results if self._tried(each, partial(probe, each)) is not None]

    def _tried(self, result: Result, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except FLAWS as error:
            reason = f"{type(error).__name__}: {error}"
            self.problems.append(Problem(DAMAGED, result.kind, reason, result.fingerprint))
            return None


def page(contents: Contents, folder: Path, advance: Advance = nothing) -> str:
    """Return the page as it lies in `folder`, to which its links are relative.

    It loads nothing and runs no script, and every text of an artifact is escaped. A result that cannot be shown is
    named among the problems.
    """
    draft = Draft(contents, folder, advance, list(contents.problems))
    swept, unread = sweeps.read(contents)
    draft.problems += unread
    own = studies.ordered(draft.sound(contents.results[STUDY], studies.described))
    labels = studies.variants(own)
    runs = draft.sound(reversed(contents.results[REPORT]), experiments.line)
    names = experiments.headings(runs)
    planes = draft.sound(reversed(contents.results[LANDSCAPE]), landscapes.title)
    draft.titles |= {each.fingerprint: _titled(each, labels) for each in own}
    draft.titles |= names | {each.fingerprint: landscapes.title(each) for each in planes}
    shown = {study.fingerprint: part for study, part in zip(own, _studies(draft, own, labels), strict=True) if part}
    own = [study for study in own if study.fingerprint in shown]
    sections = [
        ("studies", "Studies", studies.joined(own, shown)),
        ("experiments", "Experiments", "".join(_experiments(draft, runs, names, swept))),
        ("samples", "Samples side by side", "".join(_samples(draft, own, runs))),
        ("landscapes", "Landscapes", "".join(_landscapes(draft, planes))),
        ("lineage", "Lineage", "".join(_lineage(draft, [*own, *experiments.detailed(runs), *planes]))),
    ]
    sections.append(("problems", "Not shown, or not finished", "".join(_problems(draft))))
    there = [each for each in sections if each[2]]
    headlines = studies.headlines(own, labels) if own else ""
    parts = [*_head(contents, there[0][0]), *_top(draft, swept, headlines, there)]
    parts += [f'<section id="{key}"><h2>{title}</h2>{inside}</section>' for key, title, inside in there]
    return "\n".join([*parts, "</main></body></html>"]) + "\n"


def _titled(study: Result, labels: dict[str, str]) -> str:
    label = labels[study.fingerprint]
    return f"{study.told['title']}{f' ({label})' if label else ''}"


def _head(contents: Contents, first: str) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield f'{html.POLICY}<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Results in {elements.line(contents.outputs.name)}</title><style>{style.sheet()}</style></head><body>"
    yield f'<a class="skip" href="#{first}">to the results</a><main>'


def _top(
    draft: Draft, swept: Sequence[sweeps.Sweep], headlines: str, there: Sequence[tuple[str, str, str]]
) -> Iterator[str]:
    """Yield what is in the folder, what needs attention, and the headline of each study."""
    contents = draft.contents
    yield f"<header><h1>Results in {elements.line(contents.outputs.name)}</h1>"
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _facts(contents, swept))
    yield f'<dl class="facts">{facts}</dl>'
    links = (f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in there)
    yield f'<nav aria-label="Sections"><ul>{"".join(links)}</ul></nav>'
    wrong = [problem for problem in draft.problems if problem.state in (DAMAGED, FAILED, ASIDE)]
    if wrong:
        count = elements.counted(len(wrong), "thing is", "things are")
        named = "; ".join(map(_named, wrong[:_NAMED]))
        more = f"; and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else ""
        link = f'<a href="#problems">{count} damaged or failed</a>'
        yield f'<p class="warning">{link} and missing on this page: {elements.line(named)}{more}.</p>'
    yield f"{headlines}</header>"


def _named(problem: Problem) -> str:
    when = "" if problem.when is None else f", {elements.day(problem.when)}"
    return f"{problem.what} ({problem.state}{when})"


def _facts(contents: Contents, swept: Sequence[sweeps.Sweep]) -> Iterator[tuple[str, str]]:
    lineage, results = contents.lineage, contents.results
    counts = {
        "studies": len(results[STUDY]),
        "experiments": len(results[REPORT]),
        "sweeps": len(swept),
        "landscapes": len(results[LANDSCAPE]),
    }
    yield from ((name, f"{count:,}") for name, count in counts.items() if count)
    kinds = Counter(artifact.kind for artifact in lineage.artifacts.values())
    models = [f"{kinds[kind]:,} {name}" for kind, name in _MODELS.items() if kinds[kind]]
    if models:
        yield "models", ", ".join(models)
    if lineage.artifacts:
        yield "stages", f"{len(lineage.artifacts):,}"
        yield "CPU time", elements.line(shown_cpu(lineage.artifacts.values()).removesuffix(" of CPU"))
        yield "made", _dates(lineage)


def _dates(lineage: Lineage) -> str:
    readable = (each for identity, each in lineage.artifacts.items() if identity not in lineage.unreadable)
    times = [artifact.published for artifact in readable]
    if not times:
        return "unknown"
    first, last = elements.day(min(times)), elements.day(max(times))
    return f"{first} to {last[11:] if first[:10] == last[:10] else last}"


def _studies(draft: Draft, own: Sequence[Result], labels: dict[str, str]) -> Iterator[str]:
    names: set[str] = set()
    for number, study in enumerate(own):
        main = study.told["study"] not in names
        names.add(study.told["study"])
        drawn = main or number < _DRAWN
        yield draft.shown(study, partial(studies.section, study, labels[study.fingerprint], draft.folder, main, drawn))


def _experiments(
    draft: Draft, runs: Sequence[Result], names: dict[str, str], swept: list[sweeps.Sweep]
) -> Iterator[str]:
    if swept:
        yield sweeps.section(swept, draft.folder)
    shown = experiments.detailed(runs)
    parts = [
        draft.shown(run, partial(experiments.section, run, names[run.fingerprint], draft.folder, number == 0))
        for number, run in enumerate(shown)
    ]
    if len(runs) > 1:
        listed = [run for run, part in zip(shown, parts, strict=True) if part] + list(runs[len(shown) :])
        yield experiments.overview(listed, names)
    yield from parts


def _samples(draft: Draft, own: Sequence[Result], runs: Sequence[Result]) -> Iterator[str]:
    first = {study.told["study"]: study for study in reversed(own)}
    chosen = [study for study in own if first[study.told["study"]] is study] + list(runs[:_SAMPLED])
    shelf = Shelf(draft.contents)
    parts: list[str] = []
    for result in chosen:
        part = draft.shown(result, partial(_book, draft, shelf, result, not parts))
        parts += [part] if part else []
    if parts:
        yield f'<p class="caption">{elements.line(samples.HOW)}</p>'
        yield from parts


def _book(draft: Draft, shelf: Shelf, result: Result, opened: bool) -> str:
    book = shelf.book(result)
    if book is None:
        return ""
    told = result.told
    judge = told["judge"]["name"] if result.kind == REPORT else told["settings"]["judge"]
    looked = experiments.looked(told) if result.kind == REPORT else looks.of_all(told)
    return samples.section(book, elements.line(draft.titles[result.fingerprint]), str(judge), looked, opened)


def _landscapes(draft: Draft, planes: Sequence[Result]) -> Iterator[str]:
    for number, each in enumerate(planes):
        yield draft.shown(each, partial(landscapes.section, each, draft.folder, number))


def _lineage(draft: Draft, results: Sequence[Result]) -> Iterator[str]:
    lineage = draft.contents.lineage
    if lineage.artifacts:
        yield from ancestry.section(lineage, results, draft.titles)


def _problems(draft: Draft) -> Iterator[str]:
    for state in dict.fromkeys(problem.state for problem in draft.problems):
        own = [problem for problem in draft.problems if problem.state == state]
        rows = (
            [elements.line(each.what), elements.line(each.reason), _date(each), _place(each)]
            for each in own[:_MOST_PROBLEMS]
        )
        more = f"; {len(own) - _MOST_PROBLEMS:,} more are left out" if len(own) > _MOST_PROBLEMS else ""
        table = elements.listing(f"{state.capitalize()}{more}", ("what", "why", "when", "artifact"), rows, "plain")
        yield elements.fold(f"{state.capitalize()} <small>{len(own):,}</small>", table, opened=state == DAMAGED)


def _date(problem: Problem) -> str:
    return "" if problem.when is None else elements.day(problem.when)


def _place(problem: Problem) -> str:
    return elements.short(problem.fingerprint) if problem.state == DAMAGED and problem.fingerprint else ""
