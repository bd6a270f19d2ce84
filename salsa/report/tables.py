"""The tables of one experiment: for the terminal, as Markdown, and as tidy CSV. No NumPy: it must be fast."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from salsa.report import judging
from salsa.report.divergences import along_training
from salsa.report.grid import BLANK, MISSING, Cell, Column, Grid, mark_best, measured, to_markdown
from salsa.report.markup import escape
from salsa.report.schema import METRICS, POOLED, Metric, flatten
from salsa.report.terminal import TerminalTable

Row = Mapping[str, Any]
_MEAN_SCORE = "Score: mean over questions of the mean over their turns. "
_BEFORE_RL = ("ingredient", "soup")
_NORMALISED = (
    " Normalised: SFT1's finished replies have mean 0 and standard deviation 1; a reply without end gets the score "
    "fixed for the policy, in every row."
)


def grids(experiment: Mapping[str, Any]) -> list[Grid]:
    """Return the tables of an experiment, the main one first."""
    found = [*win_rates(experiment), *judging.grids(experiment), replies(experiment), divergence(experiment)]
    moved = along_training(experiment)
    found += [] if moved is None else [moved]
    # A judge that was asked about models from outside alone has said nothing that the main table could show.
    shows = experiment["opponents"] or judging.scored(experiment)
    return [main(experiment), *found] if shows else found


def show(experiment: Mapping[str, Any], console: Console | None = None) -> None:
    """Print an experiment so that a person grasps it at once; made for 120 columns, which files and pipes get."""
    if console is None:
        console = Console() if Console().is_terminal else Console(width=120)
    console.print(terminal(experiment))


def terminal(experiment: Mapping[str, Any]) -> Group:
    """Return everything that the terminal shows of an experiment, as one thing that rich can print."""
    heading = Text.assemble((experiment["title"], "bold"), (f"  {experiment['model']}", "dim"))
    parts: list[Any] = [heading, Text("")]
    for grid in grids(experiment):
        parts.append(TerminalTable(grid))
    for name, line in [*judging.lines(experiment), *reward_model_lines(experiment)]:
        parts.append(Text.assemble((f"{name}: ", "bold"), line))
    parts.append(Text(experiment["note"], "yellow"))
    parts += [Text(f"Warning: {warning}", "red") for warning in experiment["warnings"]]
    return Group(*parts)


def main(experiment: Mapping[str, Any]) -> Grid:
    """Return the main table: the judge's score of every model on every suite, and its win rates over all suites."""
    judge = experiment["judge"]
    group = f"{judge['name']}, {judge['unit']}"
    columns = [Column("model", left=True)]
    metrics: list[Metric | None] = [None]
    scored = judging.scored(experiment)
    suites = [*scored, *([POOLED] if len(scored) > 1 else [])]
    for suite in suites:
        columns.append(Column(suite, group))
        metrics.append(METRICS["judge"])
    for opponent in experiment["opponents"]:
        columns.append(Column(f"vs {opponent}", f"win rate, {judging.over(experiment)}, %"))
        metrics.append(METRICS["win_rate"])
    rows = []
    for row in experiment["rows"]:
        cells = [named(row)]
        cells += [suite_cell(row, suite, "judge") for suite in suites]
        cells += [win_cell(row, _pooled_name(experiment), opponent) for opponent in experiment["opponents"]]
        rows.append(cells)
    caption = (
        f"With {experiment['level']:.0%} intervals (questions resampled by cluster); bold: best of the column"
        f"{f'; {judging.NOT_ASKED}' if judging.reads(experiment) else ''}. "
        f"{_MEAN_SCORE if judging.reads(experiment) and scored else ''}"
        f"Win rate: win + tie / 2; {judging.ties([experiment])}."
        f"{_NORMALISED if _judge_is_normalised(experiment) else ''}{_left_out(experiment)}"
    )
    notes = [judging.same_model(experiment)] if judging.same_model(experiment) and experiment["opponents"] else []
    marked = mark_best(rows, metrics)
    return Grid(_title(experiment), caption, columns, marked, sections(experiment["rows"]), notes=notes)


def _title(experiment: Mapping[str, Any]) -> str:
    name = experiment["judge"]["name"]
    if not judging.reads(experiment):
        return f"{name.capitalize()} of each model on each suite, and its win rates"
    said = {"Scores": judging.scored(experiment), "win rates": experiment["opponents"]}
    text = " and ".join(what for what, there in said.items() if there)
    return f"{text[0].upper()}{text[1:]} of each model, judged by {name}"


def _judge_is_normalised(experiment: Mapping[str, Any]) -> bool:
    return experiment["judge"]["unit"] == METRICS["reward"].unit


