"""What a judge that reads replies said: a table a suite, how it leans, and what asking it cost. No NumPy: fast.

`judging` in `experiment.json` holds the judge's name; `scored` and `compared`, the suites of which it gave scores and
compared rows; counts and cost, whole and `by_suite`; and `suites`: for each row the `score`, its `turns`, and the share
won `against` each model (0 to 1), by which `rules`, the judge's `bias`, and how many questions each model from outside
leaves `unanswered`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from salsa.report.grid import BLANK, MISSING, Cell, Column, Grid, mark_best, measured
from salsa.report.markup import one_line
from salsa.report.schema import METRICS, POOLED, Metric

Experiment = Mapping[str, Any]
Row = Mapping[str, Any]
SCORE = Metric("score", "points of 10", 2, better="high")
SHARE = Metric("share", "%", 1, 100.0)
ITS_OWN = (
    "the judge says itself what is a tie, and each question counts alike, by the share of its games with a verdict "
    "that was won"
)
ALL_SUITES = "all suites"
NOT_ASKED = "–: the row itself, or not asked"
_MILLION, _THOUSAND = 1e6, 1e3


def reads(experiment: Experiment) -> bool:
    """Return whether the experiment's judge reads and compares replies, and does not score each by a rule."""
    return "judging" in experiment


def scored(experiment: Experiment) -> list[str]:
    """Return the suites on which rows have judge scores."""
    return list(experiment["judging"]["scored"] if reads(experiment) else experiment["suites"])


def compared(experiment: Experiment) -> list[str]:
    """Return the suites on which rows are compared with each other."""
    return list(experiment["judging"]["compared"] if reads(experiment) else experiment["suites"])


def over(experiment: Experiment) -> str:
    """Return what win rates over several suites are of: all of them, or those on which rows are compared."""
    found = compared(experiment)
    return ALL_SUITES if found == list(experiment["suites"]) else ", ".join(found)


def over_any(experiments: Iterable[Experiment]) -> str:
    """Return what win rates over several suites are of in several experiments."""
    found = [f"{text} of an experiment" if text == ALL_SUITES else text for text in map(over, experiments)]
    return "; or ".join(dict.fromkeys(found))


def asked(row: Row, suite: str, question: str) -> bool:
    """Return whether the judge was asked for a row's score ("judge"), or of its games ("against X"), on a suite.

    One that reads is asked about some rows alone; one that scores replies scores all. `POOLED` means on any suite.
    """
    suites = row["suites"].values() if suite == POOLED else [row["suites"].get(suite, {})]
    prints = [each.get("fingerprints", {}) for each in suites]
    # Where the judge reads, the stage that scores replies gives the reward alone, and is called so.
    return any("reward" not in own or question in own for own in prints)


def alike(experiment: Experiment) -> list[list[str]]:
    """Return the names of the rows that are one model, for each model that several are."""
    rows: dict[str, list[str]] = {}
    for row in experiment["rows"]:
        rows.setdefault(row["fingerprint"], []).append(row["name"])
    return [names for names in rows.values() if len(names) > 1]


def same_model(experiment: Experiment) -> str:
    """Return a sentence on rows that are one model and therefore tie, or nothing."""
    if not reads(experiment) or not alike(experiment):
        return ""
    told = "; ".join(" = ".join(names) for names in alike(experiment))
    return one_line(f"One model: {told}; it ties with itself on every question, of which nobody was asked.")


def ties(experiments: Iterable[Experiment]) -> str:
    """Return how ties come about with the judges of experiments."""
    margins = list(dict.fromkeys(each["judge"]["tie_margin"] for each in experiments))
    known = " / ".join(f"{margin:g}" for margin in margins if margin is not None)
    parts = [f"scores within {known} are a tie"] if known else []
    return "; or ".join(parts + ([ITS_OWN] if None in margins else []))


def win_source(row: Row, suite: str, opponent: str) -> str:
    """Return the fingerprint behind a row's win rate on a suite: of the verdicts, or of the judge's scores."""
    prints = row["suites"].get(suite, {}).get("fingerprints", {})
    found = prints.get(f"against {opponent}") if "reward" in prints else prints.get("judge")
    return found or ""


