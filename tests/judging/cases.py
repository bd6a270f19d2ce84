"""Small questions, answers and verdicts for the tests of judges."""

from dataclasses import replace
from typing import Any

from salsa.judging.endpoint import Endpoint
from salsa.judging.matches import Asked, pairs, singles
from salsa.judging.prompts import own
from salsa.judging.questions import Answers, Question, QuestionSet
from salsa.judging.request import Request
from salsa.judging.schedule import Limits
from salsa.judging.verdict import Verdict

QUICK = Limits(concurrency=3, attempts=3, wait=0.001, longest_wait=0.01, patience=5.0, give_up=4)
VERDICT = Verdict(
    key="0" * 64,
    suite="files",
    question="1",
    category="",
    cluster="1",
    turn=1,
    kind="pair",
    model_a="tuned",
    model_b="base",
    order=0,
    judge="m",
    snapshot="m-1",
    prompt="1" * 64,
    prompt_name="own-pair-3-turn",
    completion="Both are fine.\nVerdict: A>B",
    label="A>B",
    score=None,
    status="judged",
    error="",
    tokens_in=100,
    tokens_out=10,
    price=None,
    seconds=0.5,
    attempt=1,
    time="2026-01-01T00:00:00+00:00",
    grammar="own_pair_3",
    finish="stop",
)


def verdict(key: object = 0, **changes: Any) -> Verdict:
    """Return a verdict with a key made from a number, and these changes."""
    return replace(VERDICT, key=f"{key:064d}", **changes)


def questions(count: int, turns: int = 1, **fields: Any) -> QuestionSet:
    """Return questions 1, 2, ..., of so many turns."""
    asked = (Question(str(n), tuple(f"question {n}.{t}?" for t in range(1, turns + 1)), **fields) for n in _to(count))
    return QuestionSet("files", tuple(asked))


def answers(model: str, count: int, turns: int = 1) -> Answers:
    """Return a model's replies to those questions."""
    replies = {str(n): tuple(f"{model} says {n}.{t}" for t in range(1, turns + 1)) for n in _to(count)}
    return Answers(model, f"{model}.jsonl", replies)


def pair_requests(count: int, turns: int = 1, levels: int = 3) -> list[Request]:
    """Return requests to compare `tuned` with `base` on so many questions: two for each question and turn."""
    asked = Asked("m", own(levels))
    return pairs(questions(count, turns), answers("tuned", count, turns), answers("base", count, turns), asked)


def single_requests(count: int, turns: int = 1) -> list[Request]:
    """Return requests to score `tuned`."""
    return singles(questions(count, turns), answers("tuned", count, turns), Asked("m", own()))


def endpoint(url: str, **changes: Any) -> Endpoint:
    """Return an endpoint that is given little time."""
    return Endpoint(**({"url": url, "model": "m", "connect": 5.0, "total": 5.0} | changes))


def _to(count: int) -> range:
    return range(1, count + 1)
