"""What the arms of a study are, in words for the overrides that every reader meets; no NumPy: it must be fast."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TITLE = "What the arms are"
_REFERENCES: Mapping[str, str] = {
    "sft": "SFT1",
    "other": "SFT2",
    "soup": "the soup",
    "mixture": "half the KL to each of SFT1 and SFT2",
    "ema": "a moving average of the policy",
    "sync": "the policy of some steps ago",
    "base": "the base model",
}
_STARTS: Mapping[str, str] = {"sft_1": "SFT1", "sft_2": "SFT2", "soup": "the soup"}
_REFERENCE_KEYS, _START_KEY, _START = ("reference@policy", "policy.reference"), "policy.init", "sft_1"


@dataclass(frozen=True)
class Part:
    """A part of what an arm is: words, or an override as it is given on the command line."""

    text: str
    code: bool = False


def arms(study: Mapping[str, Any]) -> dict[str, list[Part]]:
    """Return what each arm is, by name; nothing where the study does not tell."""
    made = study.get("made_with") or {}
    policies = [told.get("policy", {}).get("reference") for told in made.get("families", {}).values()]
    usual = policies[0] if len(set(policies)) == 1 else None
    return {arm: list(_parts(overrides, usual)) for arm, overrides in made.get("arms", {}).items()}


def _parts(overrides: Sequence[str], usual: str | None) -> Iterator[Part]:
    """Yield reference and start in words, then the other overrides; `usual` is the reference of an arm without one."""
    pairs = [(text, *text.lstrip("+").partition("=")[::2]) for text in overrides]
    told = [(text, value) for text, key, value in pairs if key in _REFERENCE_KEYS]
    reference, value = told[-1] if told else (f"{_REFERENCE_KEYS[0]}={usual}", usual)
    if value is not None:
        yield Part(f"KL reference: {_REFERENCES[value]}") if value in _REFERENCES else Part(reference, code=True)
    told = [(text, value) for text, key, value in pairs if key == _START_KEY]
    start, value = told[-1] if told else (f"{_START_KEY}={_START}", _START)
    yield Part(f"start: {_STARTS[value]}") if value in _STARTS else Part(start, code=True)
    yield from (Part(text, code=True) for text, key, _ in pairs if key not in (*_REFERENCE_KEYS, _START_KEY))
