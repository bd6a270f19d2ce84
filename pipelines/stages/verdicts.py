"""Stage `verdicts`: what a judge that reads says of a model's replies to a suite, alone or beside another model's.

Completions go to one log a judge, in the outputs' folder, as they arrive: a kill loses none, no stage asks for one that
another has been given, and limits of calls and money hold for all together.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines import judges
from pipelines.failure import Unfinished
from pipelines.stages.respond import RESPONSES
from pipelines.work import Work
from salsa.data.address import fetch
from salsa.data.conversation import Message, Prompt
from salsa.judging import verdict
from salsa.judging.cost import Estimate, estimate
from salsa.judging.endpoint import Endpoint
from salsa.judging.judgment import Outcome, distinct, judge, waiting
from salsa.judging.log import LogBusy, VerdictLog
from salsa.judging.matches import Asked, pairs, singles
from salsa.judging.questions import Answers, Question, QuestionSet, read_answers, read_questions
from salsa.judging.request import Request
from salsa.judging.verdict import Verdict
from salsa.store.artifact import Artifact

VERDICTS = "verdicts.jsonl"
BASELINE = "baseline.jsonl"
FOLDER = "verdicts"
"""Of the logs, in the outputs' folder."""
WAIT_SECONDS = 0.5


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `verdicts.jsonl`, and a baseline's replies; models are called by the start of their fingerprints.

    Raises:
        Unfinished: if verdicts are missing because the judge, the budget or the network gave out; they are asked for
            by the next command.
    """
    place = work.stage.execution
    asked = judges.load(work.config["judge"], place)
    requests, outside, unanswered = _requests(work)
    spending = judges.spending(place)
    longest = asked.longest if isinstance(asked, Endpoint) else None
    with _log(work, Path(work.execution.outputs) / FOLDER / f"{_slug(place['judge'])}.jsonl") as log:
        left = waiting(requests, log.verdicts)
        guess = estimate(distinct(left, log.verdicts), longest, spending.prices)
        total = len({request.key for request in requests})
        done = total - len(left)

        def watch(_: Any) -> None:
            nonlocal done
            done += 1
            work.progress(done, total, f"verdicts{_about(guess)}")

        outcome = judge(requests, asked, log, judges.limits(place), spending, watch)
        lines = _lines(log.path, requests)
    _check(outcome, place["max_failed"])
    with (work.folder / VERDICTS).open("w", encoding="ascii") as file:
        file.writelines(json.dumps(found.as_json()) + "\n" for found in outcome.verdicts)
    if outside is not None:
        _keep(work.folder / BASELINE, outside)
    metrics = _metrics(outcome, lines) | {"unanswered": unanswered}
    return _says(metrics, outcome, guess, outside), metrics


def _requests(work: Work) -> tuple[list[Request], Answers | None, int]:
    """Return what the judge is asked, a baseline's replies if one from outside is met, and what it leaves unanswered.

    Raises ValueError where a baseline answers none of the questions.
    """
    place = work.stage.execution
    questions = _questions(work)
    own = _answers(work, work.inputs["responses"])
    prompts = judges.prompt_set(place["prompts"], place["levels"])
    asked = Asked(place["judge"], prompts, work.config["judge"].get("settings", work.config["judge"]))
    if work.config["kind"] == "single":
        return singles(questions, own, asked), None, 0
    if "opponent" in work.inputs:
        return pairs(questions, own, _answers(work, work.inputs["opponent"]), asked), None, 0
    baseline = place["baseline"]
    other = read_answers(fetch(baseline.get("path") or baseline["address"]), questions.questions)
    requests = pairs(questions, own, other, asked)
    if not requests:
        raise ValueError(
            f"{other.source} answers none of the {len(questions.questions)} questions of {questions.suite}"
        )
    return requests, other, _unanswered(questions, own, other)


def _unanswered(questions: QuestionSet, own: Answers, other: Answers) -> int:
    """Return how many questions another model has not answered as far as the own model has."""
    turns = [[len(each.replies.get(question.id, ())) for each in (own, other)] for question in questions.questions]
    return sum(theirs < ours for ours, theirs in turns)


def _keep(path: Path, answers: Answers) -> None:
    """Leave a baseline's replies, in the form of a file of answers: styles and lengths are read from them."""
    with path.open("w", encoding="utf-8") as file:
        for identity, replies in answers.replies.items():
            row = {"question_id": identity, "model_id": answers.model, "choices": [{"index": 0, "turns": replies}]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _questions(work: Work) -> QuestionSet:
    """Return the questions of the suite; of a category alone where the baseline is for that one."""
    suite = work.config["suite"]
    if "questions" in work.inputs:
        questions = read_questions(work.inputs["questions"].file("questions.jsonl"), suite)
        category = work.config.get("category")
        kept = [each for each in questions.questions if not category or each.category == category]
        if not kept:
            raise ValueError(f"suite {suite} has no question of category {category!r}, for which there is a baseline")
        return replace(questions, questions=tuple(kept))
    prompts = [row["prompt"] for row in work.inputs["responses"].lines(RESPONSES)]
    return QuestionSet(suite, tuple(_question(work, prompt) for prompt in prompts))


def _question(work: Work, row: dict[str, Any]) -> Question:
    """Return a prompt as a judge reads it: what was said before is a part of the first question."""
    prompt = Prompt(**(row | {"context": tuple(Message(**message) for message in row["context"])}))
    first, *others = (work.source.display(text) for text in prompt.questions)
    if prompt.context:
        said = [f"{message.role}: {work.source.display(message.content)}" for message in prompt.context]
        first = "\n".join([*said, f"user: {first}"])
    return Question(prompt.id, (first, *others), prompt.category, prompt.cluster or prompt.id)


def _answers(work: Work, responses: Artifact) -> Answers:
    name = str(responses.manifest["inputs"]["model"])[:12]
    replies = {
        row["prompt"]["id"]: tuple(work.source.display(text) for text in row["replies"])
        for row in responses.lines(RESPONSES)
    }
    return Answers(name, f"respond {responses.fingerprint[:12]}", replies)


@contextmanager
def _log(work: Work, path: Path) -> Iterator[VerdictLog]:
    """Open a judge's log; while another process asks this judge, wait: its limits are those of one at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        while True:
            try:
                log = stack.enter_context(VerdictLog(path))
                break
            except LogBusy:
                work.progress(0, 1, "waits for the judge, which another process asks")
                time.sleep(WAIT_SECONDS)
        yield log


def _check(outcome: Outcome, max_failed: float) -> None:
    counts = outcome.counts
    have = f"{counts['judged'] + counts['unparsed']:,} of {outcome.requests:,} verdicts are there and kept"
    if outcome.stopped:
        raise Unfinished(f"{outcome.stopped}; {have}, the same command asks for the others")
    if counts["failed"] > max_failed * outcome.requests:
        why = next(found.error for found in outcome.verdicts if found.status == "failed")
        raise Unfinished(
            f"{counts['failed']:,} requests failed, more than judge.max_failed={max_failed:g} allows; one of them: "
            f"{why}; {have}, the same command asks for the others"
        )


def _lines(path: Path, requests: Sequence[Request]) -> list[Verdict]:
    """Return every line of a log on these requests, the failed ones too; those of another suite count there."""
    keys = {(request.key, request.suite) for request in requests}
    return [each for each in verdict.lines(path) if (each.key, each.suite) in keys]


def _metrics(outcome: Outcome, asked: Sequence[Verdict]) -> dict[str, Any]:
    """Return what the verdicts are and what they cost, whenever they were asked for; `asked` are all lines on them.

    `priced` says of how many calls the price is known: a log may have lines from before there was a price list.
    """
    counts = outcome.counts
    shared = [each for each in outcome.verdicts if not each.attempt]
    prices = [each.price for each in [*asked, *shared] if each.price is not None]
    # What the endpoint charged nothing for costs nothing, whatever the list says.
    unpriced = [each for each in asked if each.price is None and (each.completion or each.tokens_in is not None)]
    calls = sum(each.attempt for each in asked)
    return {
        "requests": outcome.requests,
        "judged": counts["judged"],
        "unparsed": counts["unparsed"],
        "failed": counts["failed"],
        "calls": calls,
        "tokens_in": sum(each.tokens_in or 0 for each in asked),
        "tokens_out": sum(each.tokens_out or 0 for each in asked),
        "price": sum(prices) if prices else None,
        "priced": calls - sum(each.attempt for each in unpriced),
    }


def _says(metrics: dict[str, Any], outcome: Outcome, guess: Estimate, outside: Answers | None) -> str:
    text = f"{metrics['requests']:,} verdicts ({metrics['unparsed']:,} unparsed, {metrics['failed']:,} failed)"
    text += f", {outcome.calls:,} calls now" if outcome.calls else ", all asked before"
    if outcome.cost is not None and outcome.calls:
        text += f", {outcome.cost:.4f}{_about(guess)}"
    if outside is not None and metrics["unanswered"]:
        text += f"; {metrics['unanswered']:,} questions that {outside.model} has no whole answer to are left out"
    return text


def _about(guess: Estimate) -> str:
    return "" if guess.price is None else f" (estimated {guess.price:.4f})"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "judge"
