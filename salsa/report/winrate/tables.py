"""The tables of a section."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from salsa.report.grid import BLANK, Cell, Column, Grid, mark_best, measured, number
from salsa.report.markup import visible
from salsa.report.schema import Metric
from salsa.report.winrate.notes import COUNTS, Found

SCORE = Metric("score", "points", 2, better="high")
SHARE = Metric("win rate", "%", 1, 100.0, "high")
BIAS = Metric("share", "%", 1, 100.0)
PERCENT = Metric("score", "%", 1, better="high")
RATING = Metric("rating", "", 0, better="high")
_WHY = {
    "above": "beats all that the others reach",
    "below": "beaten by all that the others reach",
    "not compared": "never met them",
}


def grids(section: Found, found: Found) -> list[Grid]:
    """Return the tables of a section."""
    level = f"{found['settings']['level']:.0%}"
    kind = "arena" if section["kind"] == "arena" else section["kind"]
    made = {"single": _single, "pair": _pair, "arena": _arena}[kind](section, level)
    made += [grid for grid in (_categories(section, level), _ratings(section, level)) if grid is not None]
    made += [grid for grid in (_judge(section), _comparisons(section), _replicates(section)) if grid is not None]
    return made


def _counts(counts: Found | None) -> list[Cell]:
    return [Cell(str(counts[name])) if counts else BLANK for name in COUNTS]


def _count_columns() -> list[Column]:
    return [Column(name, "judgments") for name in COUNTS]


def _name(text: str) -> Cell:
    return Cell(visible(text), tone="name")


def _single(section: Found, level: str) -> list[Grid]:
    turns = sorted({turn for row in section["models"] for turn in row["turns"]})
    columns = [Column("model", left=True), Column("score")]
    columns += [Column(f"turn {turn}") for turn in turns]
    kept = any(row["fastchat"] for row in section["models"])
    if kept:
        columns += [Column("all rows", "as stored"), *(Column(f"turn {turn}", "as stored") for turn in turns)]
    columns += _count_columns()
    rows = []
    for row in section["models"]:
        stored = row["fastchat"] or {"score": None, "turns": {}}
        cells = [_name(row["model"]), measured(row["score"], SCORE)]
        cells += [measured(row["turns"].get(turn), SCORE) for turn in turns]
        if kept:
            cells += [measured(stored["score"], SCORE), *(measured(stored["turns"].get(turn), SCORE) for turn in turns)]
        rows.append([*cells, *_counts(row["counts"])])
    text = f"Mean over surviving judgments with {level} intervals (questions resampled by cluster)."
    if kept:
        text += " As stored: the mean of the stored scores of all rows, duplicates too, which is what FastChat prints."
    metrics: list[Metric | None] = [None, *[SCORE] * (1 + len(turns))]
    metrics += [None] * (len(columns) - len(metrics))
    return [Grid("Scores", text, columns, mark_best(rows, metrics))]


def _pair(section: Found, level: str) -> list[Grid]:
    columns = [Column("model", left=True)]
    for rule in ("FastChat's rule", "half votes"):
        columns += [Column(name, rule) for name in ("win", "tie", "loss", "adjusted")]
    columns += _count_columns()
    rows = []
    for row in section["models"]:
        cells = [_name(row["model"])]
        for rule in ("fastchat", "half_votes"):
            own = row[rule]
            cells += [Cell(f"{own[key]:g}") if own else BLANK for key in ("win", "tie", "loss")]
            cells.append(_toned(own) if own else BLANK)
        rows.append([*cells, *_counts(row["counts"])])
    against = f"against {section['baseline']}" if section["baseline"] else "over all opponents"
    text = (
        f"Adjusted: (win + tie / 2) / total, in percent, {against}, with {level} intervals (questions resampled by "
        f"cluster). FastChat's rule: {section['rules']['fastchat'].partition(': ')[2]}. "
        f"Half votes: {section['rules']['half_votes'].partition(': ')[2]}."
    )
    return [Grid("Adjusted win rates", text, columns, rows)]


def _toned(estimate: Found) -> Cell:
    cell = measured(estimate, SHARE)
    if estimate["low"] is None or estimate["high"] is None:
        return cell
    return replace(cell, tone="better" if estimate["low"] > 0.5 else "worse" if estimate["high"] < 0.5 else "")


def _arena(section: Found, level: str) -> list[Grid]:
    style = section["style"]
    columns = [Column("model", left=True), Column("score")]
    columns += [Column(name, "interval over") for name in ("battles", "questions")]
    columns += [Column(name, "held equal") for name in ("style", "length")] if style else []
    columns += _count_columns()
    rows = []
    for row in section["models"]:
        cells = [_name(row["model"]), measured(row["score"], PERCENT)]
        cells += [_ends(row.get("battles")), _ends(row.get("questions"))]
        if style:
            cells += [measured(style[name]["models"].get(row["model"]), PERCENT) for name in ("style", "length")]
        rows.append([*cells, *_counts(row["counts"])])
    own = next((row["battles"] for row in section["models"] if row.get("battles")), None)
    text = "No scores, because no baseline is in every battle (--baseline names one). "
    if section["baseline"] is not None:
        text = f"Score: expected win rate against {section['baseline']}, in percent; {section['rule']}. "
    if own:
        text += f"battles: {own['level']:.0%} interval of {own['rounds']} rounds over battles, as Arena-Hard's. "
    text += f"questions: {level} interval, questions resampled by cluster."
    if style:
        held = ", ".join(f"{name} {value:+.2f}" for name, value in style["style"]["coefficients"].items())
        text += f" Held equal: all four, or length only. Coefficients (positive: the judge likes more): {held}."
    return [Grid("Leaderboard", text, columns, rows)]


def _ends(interval: Found | None) -> Cell:
    if not interval or interval["low"] is None or interval["high"] is None:
        return BLANK
    return Cell(f"{number(interval['low'], 1)} to {number(interval['high'], 1)}")


def _categories(section: Found, level: str) -> Grid | None:
    kind = section["kind"]
    rule = section["rule"] if kind == "pair" else None

    def parts(row: Found, name: str) -> Mapping[str, Any]:
        return ((row.get(rule) or {}) if rule else row).get(name) or {}

    categories = list(dict.fromkeys(name for row in section["models"] for name in parts(row, "categories")))
    turns = sorted({name for row in section["models"] for name in parts(row, "turns")}) if rule else []
    if len(categories) < 2 and len(turns) < 2:
        return None
    metric = {"single": SCORE, "pair": SHARE, "arena": PERCENT}[kind]
    columns = [
        Column("model", left=True),
        *(Column(f"turn {turn}") for turn in turns),
        *(Column(n) for n in categories),
    ]
    rows = [
        [
            _name(row["model"]),
            *(measured(parts(row, "turns").get(turn), metric) for turn in turns),
            *(measured(parts(row, "categories").get(name), metric) for name in categories),
        ]
        for row in section["models"]
    ]
    text = f"With {level} intervals (questions resampled by cluster)."
    return Grid(
        "By category" if not turns else "By turn and category",
        text,
        columns,
        mark_best(rows, [None, *[metric] * (len(columns) - 1)]),
    )


def _ratings(section: Found, level: str) -> Grid | None:
    rated = section.get("ratings") or []
    # Against a single baseline, ratings say what the scores say already.
    if not any(row["why"] for row in rated) and (len(rated) < 3 or section.get("closed_form")):
        return None
    columns = [
        Column("model", left=True),
        Column("rating"),
        Column("interval"),
        Column("no rating because it", left=True),
    ]
    rows = []
    for row in rated:
        none = (row["low"] is None and row["high"] is None) or row["model"] == section["baseline"]
        interval = "–" if none else f"{_end(row['low'])} to {_end(row['high'])}"
        value = Cell(number(row["value"], 0), value=row["value"]) if row["value"] is not None else BLANK
        rows.append([_name(row["model"]), value, Cell(interval), Cell(_WHY.get(row["why"], ""))])
    origin = section["baseline"] or "the mean of the rated models"
    text = f"Bradley-Terry, 400 points are odds of 10 to 1, {origin} has 1000; {level} intervals (questions resampled)."
    return Grid("Ratings", text, columns, rows)


def _end(value: float | None) -> str:
    return "unbounded" if value is None else number(value, 0)


def _judge(section: Found) -> Grid | None:
    bias = section.get("judge_bias")
    if not bias or (not bias["swap"]["complete"] and bias["first_wins"] is None):
        return None
    swap = bias["swap"]
    said = f"{swap['same']} of {swap['complete']} matches; {swap['first']} twice the first shown, "
    said += f"{swap['second']} twice the second, {swap['tied']} with one tie"
    rows = [[_name("says the same when swapped"), measured(swap["consistency"], BIAS), Cell(said)]]
    for key, name, text in (
        ("first_wins", "prefers the reply shown first", "of games without a tie"),
        ("longer_wins", "prefers the longer reply", "of games without a tie, of different lengths"),
    ):
        if bias[key] is not None:
            rows.append([_name(name), measured(bias[key], BIAS), Cell(f"{text}: {bias[key]['n']}")])
    columns = [Column("the judge", left=True), Column("%"), Column("counted", left=True)]
    return Grid("What the judge prefers", "Without position bias the first is preferred in 50 %.", columns, rows)


def _comparisons(section: Found) -> Grid | None:
    if not section["comparisons"]:
        return None
    metric = Metric("difference", "", 2) if section["kind"] == "single" else Metric("difference", "points", 1, 100.0)
    columns = [Column("first minus second", left=True), Column("difference"), Column("p"), Column("Holm")]
    columns += [Column("items"), Column("clusters")]
    rows = [
        [
            _name(f"{row['first']} minus {row['second']}"),
            measured(row, metric),
            Cell(_p(row["p"])),
            Cell(_p(row["holm"])),
            Cell(str(row["items"])),
            Cell(str(row["clusters"])),
        ]
        for row in section["comparisons"]
    ]
    text = (
        "On the items that both have. p: the two models' results exchanged cluster by cluster; Holm: corrected for all "
        "differences here."
    )
    return Grid("Differences of two models", text, columns, rows)


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else f"{value:.3f}"


def _replicates(section: Found) -> Grid | None:
    if not section["replicates"]:
        return None
    metric = SCORE if section["kind"] == "single" else SHARE
    columns = [Column("method", left=True), Column("replicates"), Column("mean, t interval"), Column("mean, crossed")]
    columns.append(Column("use", left=True))
    rows = [
        [
            _name(row["name"]),
            Cell(str(len(row["models"]))),
            measured(row["t"], metric),
            measured(row["crossed"], metric),
            Cell("t" if row["shown"] == "t" else "crossed"),
        ]
        for row in section["replicates"]
    ]
    text = (
        "t: over replicates, to be used for fewer than ten. crossed: questions (by cluster) and replicates drawn "
        "independently."
    )
    return Grid("Methods with replicates", text, columns, rows)
