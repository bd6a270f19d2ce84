"""Arena-Hard's files: judgments of two games (both releases' layouts), and the battles that they become."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from salsa.evaluation.battles import Battle
from salsa.evaluation.published import rows
from salsa.evaluation.published.lines import RowError
from salsa.evaluation.published.rows import Asked, Judged, Row
from salsa.judging.grammar import FIVE_LEVELS, arena_current, arena_first

SUITE = "arena_hard"
UNNAMED = "baseline"
"""How the opponent is called where neither the file nor --baseline names it."""
PARSERS = {"first": arena_first, "current": arena_current}
_OUTCOMES = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}
_TURNED = {"B<<A": "A>>B", "B<A": "A>B", "B=A": "A=B", "A<B": "B>A", "A<<B": "B>>A"}
_FIRST = {label: label for label in FIVE_LEVELS}
LABELS = {"first": _FIRST, "current": _FIRST | _TURNED}
"""The stored labels that each release knows, and what they are."""


def release_of(value: Mapping[str, Any]) -> str:
    """Return whose layout a row of judgments has: "current" (`uid`, games with `prompt`), else "first"."""
    return "current" if "uid" in value and "question_id" not in value else "first"


def judgment(
    value: Mapping[str, Any], place: str, baseline: str | None, release: str | None, stored_counts: bool = False
) -> Row:
    """Return a row of judgments: in game 1 the baseline is shown first, in game 2 second.

    The rule that reads the judge's text is that of `release`, or else of the release whose layout the row has. The
    row's own baseline counts before `baseline`. Raises RowError for a row without question, model or games.
    """
    model, judge = rows.text_of(value, "model"), rows.judge_of(value)[0]
    opponent = rows.optional_text(value, "baseline") or baseline or UNNAMED
    question = rows.question_of(value, "uid", "question_id")
    category = rows.optional_text(value, "category")
    games = value.get("games")
    if not isinstance(games, list) or not 1 <= len(games) <= 2:
        count = f"{len(games)} games" if isinstance(games, list) else "no list of games"
        raise RowError(f"{count}, expected two")
    grammar = release or release_of(value)
    judged = []
    for number, game in enumerate(games):
        shown = (opponent, model) if number == 0 else (model, opponent)
        prompt = _prompt(game)
        asked = Asked(
            suite=SUITE,
            question=question,
            category=category,
            turn=1,
            models=shown,
            order=1 - number,
            judge=judge,
            prompt_name="",
            prompt=prompt,
        )
        completion = _completion(game, number + 1)
        told = PARSERS[grammar](completion)
        stands = told is not None and not stored_counts
        stored = rows.stored_of(partial(_stored, game, number + 1, LABELS[grammar]), stands)
        has_stored = game is None or "score" in game
        found = stored if stored_counts or not completion else told
        verdict = rows.verdict(asked, completion, found, f"arena_{grammar}")
        judged.append(Judged(verdict, stored, has_stored, rows.shown_replies(prompt, *shown), not stored_counts))
    return Row(place, (judge, model, opponent, question, category), model, tuple(judged))


def battle(value: Mapping[str, Any]) -> Battle:
    """Return a row of a battle file. Each row is a battle of weight 1: a strong verdict stands there three times.

    Raises RowError for a row without question, models or winner.
    """
    winner = value.get("winner")
    if not isinstance(winner, str) or winner not in _OUTCOMES:
        raise RowError(f"winner is {winner!r}, expected one of {', '.join(_OUTCOMES)}")
    question = rows.question_of(value, "question_id", "uid")
    return Battle(
        question=question,
        cluster=question,
        category=rows.optional_text(value, "category"),
        turn=rows.turn_of(value),
        first=rows.text_of(value, "model_a"),
        second=rows.text_of(value, "model_b"),
        outcome=_OUTCOMES[winner],
        weight=1.0,
    )


def _completion(game: Any, number: int) -> str:
    """Return the judge's text; nothing of a game that was never played."""
    if game is None:
        return ""
    if not isinstance(game, dict):
        raise RowError(f"game {number} is {type(game).__name__}, expected an object")
    text = game.get("judgment")
    if isinstance(text, dict):
        text = text.get("answer")
    if text is not None and not isinstance(text, str):
        raise RowError(f"the judgment of game {number} is {type(text).__name__}, expected a text")
    if "score" not in game and not text:
        raise RowError(f"game {number} has neither judgment nor score")
    return text or ""


def _stored(game: Mapping[str, Any] | None, number: int, labels: Mapping[str, str]) -> str | None:
    found = None if game is None else game.get("score")
    if found is not None and not isinstance(found, str):
        raise RowError(f"the score of game {number} is {found!r}, expected a label such as A>B")
    # A label that is no verdict ("A>>>B") counts as none, as in the releases.
    return labels.get(found or "")


def _prompt(game: Any) -> str:
    if not isinstance(game, dict):
        return ""
    if isinstance(game.get("user_prompt"), str):
        return str(game["user_prompt"])
    messages = game.get("prompt")
    if not isinstance(messages, list):
        return ""
    texts = [each.get("content") for each in messages if isinstance(each, dict) and each.get("role") == "user"]
    return texts[-1] if texts and isinstance(texts[-1], str) else ""
