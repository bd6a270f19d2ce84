"""Stage `verdicts`: what a judge that reads says of a model's replies to a suite, alone or beside another model's.

Completions go to one log a judge, in the outputs' folder, as they arrive: a kill loses none, no stage asks for one that
another has been given, and limits of calls and money hold for all together.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines import judges
from pipelines.benchmarks import ALL
from pipelines.failure import Unfinished
from pipelines.identity import read_planned
from pipelines.ranges import ConfigurationError
from pipelines.stages.respond import RESPONSES
from pipelines.work import Work
from salsa.data.conversation import Message, Prompt
from salsa.judging import verdict
from salsa.judging.answer import as_asked
from salsa.judging.cost import Estimate, estimate
from salsa.judging.endpoint import Endpoint
from salsa.judging.functions import Function
from salsa.judging.judgment import Outcome, distinct, judge, waiting
from salsa.judging.log import LogBusy, VerdictLog
from salsa.judging.matches import Asked, pairs, singles
from salsa.judging.prompts import PromptSet
from salsa.judging.questions import Answers, Question, QuestionSet, read_answers, read_questions, with_references
from salsa.judging.request import Request
from salsa.judging.verdict import Verdict
from salsa.report.markup import one_line, shorten
from salsa.store.artifact import Artifact

VERDICTS = "verdicts.jsonl"
BASELINE = "baseline.jsonl"
WAIT_SECONDS = 0.5
SHOWN = 160
"""Characters of a judge's words that an error shows."""

AGAIN = "asks_again"
"""In the unfinished work, where completions that could not be read are asked for again: a kill does not end that."""

