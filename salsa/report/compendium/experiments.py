"""The section of experiments: which there are, the arms of each with their figures, and curves over training."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from salsa.report import combined, judging
from salsa.report.compendium import curves, elements
from salsa.report.compendium.contents import Result
from salsa.report.compendium.curves import Line, Point
from salsa.report.figures import INK
from salsa.report.grid import BLANK, Cell, Column, Grid, mark_best, measured
from salsa.report.schema import METRICS, POOLED, Metric
from salsa.report.study import looks
from salsa.report.study.html import Looks
from salsa.report.study.looks import Look
from salsa.report.tables import named, sections, suite_cell, win_cell

_NORMAL = 1.96
"""Standard errors on each side of a 95 % interval of a curve."""
_ROLES = {"ingredient": "sft", "soup": "soup", "opponent": "ppo", "policy": "salsa", "control": "control"}
_DASH = 1.8
"""Units of a drawing that a unit of matplotlib's dashes is, which are in widths of the line."""
_AFTER = 60
"""Of so many experiments all is shown, of the older ones a line of the overview."""


def headings(experiments: Sequence[Result]) -> dict[str, str]:
    """Return a name for each experiment, by fingerprint, that tells it from the others."""
    names = combined.labels([each.told for each in experiments]) if experiments else []
    return {each.fingerprint: name for each, name in zip(experiments, names, strict=True)}


def overview(experiments: Sequence[Result], names: Mapping[str, str]) -> str:
    """Return a table with a line for each experiment: its policy beside its first opponent."""
    rows = [line(each, names[each.fingerprint]) for each in experiments]
    heads = ("experiment", "of", "win rate of the policy, %", "gold or judge score", "KL to the first anchor")
    return elements.listing(
        "Experiments, the newest first. The policy against its first opponent.", heads, rows, "plain"
    )


def line(experiment: Result, name: str | None = None) -> list[str]:
    """Return an experiment's cells of the overview; without a name it has that of `combined.labels`."""
    return list(_cells(experiment, combined.labels([experiment.told] * 2)[0] if name is None else name))


def _cells(experiment: Result, name: str) -> Iterator[str]:
    told = experiment.told
    policy, opponent = _row(told, "policy"), _row(told, "opponent")
    yield f'<a href="#{experiment.anchor}">{elements.line(name)}</a>'
    yield elements.day(experiment.published)
    rate = win_cell(policy, _pooled(told), opponent["name"]) if policy and opponent else BLANK
    yield _shown(rate)
    pair = [row for row in (policy, opponent) if row]
    yield _beside(pair, [suite_cell(row, _pooled(told), "judge") for row in pair])
    yield _beside(pair, [_kl(row, told["anchors"][0]) for row in pair] if told["anchors"] else [])


def _shown(cell: Cell) -> str:
    return elements.sentence(f"{cell.text} {cell.interval}".strip())


def _beside(rows: Sequence[Mapping[str, Any]], cells: Sequence[Cell]) -> str:
    pairs = zip(rows, cells, strict=False)
    return ", ".join(f"{elements.line(row['name'])} {elements.sentence(cell.text)}" for row, cell in pairs)


def _row(told: Mapping[str, Any], role: str) -> Mapping[str, Any] | None:
    return next((row for row in told["rows"] if row["role"] == role), None)


def _pooled(told: Mapping[str, Any]) -> str:
    return POOLED if len(told["suites"]) > 1 else str(told["suites"][0])


def _kl(row: Mapping[str, Any], anchor: str) -> Cell:
    found = row["kl"].get(anchor, {})
    return measured(found.get("k1"), METRICS["k1"], found.get("fingerprint", ""))


def detailed(experiments: Sequence[Result]) -> Sequence[Result]:
    """Return those of which all is shown."""
    return experiments[:_AFTER]


def section(experiment: Result, name: str, page: Path, opened: bool) -> str:
    """Return all of one experiment: what it is, its arms, its curves, and where its own page is."""
    told = experiment.told
    inside = [f'<p class="sub">{elements.line(told["title"])} · {elements.short(experiment.fingerprint)}</p>']
    inside.append(elements.warnings(("Warning", text) for text in told["warnings"]))
    inside.append(f'<p class="caption">{elements.line(told["note"].replace("`", ""))}</p>')
    inside.append(elements.of_grid(arms(told), [role_of(row["role"]) for row in told["rows"]], looked(told)))
    inside += training(told)
    files = [("its own page", "page.html"), ("all samples", "samples.md"), ("its numbers", "table.csv")]
    links = [elements.link(experiment.folder / file, page, text) for text, file in files]
    inside.append(f'<p class="links">{" · ".join(links)}</p>')
    summary = f"<h3>{elements.line(name)}</h3> <small>{elements.day(experiment.published)}</small>"
    return f'<article id="{experiment.anchor}">{elements.fold(summary, "".join(inside), opened)}</article>'


