"""What became of a request, and the verdict that it is."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from salsa.judging.grammar import GRAMMARS
from salsa.judging.request import Completion, Request
from salsa.judging.verdict import Verdict

_CUT = ("length", "content_filter")  # why a completion ends before it is whole


@dataclass(frozen=True)
class Answer:
    """A request and its completion, or why there is none (`error`).

    `price` is what its `attempts` cost together, None if not known; `seconds` is the time of the last one. `own` says
    that a failure is due to this request alone, as when it is longer than the judge's context. `charged` is the last
    completion without text that the endpoint counted tokens for.
    """

    request: Request
    completion: Completion | None
    error: str
    price: float | None
    seconds: float
    attempts: int
    own: bool = False
    charged: Completion | None = None


def verdict(answer: Answer) -> Verdict:
    """Return the verdict of an answer that came just now."""
    request, completion = answer.request, answer.completion
    text, finish = ("", "") if completion is None else (completion.text, completion.finish)
    label, score = _read(request.grammar, text, finish)
    found = label is not None or score is not None
    counted = completion or answer.charged
    return Verdict(
        key=request.key,
        suite=request.suite,
        question=request.question,
        category=request.category,
        cluster=request.cluster,
        turn=request.turn,
        kind=request.kind,
        model_a=request.model_a,
        model_b=request.model_b,
        order=request.order,
        judge=request.judge,
        snapshot=counted.snapshot if counted else "",
        prompt=request.prompt,
        prompt_name=request.prompt_name,
        completion=text,
        label=label,
        score=score,
        status="failed" if completion is None else "judged" if found else "unparsed",
        error=answer.error,
        tokens_in=counted.tokens_in if counted else None,
        tokens_out=counted.tokens_out if counted else None,
        price=answer.price,
        seconds=round(answer.seconds, 4),
        attempt=answer.attempts,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        grammar=request.grammar,
        finish=finish,
        content=request.content,
    )


def as_asked(known: Verdict, request: Request) -> Verdict:
    """Return what is known of a request's key as the verdict of that request; a call of another suite counts there.

    The key leaves out what changes nothing for the judge: the suite, the category, the cluster, the prompt's name, and
    how its completion is read.
    """
    if known.suite != request.suite:
        return shared(known, request)
    return _read_by(request, replace(known, **_about(request)))


def shared(found: Verdict, request: Request) -> Verdict:
    """Return the verdict of a request that asks what was answered already, of other models or in another suite."""
    copied = replace(
        found,
        **_about(request),
        key=request.key,
        question=request.question,
        model_a=request.model_a,
        model_b=request.model_b,
        tokens_in=None,
        tokens_out=None,
        price=None if found.price is None else 0.0,
        seconds=0.0,
        attempt=0,
    )
    return _read_by(request, copied)


def _about(request: Request) -> dict[str, Any]:
    """Return what a verdict is filed under, which the judge is not told."""
    return {
        "suite": request.suite,
        "category": request.category,
        "cluster": request.cluster,
        "order": request.order,
        "prompt_name": request.prompt_name,
    }


def _read_by(request: Request, found: Verdict) -> Verdict:
    """Return a verdict as the request's grammar reads it: a file of prompts may come to name another one."""
    return found if found.grammar == request.grammar else reparsed(found, request.grammar)


def reparsed(old: Verdict, grammar: str | None = None) -> Verdict:
    """Return a verdict whose stored completion is read anew, by another grammar if one is named; no call is made.

    What failed, or does not name its grammar, stays as it is. Raises ValueError for a grammar of another kind.
    """
    name = grammar or old.grammar
    if old.status == "failed" or not name:
        return old
    if GRAMMARS[name].kind != old.kind:
        raise ValueError(f"grammar {name} reads {GRAMMARS[name].kind} verdicts, and these are of kind {old.kind}")
    label, score = _read(name, old.completion, old.finish)
    found = label is not None or score is not None
    return replace(old, label=label, score=score, status="judged" if found else "unparsed", grammar=name)


def _read(grammar: str, text: str, finish: str) -> tuple[str | None, float | None]:
    rule = GRAMMARS[grammar]
    if not text or (rule.whole and finish in _CUT):
        return None, None
    value = rule.read(text)
    return (value, None) if isinstance(value, str) else (None, value)
