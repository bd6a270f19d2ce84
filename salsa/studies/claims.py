"""What the paper reports, beside what is found here: claims in words, compared with computed sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from salsa.evaluation.study.verdict import Verdict

Pair = tuple[str, str]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: what it says, and whether that is a yes to what the study asks (`main`).

    It says, too, that the first arm of each pair in `asks` is better than the second. Without either it is shown, and
    compared with nothing.
    """

    claim: str
    asks: Sequence[Pair] = field(default_factory=tuple)
    main: bool = False


def compared(
    claims: Sequence[Claim], main: Verdict, answered: Mapping[Pair, Verdict] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Return each claim with what is found `here` and whether it `holds`: None where the data do not decide.

    `main` is what the study says to its main question, `answered` what it says of pairs of arms, in either order.
    `here` is None where nothing is compared.
    """
    found = []
    for each in claims:
        said = [*([main] if each.main else []), *(_about(pair, answered) for pair in each.asks)]
        decided = [one.decided for one in said]
        holds = False if "second" in decided else None if None in decided or not decided else True
        here = "; ".join(one.sentence for one in said)
        found.append({"claim": each.claim, "here": here or None, "holds": holds})
    return found


def _about(pair: Pair, answered: Mapping[Pair, Verdict]) -> Verdict:
    """Return what is said of two arms; the answer about the pair the other way round is decided the other way round."""
    if pair in answered:
        return answered[pair]
    found = answered[pair[::-1]]
    turned: dict[str | None, Literal["first", "second"]] = {"first": "second", "second": "first"}
    return Verdict(found.sentence, turned.get(found.decided))
