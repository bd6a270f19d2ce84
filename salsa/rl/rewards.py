"""The reward of a reply: weighted terms, in the unit in which a KL coefficient has its meaning."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from salsa.models.scoring import MICRO_BATCH_TOKENS, sequence_scores
from salsa.models.sequences import Sequences
from salsa.rl.dialogues import Dialogues
from salsa.rl.rules import Rule


class Term(Protocol):
    """Something that replies are rewarded for."""

    def values(self, sequences: Sequences, ended: Tensor) -> Tensor:
        """Return the values [rows] of replies; `ended` [rows] tells which have their end token."""
        ...

    def to(self, device: torch.device) -> None:
        """Move to the device of the policy."""
        ...


class Weighted(NamedTuple):
    """A term and what one of its units is worth in reward."""

    weight: float
    term: Term


class RewardSum:
    """The sum of weighted terms, or `missing_end_score` in its place where a reply has no end token (None: the sum).

    Terms of weight 0 are not computed.

    Raises:
        ValueError: if no term has a weight.
    """

    def __init__(self, terms: Mapping[str, Weighted], missing_end_score: float | None) -> None:
        self._terms = {name: weighted for name, weighted in terms.items() if weighted.weight}
        self._missing_end_score = missing_end_score
        if not self._terms:
            raise ValueError("no term of the reward has a weight; give one of them a weight")

    def terms(self, sequences: Sequences, ended: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms [rows] of the rewards of replies, which sum to the rewards of ended ones."""
        return {name: weight * term.values(sequences, ended) for name, (weight, term) in self._terms.items()}

    def total(self, terms: dict[str, Tensor], ended: Tensor) -> Tensor:
        """Return the rewards [rows]: the sum of the terms, or `missing_end_score` where `ended` is false."""
        rewards = torch.stack(list(terms.values())).sum(0)
        if self._missing_end_score is None:
            return rewards
        return torch.where(ended.to(rewards.device), rewards, self._missing_end_score)

    def rewards(self, sequences: Sequences, ended: Tensor) -> Tensor:
        """Return the rewards [rows] of replies."""
        return self.total(self.terms(sequences, ended), ended)

    def to(self, device: torch.device) -> None:
        """Move all terms to a device."""
        for weighted in self._terms.values():
            weighted.term.to(device)


class TokenScores:
    """Scores of a frozen reward model with the policy's tokenizer, read at the last token of a reply.

    `unread` is a token at the end that is not read: a model that was published with its end token for padding is read
    by the library, and so was trained, at the token before. The model is taken over as `FrozenReference` takes over
    its model.
    """

    def __init__(self, model: PreTrainedModel, max_tokens: int = MICRO_BATCH_TOKENS, unread: int | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self._max_tokens = max_tokens
        self._unread = unread

    def values(self, sequences: Sequences, ended: Tensor) -> Tensor:
        """Return the model's scores [rows] of replies, ended or not."""
        if self._unread is not None:
            sequences = without_last(sequences, self._unread)
        with torch.inference_mode():
            return sequence_scores(self.model, sequences, max_tokens=self._max_tokens).clone()

    def to(self, device: torch.device) -> None:
        """Move the model to a device."""
        self.model.to(device)


class Normalised:
    """A term's values as (value - `mean`) / `std`, both measured once, on the replies of one fixed policy.

    Raises:
        ValueError: if the standard deviation is not positive.
    """

    def __init__(self, term: Term, mean: float, std: float) -> None:
        if not std > 0:
            raise ValueError(
                f"the reward model's scores have a standard deviation of {std} on the samples they are normalised on; "
                "a reward model that gives every reply the same score cannot guide a policy"
            )
        self._term = term
        self._mean = mean
        self._std = std

    def values(self, sequences: Sequences, ended: Tensor) -> Tensor:
        """Return the normalised values [rows] of replies."""
        return (self._term.values(sequences, ended) - self._mean) / self._std

    def to(self, device: torch.device) -> None:
        """Move the term to a device."""
        self._term.to(device)


class Length:
    """The length of replies in tokens, the end token included."""

    def values(self, sequences: Sequences, ended: Tensor) -> Tensor:
        """Return the numbers of tokens [rows]."""
        return sequences.reply_lengths.float()

    def to(self, device: torch.device) -> None:
        """Do nothing: lengths have no tensors."""


class End:
    """One for a reply that has its end token, zero for one that was cut."""

    def values(self, sequences: Sequences, ended: Tensor) -> Tensor:
        """Return ones and zeros [rows]."""
        return ended.to(sequences.ids.device).float()

    def to(self, device: torch.device) -> None:
        """Do nothing: ends have no tensors."""


class RuleTerm:
    """A rule as a term of a reward: its values on text, normalised to (value - `mean`) / `std`.

    Raises:
        ValueError: if the standard deviation is not positive.
    """

    def __init__(self, rule: Rule, dialogues: Dialogues, mean: float = 0.0, std: float = 1.0) -> None:
        if not std > 0:
            raise ValueError(f"rule {rule.name} has a standard deviation of {std} on the replies it is normalised on")
        self._rule = rule
        self._dialogues = dialogues
        self._mean = mean
        self._std = std

    def values(self, sequences: Sequences, ended: Tensor) -> Tensor:
        """Return the rule's values [rows] of replies."""
        prompts, replies = self._dialogues.prompts(sequences), self._dialogues.replies(sequences)
        values = self._rule.values(prompts, replies, ended.tolist())
        return (torch.tensor(values, device=sequences.ids.device) - self._mean) / self._std

    def to(self, device: torch.device) -> None:
        """Do nothing: a rule has no tensors."""


def usual_reward(
    model: PreTrainedModel,
    mean: float,
    std: float,
    missing_end_score: float | None,
    max_tokens: int = MICRO_BATCH_TOKENS,
) -> RewardSum:
    """Return the usual reward: the normalised scores of a reward model with the policy's tokenizer, nothing else.

    A reply without its end token gets `missing_end_score`, in the same unit, whatever the model thinks of it, so that
    rambling up to the limit does not pay (None: its score). Raises ValueError unless the deviation is positive.
    """
    scores = Normalised(TokenScores(model, max_tokens), mean, std)
    return RewardSum({"model": Weighted(1.0, scores)}, missing_end_score)


def without_last(sequences: Sequences, token: int) -> Sequences:
    """Return sequences whose replies end before the trailing `token`s, of which none counts any more."""
    ids, begins, counts = sequences
    places = torch.arange(ids.shape[1], device=ids.device)
    real = (ids != token) & (places < (begins + counts)[:, None])
    last = torch.where(real, places, -1).max(1).values
    return Sequences(ids, begins, (last + 1 - begins).clamp(min=0))