_GONE: dict[tuple[str, str], str] = {}
"""By command and judge the stage that found out that the judge answers nobody: no other one need find out."""
_UNREAD: dict[tuple[str, str, str], str] = {}
"""By command, judge and prompts the stage that found out that the answers cannot be read: no other one need pay."""
_LOADED: dict[str, Function] = {}
"""The function that judges, by its identity: it may be a model that takes minutes to load."""


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `verdicts.jsonl`, and a baseline's replies; models are called by the start of their fingerprints.

    Raises:
        Unfinished: if verdicts are missing because the judge, the budget or the network gave out; they are asked for
            by the next command.
    """
    place = work.stage.execution
    requests, outside, unanswered = _requests(work)
    spending = judges.spending(place)
    with _log(work, Path(work.execution.outputs) / judges.log_path(place["judge"])) as log:
        again = _asks_again(work, requests, log.verdicts)
        left = waiting(requests, log.verdicts, again)
        asked = distinct(left, log.verdicts, again)
        reader = _judge(work, asked)
        longest = reader.longest if isinstance(reader, Endpoint) else None
        guess = estimate(asked, longest, spending.prices)
        total = len({request.key for request in requests})
        done = total - len(left)

        def watch(_: Any) -> None:
            nonlocal done
            done += 1
            work.progress(done, total, f"verdicts{_about(guess)}")

        outcome = judge(requests, reader, log, judges.limits(place), spending, watch, ask_again=again)
        lines = _lines(log.path, requests)
    if outcome.gone:
        _GONE[work.execution.run, place["judge"]] = work.stage.name
    _check(outcome, place["max_failed"])
    _check_read(work, outcome)
    with (work.folder / VERDICTS).open("w", encoding="ascii") as file:
        file.writelines(json.dumps(found.as_json()) + "\n" for found in outcome.verdicts)
    if outside is not None:
        _keep(work.folder / BASELINE, outside)
    metrics = _metrics(outcome, lines) | {"unanswered": unanswered}
    return _says(metrics, outcome, guess, outside), metrics


def _judge(work: Work, asked: Sequence[Request]) -> Endpoint | Function:
    """Return the judge; a function is imported only where there is something to ask, and kept.

    Raises Unfinished where this command knows that the judge answers nobody.
    """
    place, known = work.stage.execution, work.config["judge"]
    name, command = place["judge"], work.execution.run
    for found_out, what in (
        (_GONE.get((command, name)), "stopped answering"),
        (_UNREAD.get((command, name, work.config["prompts"])), "gives no verdict that could be read"),
    ):
        if asked and found_out is not None:
            raise Unfinished(f"not asked, because judge {name} {what} (see {found_out}); the same command goes on")
    if "endpoint" in place:
        return judges.endpoint(place["endpoint"])
    if not asked:
        return lambda requests: []
    key = json.dumps(known, sort_keys=True)
    if key not in _LOADED:
        _LOADED.clear()
        _LOADED[key] = judges.load(known, place)
    return _LOADED[key]


def _asks_again(work: Work, requests: Sequence[Request], known: Mapping[str, Verdict]) -> bool:
    """Return whether what could not be read is asked for again: it is too much, or was when that was begun."""
    note = work.unfinished / AGAIN
    states = [as_asked(known[each.key], each).status for each in requests if each.key in known]
    if states.count("unparsed") > work.config["max_unparsed"] * (len(states) - states.count("failed")):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
    return note.exists()


def _requests(work: Work) -> tuple[list[Request], Answers | None, int]:
    """Return what the judge is asked, a baseline's replies if one from outside is met, and what it leaves unanswered.

    Raises ValueError where a baseline answers none of the questions.
    """
    place = work.stage.execution
    questions = _questions(work)
    own = _answers(work, work.inputs["responses"])
    asked = Asked(place["judge"], _prompts(work), work.config["judge"].get("settings", work.config["judge"]))
    if work.config["kind"] == "single":
        return singles(questions, own, asked), None, 0
    if "opponent" in work.inputs:
        return pairs(questions, own, _answers(work, work.inputs["opponent"]), asked), None, 0
    key = f"suite.benchmarks.{questions.suite}.baselines.{work.config['category'] or ALL}"
    other = read_planned(
        key, work.config["baseline"], place["baseline"], lambda path: read_answers(path, questions.questions)
    )
    requests = pairs(questions, own, other, asked)
    if not requests:
        raise ValueError(
            f"{other.source} answers none of the {len(questions.questions)} questions of {questions.suite}"
        )
    return requests, other, _unanswered(questions, own, other)


def _prompts(work: Work) -> PromptSet:
    """Return the judge's prompts; raise ConfigurationError where they are not those that were planned with."""
    place, config = work.stage.execution, work.config
    prompts = judges.prompt_set(place["prompts"], place["levels"])
    if judges.digest(prompts, config["kind"]) != config["prompts"]:
        raise ConfigurationError(
            f"{place['prompts_key']}={place['prompts']}: edited since this command planned with it; "
            "run the same command again"
        )
    return prompts


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
        return _with_references(work, replace(questions, questions=tuple(kept)))
    prompts = [row["prompt"] for row in work.inputs["responses"].lines(RESPONSES)]
    return QuestionSet(suite, tuple(_question(work, prompt) for prompt in prompts))


def _with_references(work: Work, questions: QuestionSet) -> QuestionSet:
    if "references" not in work.config:
        return questions
    key, categories = f"suite.benchmarks.{questions.suite}.references", work.config["reference_categories"]
    known, place = work.config["references"], work.stage.execution["references"]
    return read_planned(key, known, place, lambda path: with_references(questions, path, categories))


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


def _check_read(work: Work, outcome: Outcome) -> None:
    max_unparsed = work.config["max_unparsed"]
    unread = [found for found in outcome.verdicts if found.status == "unparsed"]
    answered = len(unread) + outcome.counts["judged"]
    if len(unread) > max_unparsed * answered:
        _UNREAD[work.execution.run, work.stage.execution["judge"], work.config["prompts"]] = work.stage.name
        cut = " and was cut off (judge.max_tokens)" if unread[0].finish == "length" else ""
        raise Unfinished(
            f"no verdict could be read in {len(unread):,} of {answered:,} completions, more than "
            f"judge.max_unparsed={max_unparsed:g} allows; one says {shorten(one_line(unread[0].completion), SHOWN)!r}"
            f"{cut}; all are kept, and the same command asks for these again: mend what is wrong first (longer "
            "completions, other prompts, another judge), or accept them with judge.max_unparsed=1"
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
