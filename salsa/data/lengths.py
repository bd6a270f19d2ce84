"""Which prompts, pairs and conversations fit into the model's context: nothing is cut, nothing is lost uncounted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from transformers import PreTrainedTokenizerFast

from salsa.data.chat import encode_conversation, encode_prompts
from salsa.data.conversation import Conversation, Message, Pair, Prompt
from salsa.data.rows import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class Fitting(Generic[T]):
    """What fits into the context, where it stood, and how much does not; lengths in tokens, replies included."""

    kept: tuple[T, ...]
    indices: tuple[int, ...]
    total: int
    longest: int
    context: int

    @property
    def too_long(self) -> int:
        """How many were left out."""
        return self.total - len(self.kept)

    def message(self, what: str) -> str:
        """Return one line for the user, such as "12 of 300 prompts are longer than the context ..."."""
        if not self.too_long:
            return f"all {self.total} {what} fit into the context of {self.context} tokens (longest {self.longest})"
        return (
            f"{self.too_long} of {self.total} {what} are longer than the context of {self.context} tokens "
            f"(longest {self.longest}) and are left out"
        )


def fit_prompts(
    tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Prompt], context: int, max_new: int
) -> Fitting[Prompt]:
    """Keep the prompts that leave room for a reply of `max_new` tokens to each of their questions.

    Raises DataError if none does.
    """
    asked = [prompt.conversation(("",) * (len(prompt.questions) - 1)) for prompt in prompts]
    lengths = [
        len(ids) + max_new * len(prompt.questions)
        for ids, prompt in zip(encode_prompts(tokenizer, asked), prompts, strict=True)
    ]
    what, fix = f"prompts with {max_new} tokens a reply", "raise base.context, or lower generation.max_new_tokens"
    return _fit(prompts, lengths, context, what, fix)


def fit_pairs(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Pair], context: int) -> Fitting[Pair]:
    """Keep the pairs of which both replies fit after their prompt. Raises DataError if none does."""
    lengths = [0] * len(pairs)
    for reply in ("chosen", "rejected"):
        whole = [(*pair.conversation, Message("assistant", getattr(pair, reply))) for pair in pairs]
        lengths = list(map(max, lengths, _lengths(tokenizer, whole)))
    return _fit(pairs, lengths, context, "pairs")


def fit_conversations(
    tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Conversation], context: int
) -> Fitting[Conversation]:
    """Keep the finished conversations that fit. Raises DataError if none does."""
    return _fit(conversations, _lengths(tokenizer, conversations), context, "conversations")


def _lengths(tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Conversation]) -> list[int]:
    return [len(ids) for ids, _ in encode_conversation(tokenizer, conversations, "all")]


def _fit(
    items: Sequence[T], lengths: Sequence[int], context: int, what: str, fix: str = "raise base.context"
) -> Fitting[T]:
    indices = tuple(index for index, length in enumerate(lengths) if length <= context)
    if items and not indices:
        raise DataError(
            f"none of {len(items)} {what} fits into the context of {context} tokens "
            f"(the shortest has {min(lengths)}); {fix}"
        )
    return Fitting(tuple(items[index] for index in indices), indices, len(items), max(lengths, default=0), context)
