"""What a judge's completion says: one pure function for each published grammar, and for that of our own prompts."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

FIVE_LEVELS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")
THREE_LEVELS = ("A>B", "A=B", "B>A")
LOWEST, HIGHEST = 1.0, 10.0
"""The scores that our own prompts ask for."""

_SCORE = re.compile(r"\[\[([0-9]+\.?[0-9]*)\]\]")
_SCORE_FALLBACK = re.compile(r"\[([0-9]+\.?[0-9]*)\]")
_TWO_SCORES = re.compile(r"\[\[([0-9]+\.?[0-9]*),\s?([0-9]+\.?[0-9]*)\]\]")
_TWO_SCORES_FALLBACK = re.compile(r"\[([0-9]+\.?[0-9]*),\s?([0-9]+\.?[0-9]*)\]")
_TIE = 0.1  # FastChat's: scores that are no farther apart are equal
_LABEL = re.compile(r"\[\[([AB<>=]+)\]\]")
_LABEL_FALLBACK = re.compile(r"\[([AB<>=]+)\]")
_FASTCHAT = (("[[A]]", "A>B"), ("[[B]]", "B>A"), ("[[C]]", "A=B"))
_ARENA = {
    "A>>B": "A>>B",
    "B<<A": "A>>B",
    "A>B": "A>B",
    "B<A": "A>B",
    "A=B": "A=B",
    "B=A": "A=B",
    "B>A": "B>A",
    "A<B": "B>A",
    "B>>A": "B>>A",
    "A<<B": "B>>A",
}
# A quotation mark or the ">" of a quoted line is no decoration: what is quoted is not the judge's verdict.
_DECORATION = " \t\r\f\v*_`#"
_VERDICT = r"(?:(?:MY )?(?:FINAL )?VERDICT(?: IS)? ?[:：]?[*_` ]*)"
_OWN_LABEL = re.compile(_VERDICT + r"?(\[\[)?([AB] ?(?:>>|>|=) ?[AB])(?(1)\]\])[*_` ]*\.?")
_OWN_SCORE = re.compile(_VERDICT + r"(\[\[)?([0-9]+(?:\.[0-9]+)?)(?(1)\]\])(?: ?/ ?10)?[*_` ]*\.?")


def fastchat_score(text: str) -> float | None:
    """Return the score that FastChat reads: the first `[[n]]`, or else the first `[n]`.

    None if there is neither, or its number is too large to be one.
    """
    found = _SCORE.search(text) or _SCORE_FALLBACK.search(text)
    score = math.inf if found is None else float(found.group(1))
    return score if math.isfinite(score) else None


def fastchat_pair(text: str) -> str | None:
    """Return the label that FastChat reads: `[[A]]`, `[[B]]` or `[[C]]`, the first of these that occurs anywhere."""
    return next((label for mark, label in _FASTCHAT if mark in text), None)


def fastchat_two_scores(text: str) -> str | None:
    """Return the label of two scores as FastChat reads them: the first `[[a, b]]`, or else the first `[a, b]`.

    Scores that differ by 0.1 or less are a tie. None if there are no two scores, or one is too large to be a number.
    """
    found = _TWO_SCORES.search(text) or _TWO_SCORES_FALLBACK.search(text)
    if found is None:
        return None
    first, second = (float(score) for score in found.groups())
    if not (math.isfinite(first) and math.isfinite(second)):
        return None
    if abs(first - second) <= _TIE:
        return "A=B"
    return "A>B" if first > second else "B>A"


def arena_first(text: str) -> str | None:
    """Return the label by the rule of Arena-Hard's first release: all that are found must be the same."""
    found = set(_LABEL.findall(text))
    if len(found) != 1:
        return None
    label = found.pop()
    return label if label in FIVE_LEVELS else None


def arena_current(text: str) -> str | None:
    """Return the label by the rule of Arena-Hard's current release.

    The last one in double brackets counts, or else the last one in single brackets, whatever the case of the
    letters; `A<B` is read as `B>A`.
    """
    text = text.upper()
    found = _LABEL.findall(text) or _LABEL_FALLBACK.findall(text)
    return _ARENA.get(found[-1]) if found else None


def own_pair(text: str, levels: int = 3) -> str | None:
    """Return the label that our own prompts ask for, of `levels` 3 or 5.

    Only the last line counts, and it must be a verdict and nothing else: what a judge quotes from a reply is on
    other lines or has words around it. Two verdicts on that line are none.
    """
    found = _OWN_LABEL.fullmatch(_last_line(text))
    if found is None:
        return None
    label = found.group(2).replace(" ", "")
    return label if label in (FIVE_LEVELS if levels == 5 else THREE_LEVELS) else None


def own_score(text: str) -> float | None:
    """Return the score (1 to 10) that our own prompts ask for; only the last line counts, as in `own_pair`."""
    found = _OWN_SCORE.fullmatch(_last_line(text))
    if found is None:
        return None
    score = float(found.group(2))
    return score if LOWEST <= score <= HIGHEST else None


@dataclass(frozen=True)
class Grammar:
    """How a completion is read: pairs give a label, single replies a score.

    `whole` says that a completion that was cut off has no verdict: its last line may be a quotation.
    """

    kind: str
    read: Callable[[str], str | float | None]
    whole: bool = False


GRAMMARS = {
    "fastchat_score": Grammar("single", fastchat_score),
    "fastchat_pair": Grammar("pair", fastchat_pair),
    "fastchat_two_scores": Grammar("pair", fastchat_two_scores),
    "arena_first": Grammar("pair", arena_first),
    "arena_current": Grammar("pair", arena_current),
    "own_score": Grammar("single", own_score, whole=True),
    "own_pair_3": Grammar("pair", own_pair, whole=True),
    "own_pair_5": Grammar("pair", lambda text: own_pair(text, 5), whole=True),
}
"""The grammars by the names that verdicts carry."""


def _last_line(text: str) -> str:
    lines = [line.strip(_DECORATION) for line in text.rstrip().split("\n")]
    return " ".join(lines[-1].upper().split())
