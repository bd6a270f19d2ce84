"""Which questions a judge is asked: every turn, and pairs in both orders."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from salsa.judging.prompts import PromptSet
from salsa.judging.questions import Answers, Question, QuestionSet
from salsa.judging.request import Request


@dataclass(frozen=True)
class Asked:
    """How the judge is asked: its name, what changes its verdicts (temperature, ...), and the prompts."""

    judge: str
    prompts: PromptSet
    settings: Mapping[str, Any] = field(default_factory=dict)


def pairs(questions: QuestionSet, compared: Answers, baseline: Answers, asked: Asked) -> list[Request]:
    """Return the requests that compare two models: every turn of every question that both answered, in both orders.

    The compared model is shown first in order 0 and second in order 1. Where both replies are the same, so are the
    requests of both orders, and the judge is asked once.

    Raises:
        PromptError: if there is no prompt for a turn.
    """
    return [
        _request(questions.suite, question, turn, order, pair, asked)
        for question in questions.questions
        for turn in _turns(question, compared, baseline)
        for order, pair in enumerate(((compared, baseline), (baseline, compared)))
    ]


def singles(questions: QuestionSet, compared: Answers, asked: Asked) -> list[Request]:
    """Return the requests that score a model's replies, one for each turn; raise PromptError as `pairs` does."""
    return [
        _request(questions.suite, question, turn, 0, (compared, None), asked)
        for question in questions.questions
        for turn in _turns(question, compared)
    ]


def _turns(question: Question, *answers: Answers) -> Iterator[int]:
    answered = min(len(answer.replies.get(question.id, ())) for answer in answers)
    yield from range(1, min(answered, len(question.turns)) + 1)


def _request(
    suite: str, question: Question, turn: int, order: int, pair: tuple[Answers, Answers | None], asked: Asked
) -> Request:
    first, second = pair
    kind = "single" if second is None else "pair"
    asks = question.turns[:turn]
    replies_a = first.replies[question.id][:turn]
    replies_b = None if second is None else second.replies[question.id][:turn]
    reference = question.reference[:turn]
    template = asked.prompts.choose(kind, turn, bool(reference))
    content = {
        "judge": [asked.judge, dict(asked.settings)],
        "prompt": template.digest,
        "question": [question.id, asks, reference],
        "replies": [replies_a, replies_b],
        "turn": turn,
    }
    models = [first.model, second.model if second else None]
    return Request(
        key=_digest(content | {"models": models, "order": order}),
        content=_digest(content),
        messages=template.messages(asks, replies_a, replies_b, reference),
        questions=asks,
        replies_a=replies_a,
        replies_b=replies_b,
        reference=reference,
        suite=suite,
        question=question.id,
        category=question.category,
        cluster=question.cluster,
        turn=turn,
        kind=kind,
        model_a=first.model,
        model_b=second.model if second else None,
        order=order,
        judge=asked.judge,
        prompt=template.digest,
        prompt_name=template.name,
        grammar=template.grammar,
    )


def _digest(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode("ascii")).hexdigest()
