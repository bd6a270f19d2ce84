"""What the KL divergence is measured to: the one thing in which SALSA and PPO differ.

PPO: the SFT model. SALSA (arXiv:2411.01798): a soup of SFT models. WARP (arXiv:2406.16768): a moving average of the
policy. TR-DPO (arXiv:2404.09656): the policy itself, every so often. A mixture: several of these at once, each with its
share of the KL.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from salsa.models.scoring import MICRO_BATCH_TOKENS, precise, reply_logps
from salsa.models.sequences import Sequences

Weighted = list[tuple[float, Tensor]]
"""The log-probabilities of each reference, with its share of the KL."""


class Reference(Protocol):
    """A distribution over replies, or several with their shares, that a policy is held to while it learns."""

    identity: str
    """What tells references apart, such as the fingerprint of the weights; a checkpoint goes on with its own only."""

    def token_logps(self, sequences: Sequences, temperature: float) -> Weighted:
        """Return (share, log-probabilities [rows, longest reply] in nats, 0 where no token is) of each reference."""
        ...

    def follow(self, policy: torch.nn.Module, iterations: int) -> None:
        """Take notice of the policy after `iterations` iterations; a frozen reference does nothing."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold to go on; nothing for a frozen reference."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        ...

    def to(self, device: torch.device) -> None:
        """Move to the device of the policy."""
        ...


class FrozenReference:
    """A fixed model as reference: an SFT model (PPO) or a soup of SFT models (SALSA, arXiv:2411.01798).

    The model is taken over: it goes to evaluation mode and its parameters no longer ask for gradients, so it must not
    be the object that is trained. It is not a part of any module, so that no checkpoint stores it.
    """

    def __init__(self, model: PreTrainedModel, identity: str, max_tokens: int = MICRO_BATCH_TOKENS) -> None:
        self.identity = identity
        self.model = model.eval().requires_grad_(False)
        self.max_tokens = max_tokens

    def token_logps(self, sequences: Sequences, temperature: float) -> Weighted:
        """Return the model's log-probabilities, with the share 1."""
        with torch.inference_mode():
            logps, _ = reply_logps(self.model, sequences, temperature, max_tokens=self.max_tokens)
        return [(1.0, logps.clone())]

    def follow(self, policy: torch.nn.Module, iterations: int) -> None:
        """Stay as it is."""

    def state(self) -> dict[str, Tensor]:
        """Return nothing: the model is read from its folder again."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Do nothing; raises ValueError for a state that a moving reference has left."""
        if state:
            raise ValueError("the checkpoint holds a moving reference, but this training has a frozen one")

    def to(self, device: torch.device) -> None:
        """Move the model to a device."""
        self.model.to(device)


class MovingReference(FrozenReference):
    """A reference that follows the policy: reference <- (1 - rate) reference + rate policy, every few iterations.

    With a small `rate` at each iteration it is WARP's exponential moving average (arXiv:2406.16768, section 3.1), with
    a larger one at every `every`th iteration TR-DPO's soft update, with 1 its hard update (arXiv:2404.09656). The
    average is kept in float32 (float64 for a float64 model) whatever the weights' format, in which small rates would
    be lost.

    Raises:
        ValueError: if `rate` is not in [0, 1] or `every` is less than 1.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        identity: str,
        *,
        rate: float,
        every: int = 1,
        max_tokens: int = MICRO_BATCH_TOKENS,
    ) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"a moving reference takes a share in [0, 1] of the policy at a time, got {rate}")
        if every < 1:
            raise ValueError(f"a moving reference moves every 1 or more iterations, got {every}")
        super().__init__(model, identity, max_tokens)
        self.rate = rate
        self.every = every
        # Shares its memory with the model where the model is precise enough.
        self.averages = {name: precise(tensor.data) for name, tensor in model.named_parameters()}

    def follow(self, policy: torch.nn.Module, iterations: int) -> None:
        """Move towards the policy, if it is time; raises KeyError for a policy of another architecture."""
        if iterations % self.every:
            return
        latest = dict(policy.named_parameters())
        with torch.no_grad():
            for name, average in self.averages.items():
                average.lerp_(latest[name].to(average.dtype), self.rate)
        self._show()

    def state(self) -> dict[str, Tensor]:
        """Return the averages by the names of the parameters."""
        return dict(self.averages)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take over averages; raises ValueError for those of another model."""
        if state.keys() != self.averages.keys():
            raise ValueError("the checkpoint's moving reference has other parameters than this training's")
        for name, average in self.averages.items():
            average.copy_(state[name])
        self._show()

    def to(self, device: torch.device) -> None:
        """Move model and averages to a device."""
        self.model.to(device)
        for name, parameter in self.model.named_parameters():
            average = self.averages[name]
            self.averages[name] = parameter.data if average.dtype == parameter.dtype else average.to(device)

    def _show(self) -> None:
        """Let the model have the averages, where they are not its own memory."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter.dtype != self.averages[name].dtype:
                    parameter.copy_(self.averages[name])


class MixtureReference:
    """Several references, each with its share: the KL term is the weighted sum of their KL divergences.

    The KL to several SFT models at once is the SALSA paper's MKL ablation. Shares are positive and sum to 1, so that a
    KL coefficient keeps its meaning: a nat to all of them costs what a nat to one costs.

    Raises:
        ValueError: if shares are not positive or do not sum to 1.
    """

    def __init__(self, parts: Sequence[tuple[float, Reference]]) -> None:
        shares = [share for share, _ in parts]
        if not parts or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"the shares of a mixture of references must be positive and sum to 1, got {shares}")
        self.parts = list(parts)
        self.identity = " + ".join(f"{share:g} x {reference.identity}" for share, reference in self.parts)

    def token_logps(self, sequences: Sequences, temperature: float) -> Weighted:
        """Return the log-probabilities of all parts, with their shares."""
        return [
            (share * inner, logps)
            for share, reference in self.parts
            for inner, logps in reference.token_logps(sequences, temperature)
        ]

    def follow(self, policy: torch.nn.Module, iterations: int) -> None:
        """Let every part take notice."""
        for _, reference in self.parts:
            reference.follow(policy, iterations)

    def state(self) -> dict[str, Tensor]:
        """Return the states of the parts, their names led by the number of the part."""
        return {
            f"{index}.{name}": tensor
            for index, (_, reference) in enumerate(self.parts)
            for name, tensor in reference.state().items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take over the states of the parts."""
        for index, (_, reference) in enumerate(self.parts):
            lead = f"{index}."
            own = {key.removeprefix(lead): value for key, value in state.items() if key.startswith(lead)}
            reference.load_state(own)

    def to(self, device: torch.device) -> None:
        """Move all parts to a device."""
        for _, reference in self.parts:
            reference.to(device)
