"""What the paper reports, sentence by sentence, beside what came out here; no NumPy: it must be fast."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TITLE = "What the paper reports"
_WORDS: Mapping[bool | None, str] = {True: "holds here", False: "does not hold here", None: "open here"}
_MARKS: Mapping[bool | None, str] = {True: "yes", False: "no", None: "open"}


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, ours beside it (or nothing), and whether it holds here, as words and as a short name."""

    claim: str
    here: str
    verdict: str
    mark: str


def about(study: Mapping[str, Any]) -> str:
    """Return whose figures these are, and that they are not ours."""
    paper = study["paper"]
    return (
        f"{paper['label']}. Source: {paper['source']}. Other models and another judge: compare directions, not values."
    )


def claims(study: Mapping[str, Any]) -> Iterator[Claim]:
    """Yield the paper's claims; none where the study names no paper."""
    for each in (study["paper"] or {"claims": []})["claims"]:
        verdict = _WORDS[each["holds"]] if each["here"] else "not compared here"
        yield Claim(each["claim"], each["here"] or "", verdict, _MARKS[each["holds"]])
