"""FastChat's judgment files of MT-Bench: one reply graded, or two replies compared in both orders."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from salsa.evaluation.published import rows
from salsa.evaluation.published.lines import RowError
from salsa.evaluation.published.rows import Asked, Judged, Row
from salsa.judging.grammar import fastchat_pair, fastchat_score, fastchat_two_scores

SUITE = "mt_bench"
_TENS = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
_CATEGORIES = {str(81 + index): _TENS[index // 10] for index in range(80)}
_OLDER_PROMPT = "pair-v1"
_PAIRS = {"fastchat_pair": fastchat_pair, "fastchat_two_scores": fastchat_two_scores}
# FastChat turns the judge's A and B into the names of the columns before it writes them.
_WINNERS = ({"model_1": "A>B", "model_2": "B>A", "tie": "A=B"}, {"model_1": "B>A", "model_2": "A>B", "tie": "A=B"})


def category(question: str) -> str:
    """Return the category of one of MT-Bench's 80 questions (81 to 160, ten of each), or "" for another question."""
    return _CATEGORIES.get(question, "")


def single(value: Mapping[str, Any], place: str, stored_counts: bool = False) -> Row:
    """Return a row of `<judge>_single.jsonl`.

    The score is read from the judge's text, and taken as it is stored where there is no text or `stored_counts`.
    Raises RowError for a row without question, model, or both text and score.
    """
    judge, prompt_name = rows.judge_of(value)
    asked = Asked(
        suite=SUITE,
        question=(question := rows.question_of(value, "question_id")),
        category=category(question),
        turn=rows.turn_of(value),
        models=(rows.text_of(value, "model"),),
        order=0,
        judge=judge,
        prompt_name=prompt_name,
        prompt=rows.optional_text(value, "user_prompt"),
    )
    completion = rows.optional_text(value, "judgment")
    if "score" not in value and not completion:
        raise RowError("neither judgment nor score is there")
    told = fastchat_score(completion)
    number = rows.stored_of(lambda: rows.number_of(value, "score"), told is not None and not stored_counts)
    stored = None if number == -1 else number
    found = stored if stored_counts or not completion else told
    verdict = rows.verdict(asked, completion, found, "fastchat_score", _time(value))
    identity = (judge, prompt_name, asked.models[0], asked.question, str(asked.turn))
    return Row(place, identity, asked.models[0], (Judged(verdict, stored, "score" in value, read=not stored_counts),))


def pair(value: Mapping[str, Any], place: str, stored_counts: bool = False) -> Row:
    """Return a row of `<judge>_pair.jsonl`: two games, `model_1` shown first in game 1 and second in game 2.

    The judge's text says `[[A]]`, `[[B]]` or `[[C]]`, or by the older prompts (`pair-v1`) two scores, `[[8, 6]]`.
    Raises RowError for a row without question or models, or with neither text nor winner of a game.
    """
    judge, prompt_name = rows.judge_of(value)
    models = rows.text_of(value, "model_1"), rows.text_of(value, "model_2")
    if models[0] == models[1]:
        raise RowError(f"{models[0]} is compared with itself")
    question, turn = rows.question_of(value, "question_id"), rows.turn_of(value)
    grammar = _pair_grammar(value, prompt_name)
    judged = []
    for order in (0, 1):
        shown = models if order == 0 else models[::-1]
        prompt = value.get(f"g{order + 1}_user_prompt")
        asked = Asked(
            suite=SUITE,
            question=question,
            category=category(question),
            turn=turn,
            models=shown,
            order=order,
            judge=judge,
            prompt_name=prompt_name,
            prompt=prompt if isinstance(prompt, str) else "",
        )
        completion = rows.optional_text(value, f"g{order + 1}_judgment")
        has_stored = f"g{order + 1}_winner" in value
        if not has_stored and not completion:
            raise RowError(f"neither g{order + 1}_judgment nor g{order + 1}_winner is there")
        told = _PAIRS[grammar](completion)
        stored = rows.stored_of(partial(_winner, value, order), told is not None and not stored_counts)
        found = stored if stored_counts or not completion else told
        verdict = rows.verdict(asked, completion, found, grammar, _time(value))
        judged.append(Judged(verdict, stored, has_stored, rows.shown_replies(prompt, *shown), not stored_counts))
    return Row(place, (judge, prompt_name, *sorted(models), question, str(turn)), " / ".join(models), tuple(judged))


def _pair_grammar(value: Mapping[str, Any], prompt_name: str) -> str:
    """Return how the judge's texts of a row are read: older prompts asked for two scores, unless a text has letters."""
    texts = [value.get(f"g{number}_judgment") for number in (1, 2)]
    letters = any(isinstance(text, str) and fastchat_pair(text) for text in texts)
    older = prompt_name == _OLDER_PROMPT or prompt_name.startswith(f"{_OLDER_PROMPT}-")
    return "fastchat_two_scores" if older and not letters else "fastchat_pair"


def _winner(value: Mapping[str, Any], order: int) -> str | None:
    name = f"g{order + 1}_winner"
    found = value.get(name)
    if found is None or found == "error":
        return None
    if not isinstance(found, str) or found not in _WINNERS[order]:
        raise RowError(f"{name} is {found!r}, expected model_1, model_2, tie or error")
    return _WINNERS[order][found]


def _time(value: Mapping[str, Any]) -> str:
    stamp = value.get("tstamp")
    if isinstance(stamp, bool) or not isinstance(stamp, int | float):
        return ""
    try:
        return datetime.fromtimestamp(stamp, UTC).isoformat()
    except (OverflowError, OSError, ValueError):
        return ""
