"""Rules of the reward as users write them: the signature is that of TRL's reward functions."""

from typing import Any


def brief(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """Return minus the number of words."""
    return [-float(len(completion.split())) for completion in completions]


def starts_with(completions: list[str], word: str) -> list[float]:
    """Return 1 for replies that begin with a word, and 0 for others."""
    return [float(completion.split()[:1] == [word]) for completion in completions]


class Quota:
    """A rule with a state: replies of at most so many words."""

    def __init__(self, words: int) -> None:
        self.words = words

    def __call__(self, completions: list[str], ended: list[bool]) -> list[bool]:
        return [end and len(text.split()) <= self.words for text, end in zip(completions, ended, strict=True)]


def constant(completions: list[str]) -> list[float]:
    """Return the same for all replies."""
    return [1.0] * len(completions)
