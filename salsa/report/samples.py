"""Sample replies: the same prompts answered by every model, side by side, chosen without looking at the answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from salsa.evaluation.scores import ScoredReply
from salsa.report import judging
from salsa.report.markup import escape, quote, shorten, visible

MISSING = "missing"
# Of longer texts the middle is left out where people read them side by side; `experiment.json` has all of it.
QUESTION_CHARACTERS = 1200
REPLY_CHARACTERS = 800


def choose(
    rows: Sequence[str],
    suites: Sequence[str],
    scores: Mapping[str, Mapping[str, Sequence[ScoredReply]]],
    count: int = 20,
) -> list[dict[str, Any]]:
    """Return `count` prompts with every row's reply, shared out evenly over suites and evenly spaced within each.

    The choice depends on the prompts' order alone, never on replies or scores, so nothing is picked to please.
    """
    chosen: list[dict[str, Any]] = []
    asked = {suite: next((scores[row][suite] for row in rows if suite in scores.get(row, {})), ()) for suite in suites}
    open_suites = [suite for suite in suites if asked[suite]]
    for position, suite in enumerate(open_suites):
        # What a small suite cannot give is shared out among the suites after it.
        wanted = -(-(count - len(chosen)) // (len(open_suites) - position))
        prompts = asked[suite]
        share = min(wanted, len(prompts))
        by_row = {row: {reply.prompt_id: reply for reply in scores.get(row, {}).get(suite, ())} for row in rows}
        for prompt in (prompts[(2 * place + 1) * len(prompts) // (2 * share)] for place in range(share)):
            replies = {row: by_row[row][prompt.prompt_id] for row in rows if prompt.prompt_id in by_row[row]}
            chosen.append(
                {
                    "suite": suite,
                    "prompt_id": prompt.prompt_id,
                    "question": prompt.question,
                    "replies": {
                        row: {"text": in_turns(reply.replies), "judge": reply.judge, "ended": reply.ended}
                        for row, reply in replies.items()
                    },
                }
            )
    return chosen


def in_turns(texts: Sequence[str]) -> str:
    """Return the texts of several turns as one, each marked with its number; a single one as it is."""
    if len(texts) == 1:
        return texts[0]
    return "\n".join(f"turn {number}: {text}" for number, text in enumerate(texts, start=1))


def markdown(experiment: Mapping[str, Any]) -> str:
    """Return the samples as Markdown: a heading a prompt, under it one line a model with its judge score."""
    parts = [
        f"# Sample replies: {escape(experiment['title'])}",
        f"{len(experiment['samples'])} prompts, evenly spaced in each suite and chosen without looking at the replies. "
        f"{_scores(experiment)} A reply marked ✂ was cut at the length limit.",
    ]
    for number, sample in enumerate(experiment["samples"], start=1):
        lines = [
            f"## {number}. {escape(sample['suite'])}",
            quote(asked(sample)),
            "",
            "| model | score | reply |",
            "|---|---:|---|",
        ]
        for row in experiment["rows"]:
            none = no_score(experiment, sample["suite"], row)
            text, score = shown(sample["replies"].get(row["name"]), none)
            lines.append(f"| {escape(row['name'])} | {score} | {escape(text)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def asked(sample: Mapping[str, Any]) -> str:
    """Return a sample's question as a reader sees it."""
    return shorten(visible(sample["question"].strip()), QUESTION_CHARACTERS)


def _scores(experiment: Mapping[str, Any]) -> str:
    judge = experiment["judge"]
    if not judging.scored(experiment):
        return f"There are no scores: {escape(judge['name'])} compares replies."
    return f"Score: {escape(judge['name'])} ({escape(judge['unit'])})."


def no_score(experiment: Mapping[str, Any], suite: str, row: Mapping[str, Any]) -> str:
    """Return what stands for a score that is not there: where the judge was not asked for one, none is missing."""
    return MISSING if suite in judging.scored(experiment) and judging.asked(row, suite, "judge") else "–"


def shown(reply: Mapping[str, Any] | None, none: str = MISSING) -> tuple[str, str]:
    """Return a reply's text (marked where it was cut) and its score (`none` without one) as a reader sees them."""
    if reply is None:
        return MISSING, MISSING
    text = shorten(visible(reply["text"].strip()), REPLY_CHARACTERS) or "(empty)"
    score = none if reply["judge"] is None else f"{reply['judge']:.2f}"
    return text if reply.get("ended", True) else f"{text} ✂", score


def columns(experiment: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Return header and lines of a flat table (suite, question, then reply and score a model), as W&B tables want it.

    A missing reply or score is None.
    """
    names = [row["name"] for row in experiment["rows"]]
    header = ["suite", "question", *(part for name in names for part in (name, f"{name} score"))]
    lines = []
    for sample in experiment["samples"]:
        line: list[Any] = [sample["suite"], sample["question"]]
        for name in names:
            reply = sample["replies"].get(name)
            line += [None, None] if reply is None else [reply["text"], reply["judge"]]
        lines.append(line)
    return header, lines
