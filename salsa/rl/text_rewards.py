"""Reward models whose tokenizer is not the policy's: they read replies as text, in their own chat format."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from salsa.data.conversation import Conversation
from salsa.models.scoring import MICRO_BATCH_TOKENS, sequence_scores
from salsa.models.sequences import Sequences, pack
from salsa.rl.dialogues import Dialogues


class RewardModelError(ValueError):
    """A reward model that cannot score these replies; the message says why and what to do."""


class TextRewardModel:
    """A frozen reward model that scores conversations as text.

    A conversation with its reply is written by the reward model's own chat template and scored where transformers'
    sequence classification (so TRL too) reads it: at the last token that is not the model's padding token. A reply that
    was cut is written without what the template puts behind a message, so that it does not pass for a complete one.
    What spells a control token in a text stays text. Nothing is ever truncated.

    Raises:
        RewardModelError: if the tokenizer has no chat template.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, max_tokens: int = MICRO_BATCH_TOKENS
    ) -> None:
        if not tokenizer.chat_template:
            raise RewardModelError(
                "the reward model's tokenizer is not the policy's and has no chat template, so there is no telling how "
                "it reads a conversation; put the template it was trained with into its folder (chat_template.jinja)"
            )
        if "sanitize_control_tokens" not in inspect.signature(tokenizer.apply_chat_template).parameters:
            raise RewardModelError(
                "this version of transformers cannot keep a reply from forging control tokens of the reward model's "
                "chat format; install a newer one (constraints.txt)"
            )
        self.model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    def scores(self, conversations: Sequence[Conversation], replies: Sequence[str], ended: Sequence[bool]) -> Tensor:
        """Return the scores [rows] of replies to conversations.

        Raises:
            RewardModelError: if a conversation is longer than the model's context, or its template refuses one.
        """
        rows = self.encode(conversations, replies, ended)
        limit = context_of(self.model)
        longest = max(map(len, rows))
        if limit is not None and longest > limit:
            raise RewardModelError(
                f"a conversation has {longest} tokens for the reward model, which reads at most {limit}; lower "
                "base.context or generation.max_new_tokens, or take a reward model with a longer context"
            )
        sequences = pack(rows, [[] for _ in rows], 0)
        with torch.inference_mode():
            return sequence_scores(self.model, sequences, max_tokens=self._max_tokens).clone()

    def prompt_lengths(self, conversations: Sequence[Conversation]) -> list[int]:
        """Return the lengths of conversations in the model's tokens, with an empty reply."""
        return [len(row) for row in self.encode(conversations, [""] * len(conversations), [True] * len(conversations))]

    def to(self, device: torch.device) -> None:
        """Move the model to a device."""
        self.model.to(device)

    def encode(
        self, conversations: Sequence[Conversation], replies: Sequence[str], ended: Sequence[bool]
    ) -> list[list[int]]:
        """Return the token ids of conversations with their replies, up to the token at which each is scored.

        Raises:
            RewardModelError: if the chat template refuses one.
        """
        rows: list[list[int]] = [[]] * len(replies)
        for whole in (True, False):
            chosen = [index for index, end in enumerate(ended) if bool(end) is whole]
            chats = [[*_messages(conversations[i]), {"role": "assistant", "content": replies[i]}] for i in chosen]
            for index, row in zip(chosen, self._render(chats, whole), strict=True):
                rows[index] = row
        pad = padding_of(self.model)
        return rows if pad is None else [_without(row, pad) for row in rows]

    def _render(self, chats: list[list[dict[str, str]]], whole: bool) -> list[list[int]]:
        if not chats:
            return []
        try:
            encoded: Any = self._tokenizer.apply_chat_template(
                chats, continue_final_message=not whole, sanitize_control_tokens=True, return_dict=True
            )
        except (TemplateError, ValueError) as error:
            raise RewardModelError(f"the reward model's chat template refuses a conversation: {error}") from error
        return [list(row) for row in encoded["input_ids"]]


class TextScores:
    """The scores of a `TextRewardModel` as a term of a reward: the policy's tokens are read back as text.

    Control tokens that the policy wrote before its end token are spelled out: none may hide from the reward model.
    """

    def __init__(self, model: TextRewardModel, dialogues: Dialogues) -> None:
        self._model = model
        self._dialogues = dialogues

    def values(self, sequences: Sequences, ended: Tensor) -> Tensor:
        """Return the model's scores [rows] of replies."""
        conversations = [prompt.conversation() for prompt in self._dialogues.prompts(sequences)]
        replies = self._dialogues.replies(sequences, keep_control=True)
        return self._model.scores(conversations, replies, ended.tolist()).to(sequences.ids.device)

    def to(self, device: torch.device) -> None:
        """Move the model to a device."""
        self._model.to(device)


def difference(policy: PreTrainedTokenizerFast, reward: PreTrainedTokenizerFast) -> str:
    """Return what of a reward model's tokenizer is not the policy's, "" if its model can be given the policy's tokens.

    That needs the same vocabulary, special tokens and chat format; a reward model's tokenizer without a chat template
    says nothing of the format, which is then the policy's. The padding token does not matter: no model looks at it.
    """
    if policy.get_vocab() != reward.get_vocab():
        return "vocabulary"
    if (policy.bos_token_id, policy.eos_token_id) != (reward.bos_token_id, reward.eos_token_id):
        return "special tokens"
    return "chat template" if reward.chat_template not in (None, policy.chat_template) else ""


def context_of(model: PreTrainedModel) -> int | None:
    """Return how many tokens a model reads, None if its configuration does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def padding_of(model: PreTrainedModel) -> int | None:
    """Return the token at the end of a text that the library's sequence classification does not read, if any."""
    pad: int | None = model.config.get_text_config().pad_token_id
    return pad


@torch.inference_mode()
def check_reading(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> None:
    """Make sure that a model's scores are read here as transformers reads them, on a few rows of token ids.

    Raises:
        RewardModelError: if they are not, as for a model that looks ahead, or has its head elsewhere.
    """
    if not hasattr(model, "score"):
        raise RewardModelError(
            f"{type(model).__name__} is no decoder with one number a token (it has no head `score`); take a reward "
            "model of the kind that transformers' XForSequenceClassification makes of a causal language model"
        )
    theirs = [float(model(input_ids=torch.tensor([list(row)], device=model.device)).logits[0, 0]) for row in rows]
    pad = padding_of(model)
    read = [list(row) if pad is None else _without(list(row), pad) for row in rows]
    ours = sequence_scores(model, pack(read, [[] for _ in read], 0)).tolist()
    loose = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
    if any(abs(one - other) > loose * (1 + abs(other)) for one, other in zip(ours, theirs, strict=True)):
        raise RewardModelError(
            f"{type(model).__name__} scores {ours} here and {theirs} in transformers, so it cannot be trusted here; "
            "take a reward model built on a causal language model such as Llama, Mistral, Gemma or Qwen"
        )


def _messages(conversation: Conversation) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in conversation]


def _without(row: list[int], pad: int) -> list[int]:
    """Return a row without the padding tokens at its end."""
    while len(row) > 1 and row[-1] == pad:
        row = row[:-1]
    return row