def role_of(role: str) -> str:
    """Return the role of a study's rows that looks as this one of an experiment's."""
    return _ROLES.get(role, "other")


def looked(told: Mapping[str, Any]) -> Looks:
    """Return the look of each model of an experiment, as models look in the figures of studies."""
    series = [{"role": role_of(row["role"]), "label": row["name"]} for row in told["rows"]]
    return looks.of_all({"figures": [{"kind": "lines", "series": series}]})


def arms(told: Mapping[str, Any]) -> Grid:
    """Return one table of an experiment's models: win rates, scores, length and KL to each anchor over all suites."""
    judge, suite = told["judge"], _pooled(told)
    scores: list[tuple[str, Metric]] = [(judge["name"], METRICS["judge"]), ("reward model", METRICS["reward"])]
    columns = [Column("model", left=True)]
    columns += [Column(f"vs {opponent}", "win rate, %") for opponent in told["opponents"]]
    columns += [Column(label, "mean score") for label, _ in scores]
    columns += [Column(f"to {anchor}", "KL, nats a reply") for anchor in told["anchors"]]
    columns.append(Column("length, tokens"))
    metrics: list[Metric | None] = [None, *(METRICS["win_rate"] for _ in told["opponents"])]
    metrics += [*(metric for _, metric in scores), *(None for _ in told["anchors"]), None]
    rows = []
    for row in told["rows"]:
        cells = [named(row), *(win_cell(row, suite, opponent) for opponent in told["opponents"])]
        cells += [suite_cell(row, suite, key) for key in ("judge", "reward")]
        cells += [_kl(row, anchor) for anchor in told["anchors"]]
        rows.append([*cells, suite_cell(row, suite, "length")])
    caption = (
        f"Means over {', '.join(told['suites'])}, with {told['level']:.0%} intervals; {judging.ties([told])}. "
        f"KL: estimator k1, on the model's own replies. Bold: best of the column."
    )
    return Grid("Models of the experiment", caption, columns, mark_best(rows, metrics), sections(told["rows"]))


def training(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield charts over training, all trained models in each: scores, and KL to the first and the last anchor."""
    runs = {name: points for name, points in told["curves"].items() if points}
    known = {name: look for (_, name), look in looked(told).items()}
    judge = told["judge"]
    quantities = [
        ("Reward model (optimised)", "normalised", lambda point: (point.get("reward"), point.get("reward_se"))),
        (
            str(judge["name"]).capitalize(),
            str(judge["unit"]),
            lambda point: (point.get("judge"), point.get("judge_se")),
        ),
    ]
    for anchor in dict.fromkeys([*told["anchors"][:1], *told["anchors"][-1:]]):
        quantities.append((f"KL to {anchor}", "nats a reply", _of_anchor(anchor)))
    charts = []
    for title, unit, value in quantities:
        lines = [_line_of(name, known[name], _points(points, value)) for name, points in runs.items()]
        charts.append(curves.chart(title, unit, [line for line in lines if line.points]))
    if any(charts):
        keys = {name: curves.key(_line_of(name, known[name], ())) for name in runs}
        entries = (f"<span>{key} {elements.line(name)}</span>" for name, key in keys.items())
        yield f'<p class="legend">{" ".join(entries)}</p><div class="charts">{"".join(charts)}</div>'
        yield '<p class="caption">Over training, on the same prompts; bands: 1.96 standard errors.</p>'


def _line_of(name: str, look: Look, points: Iterable[Point]) -> Line:
    colour = "var(--ink)" if look.colour == INK else look.colour
    dashes = "" if look.dash == "-" else " ".join(f"{_DASH * length:g}" for length in look.dash[1])
    return Line(name, colour, dashes, list(points))


def _of_anchor(anchor: str) -> Any:
    def value(point: Mapping[str, Any]) -> tuple[float | None, float | None]:
        found = point.get("kl", {}).get(anchor, {})
        return found.get("k1"), found.get("k1_se")

    return value


def _points(points: Iterable[Mapping[str, Any]], value: Any) -> Iterator[Point]:
    for point in points:
        middle, error = value(point)
        if middle is not None:
            away = None if error is None else _NORMAL * error
            yield Point(point["step"], middle, *((None, None) if away is None else (middle - away, middle + away)))
