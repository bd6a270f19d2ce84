"""What a source of data must offer the stages; the embedded world and folders of files both do."""

from typing import Protocol

import numpy as np

from salsa.data.conversation import Conversation, Pair, Prompt


class Source(Protocol):
    """Text, demonstrations, prompts, preferences and (where there is one) a programmatic judge.

    Randomness comes only from the generators that are passed in; suites and held-out text are fixed, so that
    replicates share their questions.
    """

    chat: str
    """Name of the chat template (see `salsa.data.chat`)."""
    words: tuple[str, ...] | None
    """The closed vocabulary, or None where a tokenizer is trained on the text."""
    suites: tuple[str, ...]
    """Names of the prompt suites."""

    def corpus(self, rng: np.random.Generator, tokens: int) -> list[str]:
        """Return pre-training documents of about `tokens` words in all (files: every document once, shuffled)."""
        ...

    def heldout_text(self, count: int) -> list[str]:
        """Return up to `count` documents that no stage trains on."""
        ...

    def demonstrations(self, rng: np.random.Generator, count: int) -> list[Conversation]:
        """Return `count` conversations that end with an assistant turn (files: at most as many as there are)."""
        ...

    def prompts(self, rng: np.random.Generator, count: int) -> list[Prompt]:
        """Return `count` single-question training prompts, none of which is in a suite."""
        ...

    def pairs(self, split: str) -> list[Pair] | None:
        """Return the given preferences of "train", "judge" or "heldout"; None where pairs are sampled and labelled."""
        ...

    def suite(self, name: str, count: int) -> list[Prompt]:
        """Return the first `count` prompts of a suite, in its fixed order."""
        ...

    def heldout_demonstrations(self, count: int) -> list[tuple[Conversation, str]]:
        """Return up to `count` fixed conversations that no stage trains on, each with its cluster of questions."""
        ...

    def recall_probes(self) -> list[tuple[str, str]]:
        """Return (beginning of a sentence, right next word) pairs; empty where no facts are known."""
        ...

    def gold(self, prompt: Prompt, replies: tuple[str, ...], ended: tuple[bool, ...]) -> float | None:
        """Return the programmatic judge's reward, the mean over the turns; None where there is no such judge."""
        ...

    def display(self, text: str) -> str:
        """Return a question or reply as a person reads it; what models and judges see stays as it is."""
        ...