def _left_out(experiment: Mapping[str, Any]) -> str:
    """Return a sentence on the prompts that no model could be asked, or nothing."""
    counts = experiment.get("left_out", {})
    long = {suite: each for suite, each in counts.items() if each["too_long"]}
    parts = [f"{each['too_long']} of {each['prompts']} prompts of {suite}" for suite, each in long.items()]
    return f" Left out as longer than the context: {', '.join(parts)}." if parts else ""


def win_rates(experiment: Mapping[str, Any]) -> list[Grid]:
    """Return the win rates on each suite: one table where it fits a line of the terminal, else one an opponent."""
    suites, opponents = judging.compared(experiment), experiment["opponents"]
    if len(suites) < 2 or not opponents:
        return []
    groups = [opponents] if len(suites) * len(opponents) <= 8 else [[opponent] for opponent in opponents]
    result = []
    for group in groups:
        pairs = [(opponent, suite) for opponent in group for suite in suites]
        columns = [Column("model", left=True), *(Column(suite, f"vs {opponent}") for opponent, suite in pairs)]
        rows = [
            [named(row), *(win_cell(row, suite, opponent) for opponent, suite in pairs)] for row in experiment["rows"]
        ]
        marked = mark_best(rows, [None, *(METRICS["win_rate"] for _ in pairs)])
        result.append(Grid("Win rate on each suite, %", "", columns, marked, sections(experiment["rows"])))
    return result


def replies(experiment: Mapping[str, Any]) -> Grid:
    """Return what the replies are like on each suite: reward-model score, length and the share without end."""
    kinds = ("reward", "length", "unfinished")
    columns, metrics = (
        [Column("model", left=True)],
        [None, *(METRICS[kind] for kind in kinds for _ in experiment["suites"])],
    )
    for kind in kinds:
        columns += [Column(suite, f"{METRICS[kind].label}, {METRICS[kind].unit}") for suite in experiment["suites"]]
    rows = []
    for row in experiment["rows"]:
        cells = [suite_cell(row, suite, kind) for kind in kinds for suite in experiment["suites"]]
        # The terminal has no room for these intervals; Markdown, HTML and CSV give them.
        rows.append([named(row), *(replace(cell, spread="") for cell in cells)])
    caption = (
        "A high score of the reward model that was optimised is no evidence of better replies; the judge is."
        f"{'' if _judge_is_normalised(experiment) else _NORMALISED}"
    )
    return Grid("Replies", caption, columns, mark_best(rows, metrics), sections(experiment["rows"]))


def divergence(experiment: Mapping[str, Any]) -> Grid:
    """Return how each model was trained, how far it moved from the anchors, and what it forgot (the alignment tax)."""
    anchors = experiment["anchors"]
    columns = [Column("model", left=True)]
    columns += [Column("start", "trained with", True), Column("reference", "trained with", True)]
    columns.append(Column("KL coef.", "trained with"))
    metrics: list[Metric | None] = [None, None, None, None]
    for anchor in anchors:
        columns += [Column(f"to {anchor}", "KL in nats a reply: k1 (k3)")]
        metrics.append(METRICS["k1"])
    taxes = ["recall", "perplexity"] if has_facts(experiment) else ["perplexity"]
    for tax in taxes:
        columns.append(Column("recall, %" if tax == "recall" else tax, "alignment tax"))
        metrics.append(METRICS[tax])
    rows = []
    for row in experiment["rows"]:
        cells = [named(row), *(Cell(row[key]) if row[key] else BLANK for key in ("init", "reference"))]
        cells.append(BLANK if row["kl_coef"] is None else Cell(f"{row['kl_coef']:g}"))
        cells += [kl_cell(row, anchor) for anchor in anchors]
        found = row["tax"] or {}
        cells += [measured(found.get(name), METRICS[name], found.get("fingerprint", "")) for name in taxes]
        rows.append(cells)
    caption = (
        "KL(model || anchor) on the model's own replies at temperature 1, with l the log-ratio of a token: "
        "k1 = sum of l (with its interval), k3 = sum of exp(-l) - 1 + l. "
        f"{'Recall: share of the facts that are completed rightly. ' if 'recall' in taxes else ''}"
        "Perplexity: on text never trained on."
    )
    return Grid(
        "Training, KL and alignment tax", caption, columns, mark_best(rows, metrics), sections(experiment["rows"])
    )


def has_facts(experiment: Mapping[str, Any]) -> bool:
    """Return whether recall applies: where the data bring no facts, no model has any, and its column is left out."""
    return any(row["tax"] is None or row["tax"]["recall"] is not None for row in experiment["rows"])


