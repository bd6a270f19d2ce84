"""What the paper reports, beside what is found here: claims in words, compared with computed sentences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from salsa.evaluation.study.verdict import Verdict

Pair = tuple[str, str]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: what it says, and whether that is a yes to the study's `main` question.

    It says, too, that the first arm of each pair in `asks` is better than the second. Without either it is shown, and
    compared with nothing.
    """

    claim: str
    asks: Sequence[Pair] = field(default_factory=tuple)
    main: bool = False


def compared(claims: Sequence[Claim], answer: Callable[[Pair], Verdict], main: Verdict) -> list[dict[str, Any]]:
    """Return each claim with what is found `here` and whether it `holds`: None where the data do not decide.

    `answer` gives the sentence about a pair of arms, `main` is that of the main question. `here` is None where nothing
    is compared.
    """
    found = []
    for each in claims:
        answered = [*([main] if each.main else []), *(answer(pair) for pair in each.asks)]
        decided = [one.decided for one in answered]
        holds = False if "second" in decided else None if None in decided or not decided else True
        here = "; ".join(one.sentence for one in answered)
        found.append({"claim": each.claim, "here": here or None, "holds": holds})
    return found