def grids(experiment: Experiment) -> list[Grid]:
    """Return a table for each suite that the judge was asked about, with its leanings and counts below."""
    if not reads(experiment):
        return []
    return [_grid(experiment, head) for head in experiment["judging"].get("suites", ())]


def lines(experiment: Experiment) -> list[tuple[str, str]]:
    """Return the name and one line on asking the judge, where it reads."""
    judging = experiment.get("judging", {})
    return [(f"Judging by {one_line(judging['judge'])}", f"{counts(judging)}.")] if "requests" in judging else []


def counts(told: Mapping[str, Any]) -> str:
    """Return what became of the requests and what they cost, in one line; money is in the unit of the price list."""
    became = ", ".join(f"{told[name]:,} {name}" for name in ("judged", "unparsed", "failed"))
    tokens = f"{amount(told['tokens_in'])} tokens in, {amount(told['tokens_out'])} out"
    paid = price(told["price"])
    if told["price"] is not None and told.get("priced", told["calls"]) < told["calls"]:
        paid += f" for {told['priced']:,} of the calls, as the others had no price list"
    return f"{told['requests']:,} asked, {became}; {told['calls']:,} calls, {tokens}, {paid}"


def amount(tokens: int) -> str:
    """Return a number of tokens, in thousands or millions where there are so many."""
    if tokens >= _MILLION:
        return f"{tokens / _MILLION:.1f} M"
    return f"{tokens / _THOUSAND:.1f} k" if tokens >= 10 * _THOUSAND else f"{tokens:,}"


def price(value: float | None) -> str:
    """Return what was paid, with enough digits to tell small amounts apart."""
    if value is None:
        return "no price list"
    return f"{value:,.2f}" if value >= 10 or value == 0 else f"{value:.4f}"


def _grid(experiment: Experiment, head: Mapping[str, Any]) -> Grid:
    suite = head["suite"]
    parts = _parts(experiment, head)
    names = {row["name"] for row in experiment["rows"]}
    outside = [name for name in head["rules"] if name not in names]
    others = [name for name in [*experiment["opponents"], *outside] if name in head["rules"]]
    columns = [Column("model", left=True), *(Column(part, f"score, {SCORE.unit}") for part in parts)]
    columns += [Column(f"vs {one_line(name)}", "win rate by the benchmark's rule, %") for name in others]
    rows = []
    for row in experiment["rows"]:
        own = Cell(one_line(row["name"]), tone="own" if row["role"] == "policy" else "name", source=row["fingerprint"])
        against = (_against(experiment, row, head, other) for other in others)
        rows.append([own, *_scores(row, head, parts), *against])
    metrics: list[Metric | None] = [None, *[SCORE] * len(parts), *[METRICS["win_rate"]] * len(others)]
    notes = [*_numbers(head, others), *_unanswered(head), same_model(experiment), *_leanings(head)]
    return Grid(
        f"Judging: {one_line(suite)} by {one_line(head['judge'])}",
        _caption(experiment, head, bool(parts), others),
        columns,
        mark_best(rows, metrics),
        notes=[*filter(None, notes), f"{counts(experiment['judging']['by_suite'][suite])}."],
    )


def _parts(experiment: Experiment, head: Mapping[str, Any]) -> list[str]:
    """Return the columns of scores: none where there are none, else the mean, and turns where there are several."""
    if head["suite"] not in experiment["judging"]["scored"]:
        return []
    turns = sorted({turn for each in head["rows"].values() for turn in each["turns"]}, key=int)
    return ["all", *(f"turn {turn}" for turn in turns if len(turns) > 1)]


def _scores(row: Row, head: Mapping[str, Any], parts: Sequence[str]) -> list[Cell]:
    found = head["rows"].get(row["name"], {"score": None, "turns": {}})
    origin = row["suites"].get(head["suite"], {}).get("fingerprints", {}).get("judge", "")
    scores = [found["score"] if part == "all" else found["turns"].get(part.removeprefix("turn ")) for part in parts]
    none = MISSING if asked(row, head["suite"], "judge") else BLANK
    return [none if score is None else measured(score, SCORE, origin) for score in scores]