def reward_model_lines(experiment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the name and one line on the reward model and, where a second one judges, on that one too."""
    named_lines = [("Reward model (optimised)", reward_model_line(experiment["reward_model"]))]
    if experiment.get("judge_model"):
        line = reward_model_line(experiment["judge_model"])
        named_lines.append(("Judge (second reward model, trained on other pairs)", line))
    return named_lines


def reward_model_line(report: Mapping[str, Any] | None) -> str:
    """Return one line on a reward model: accuracy, calibration, and correlation with gold where there is gold."""
    if report is None:
        return "missing"
    accuracy = measured(report["accuracy"], Metric("accuracy", "%", 1, 100.0))
    parts = [
        f"pairwise accuracy {accuracy.text} % {accuracy.interval} on {report['pairs']:,} held-out pairs".replace(
            "  ", " "
        ),
        f"calibration error (ECE) {_plain(report['ece'])}",
        f"Brier score {_plain(report['brier'])}",
        "no gold score to correlate with"
        if report["correlation"] is None
        else f"correlation with gold reward {_plain(report['correlation'])}",
    ]
    return "; ".join(parts) + "."


def _plain(value: float | None) -> str:
    return "missing" if value is None else f"{value:.3f}"


def named(row: Row) -> Cell:
    """Return the cell of a model's name; the policies of the experiment stand out from what they are compared with."""
    return Cell(row["name"], tone="own" if row["role"] == "policy" else "name", source=row["fingerprint"])


def suite_cell(row: Row, suite: str, metric: str) -> Cell:
    """Return the cell of one metric on one suite, or of its mean over suites."""
    found = _results(row, suite)
    if found is None:
        return MISSING
    if metric == "judge" and not judging.asked(row, suite, metric):
        return BLANK
    return measured(found.get(metric), METRICS[metric], source(row, suite, metric))


def win_cell(row: Row, suite: str, opponent: str) -> Cell:
    """Return the cell of a win rate, toned where its interval leaves out one half."""
    if row["name"] == opponent:
        return BLANK
    found = _results(row, suite)
    if found is not None and not judging.asked(row, suite, f"against {opponent}"):
        return BLANK
    rate = (found or {}).get("win_rate", {}).get(opponent)
    cell = measured(rate, METRICS["win_rate"], judging.win_source(row, suite, opponent))
    return cell if rate is None else judging.toned(cell, rate)


def kl_cell(row: Row, anchor: str) -> Cell:
    """Return the cell of the KL to one anchor: k1 with its interval, and k3 in brackets."""
    found = row["kl"].get(anchor)
    if found is None:
        return MISSING
    cell = measured(found["k1"], METRICS["k1"], found.get("fingerprint", ""))
    if cell is MISSING:
        return MISSING
    other = f"({measured(found['k3'], METRICS['k3']).text})"
    return replace(cell, spread=f"{cell.spread} {other}".strip(), interval=f"{cell.interval} {other}".strip())


def source(row: Row, suite: str, metric: str) -> str:
    """Return the fingerprint behind a metric of a suite: of the judge's verdicts, or of the replies themselves."""
    prints = row["suites"].get(suite, {}).get("fingerprints", {})
    if metric == "reward" and metric in prints:
        return str(prints[metric])
    return prints.get("respond" if metric in ("length", "unfinished") else "judge", "")


def sections(rows: Sequence[Row]) -> frozenset[int]:
    """Return the rows after which a line is drawn: between models before RL, the arms, and the controls."""
    kinds = [
        "before" if row["role"] in _BEFORE_RL else "control" if row["role"] == "control" else "arm" for row in rows
    ]
    return frozenset(index for index in range(len(kinds) - 1) if kinds[index] != kinds[index + 1])


def _pooled_name(experiment: Mapping[str, Any]) -> str:
    return POOLED if len(experiment["suites"]) > 1 else experiment["suites"][0]


def _results(row: Row, suite: str) -> Mapping[str, Any] | None:
    return row["pooled"] if suite == POOLED else row["suites"].get(suite)


def markdown(experiment: Mapping[str, Any]) -> str:
    """Return all tables as Markdown, with the settings and the fingerprints behind every cell at the end."""
    parts = [f"# {escape(experiment['title'])}", f"Model: {escape(experiment['model'])}.", experiment["note"]]
    parts += [f"Warning: {escape(warning)}." for warning in experiment["warnings"]]
    parts += [to_markdown(grid).rstrip() for grid in grids(experiment)]
    for name, line in judging.lines(experiment):
        parts += ["## Judging", f"{escape(name)}: {escape(line)}"]
    parts.append("## Reward model")
    parts += [f"{name}: {escape(line)}" for name, line in reward_model_lines(experiment)]
    parts += [to_markdown(settings_grid(experiment)).rstrip(), to_markdown(fingerprints_grid(experiment)).rstrip()]
    return "\n\n".join(parts) + "\n"


def settings_grid(experiment: Mapping[str, Any]) -> Grid:
    """Return the settings with dotted keys, as they are given on the command line."""
    rows = [[Cell(key, tone="name"), Cell(str(value))] for key, value in flatten(experiment["settings"])]
    return Grid("Settings", "", [Column("key", left=True), Column("value", left=True)], rows)


def fingerprints_grid(experiment: Mapping[str, Any]) -> Grid:
    """Return which artifact each part of the tables comes from, so that every cell can be traced."""
    rows = []
    for row in experiment["rows"]:
        found = [("model", row["fingerprint"])]
        for suite, results in row["suites"].items():
            found += [(f"{suite}: {stage}", value) for stage, value in results["fingerprints"].items()]
        found += [(f"KL to {anchor}", estimate.get("fingerprint", "")) for anchor, estimate in row["kl"].items()]
        found.append(("alignment tax", (row["tax"] or {}).get("fingerprint", "")))
        rows += [[Cell(row["name"], tone="name"), Cell(part), Cell(value)] for part, value in found if value]
    for name, key in (("reward model", "reward_model"), ("judge model", "judge_model")):
        report = experiment.get(key) or {}
        if report.get("fingerprint"):
            rows.append([Cell(name, tone="name"), Cell("report"), Cell(report["fingerprint"])])
    columns = [Column("model", left=True), Column("part", left=True), Column("fingerprint", left=True)]
    return Grid("Fingerprints", f"Experiment: {experiment['fingerprint']}", columns, rows)


CSV_HEADER = ("row", "suite", "metric", "value", "low", "high", "n", "fingerprint")


def tidy(experiment: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one record a figure with the keys of `CSV_HEADER`; a missing figure has None for its value.

    Units are those of `experiment.json`: shares and win rates from 0 to 1, KL in nats a reply, length in tokens.
    """
    for row in experiment["rows"]:
        for suite in [*experiment["suites"], POOLED]:
            found = _results(row, suite) or {}
            for metric in ("judge", "reward", "length", "unfinished"):
                yield _record(row["name"], suite, metric, found.get(metric), source(row, suite, metric))
            for opponent in experiment["opponents"]:
                if opponent == row["name"]:
                    continue
                rate = found.get("win_rate", {}).get(opponent)
                origin = judging.win_source(row, suite, opponent)
                count = None if rate is None else rate["wins"] + rate["ties"] + rate["losses"]
                yield _record(row["name"], suite, f"win_rate_vs_{opponent}", rate, origin) | {"n": count}
                for kind in ("wins", "ties", "losses"):
                    value = None if rate is None else {"value": rate[kind], "n": count}
                    yield _record(row["name"], suite, f"{kind}_vs_{opponent}", value, origin)
        for anchor in experiment["anchors"]:
            kl = row["kl"].get(anchor, {})
            for estimator in ("k1", "k3"):
                name = f"kl_{estimator}_to_{anchor}"
                yield _record(row["name"], "", name, kl.get(estimator), kl.get("fingerprint", ""))
        tax = row["tax"] or {}
        for metric in ("recall", "perplexity") if has_facts(experiment) else ("perplexity",):
            yield _record(row["name"], "", metric, {"value": tax.get(metric)}, tax.get("fingerprint", ""))
    yield from _of_reward_model("reward model", experiment["reward_model"] or {})
    if experiment.get("judge_model"):
        yield from _of_reward_model("judge model", experiment["judge_model"])


def _of_reward_model(name: str, report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    origin = report.get("fingerprint", "")
    yield _record(name, "", "accuracy", report.get("accuracy"), origin)
    for metric in ("brier", "ece", "correlation"):
        yield _record(name, "", metric, {"value": report.get(metric), "n": report.get("pairs")}, origin)


def _record(row: str, suite: str, metric: str, estimate: Mapping[str, Any] | None, fingerprint: str) -> dict[str, Any]:
    found = estimate or {}
    numbers = {key: found.get(key) for key in ("value", "low", "high", "n")}
    return {"row": row, "suite": suite, "metric": metric, **numbers, "fingerprint": fingerprint}


def to_csv(experiment: Mapping[str, Any]) -> str:
    """Return the figures as tidy CSV, one a line; a missing one has an empty value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_HEADER, lineterminator="\n")
    writer.writeheader()
    writer.writerows(tidy(experiment))
    return text.getvalue()