def _against(experiment: Experiment, row: Row, head: Mapping[str, Any], other: str) -> Cell:
    """Return the cell of a win rate; a row of the same model ties, and one that nobody was asked of has none."""
    if row["name"] == other:
        return BLANK
    origin = win_source(row, head["suite"], other)
    if any({row["name"], other} <= set(names) for names in alike(experiment)):
        return measured({"value": 0.5, "low": 0.5, "high": 0.5}, METRICS["win_rate"], origin)
    share = head["rows"].get(row["name"], {"against": {}})["against"].get(other)
    if share is None:
        return MISSING if asked(row, head["suite"], f"against {other}") else BLANK
    return toned(measured(share, METRICS["win_rate"], origin), share)


def toned(cell: Cell, rate: Mapping[str, Any]) -> Cell:
    """Return the cell of a win rate, toned where its interval leaves out one half."""
    if rate["low"] is None or rate["high"] is None:
        return cell
    return replace(cell, tone="better" if rate["low"] > 0.5 else "worse" if rate["high"] < 0.5 else "")


def _caption(experiment: Experiment, head: Mapping[str, Any], single: bool, others: Sequence[str]) -> str:
    level = f"{experiment['level']:.0%}"
    said = [f"With {level} intervals (questions resampled by cluster); bold: best of the column; {NOT_ASKED}."]
    if head["snapshots"]:
        said.append(f"The judge calls itself {one_line(', '.join(head['snapshots']))}.")
    if single:
        said.append("Score: mean over the turns that have one.")
    rules: dict[str, list[str]] = {}
    for name in others:
        rules.setdefault(head["rules"][name], []).append(name)
    for rule, names in rules.items():
        of = f" against {one_line(', '.join(names))}" if len(rules) > 1 else ""
        said.append(f"Win rate{of}: (win + tie / 2) / all; {rule}.")
    return " ".join(said)


def _numbers(head: Mapping[str, Any], others: Sequence[str]) -> list[str]:
    """Return one line on how many turns of questions there is something of, for the scores and each comparison."""
    rows = head["rows"].values()
    found = {"scores": [row["score"]["n"] for row in rows if row["score"]]}
    found |= {f"vs {name}": [row["against"][name]["n"] for row in rows if row["against"].get(name)] for name in others}
    parts = [f"{what} {_span(numbers)}" for what, numbers in found.items() if numbers]
    return [one_line(f"Turns of questions with a verdict: {', '.join(parts)}.")] if parts else []


def _span(numbers: Sequence[int]) -> str:
    return f"{min(numbers):,}" if min(numbers) == max(numbers) else f"{min(numbers):,} to {max(numbers):,}"


def _unanswered(head: Mapping[str, Any]) -> list[str]:
    """Return a line on each model from outside that does not answer all questions."""
    counted = head.get("unanswered", {}).items()
    return [one_line(f"{unanswered(name, count)}.") for name, count in counted if count]


def unanswered(name: str, count: int) -> str:
    """Return what is said of a model from outside that has no reply to so many questions."""
    questions = "1 question is" if count == 1 else f"{count:,} questions are"
    return f"{questions} not compared with {name}, which has no whole answer to {'it' if count == 1 else 'them'}"


def _leanings(head: Mapping[str, Any]) -> list[str]:
    """Return one line on the judge's swap consistency, and how often the first and the longer reply win."""
    bias = head["bias"]
    if bias is None:
        return []
    swap = bias["swap"]
    said = []
    if swap["consistency"] is not None:
        said.append(f"says the same when swapped in {_share(swap['consistency'])} of {swap['complete']:,} matches")
    for key, text in (("first_wins", "the reply shown first"), ("longer_wins", "the longer reply")):
        if bias[key] is not None:
            said.append(f"prefers {text} in {_share(bias[key])} of {bias[key]['n']:,} games without a tie")
    return [f"The judge {'; '.join(said)}."] if said else []


def _share(estimate: Mapping[str, Any]) -> str:
    cell = measured(estimate, SHARE)
    return f"{cell.text} % {cell.interval}".strip()
