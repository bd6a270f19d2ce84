"""What a policy says to fixed prompts in the course of its training: stored, scored, and the best of it kept.

Whoever measures the KL to other models does so later, on these replies; the training itself knows no other models.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from salsa.models.sequences import Sequences, reply_mask
from salsa.rl.objectives import k1
from salsa.rl.references import Weighted
from salsa.rl.rollout import Rollout


class TracedReplies(NamedTuple):
    """The content of one trace file.

    `logps` [rows, longest reply] are the policy's own log-probabilities (nats) at temperature 1, 0 behind a reply;
    `ended` [rows] tells which replies have their end token; `scores` [rows] are their rewards.
    """

    sequences: Sequences
    logps: Tensor
    ended: Tensor
    scores: Tensor


Watch = Callable[[int, TracedReplies], None]
"""Called with the number of finished iterations and the replies."""


class Trace(NamedTuple):
    """Where to write which replies: a folder, and the token ids of the prompts; where to keep the best policy.

    `best` is the file of the weights of the policy with the best validation objective so far, None to keep none;
    `watch` sees each set of replies.
    """

    folder: Path
    prompts: Sequence[Sequence[int]]
    best: Path | None = None
    watch: Watch | None = None


class Tracer:
    """Takes the traces of a training and keeps the best policy by them.

    The validation objective is the mean reward on the fixed prompts minus a price times the KL to the reference: the
    reward alone would prefer whatever the reward model overrates. With the coefficient as the price it is what PPO
    maximises; where the coefficient adapts, has another unit (GRPO, APA) or the reference moves, a rule of thumb.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.best_step: int | None = None
        self.best_objective = float("-inf")

    def take(
        self,
        step: int,
        rollout: Rollout,
        scores: Tensor,
        references: Weighted,
        kl_coef: float,
        policy: nn.Module,
    ) -> dict[str, float]:
        """Write the replies of the policy that has finished `step` iterations; return its validation metrics.

        The start, step 0, is written but is no candidate for the best policy.
        """
        mask = reply_mask(rollout.sequences)
        ratios = torch.stack([weight * k1(rollout.logps, logps) for weight, logps in references]).sum(0)
        divergence = torch.where(mask, ratios, 0.0).sum(1).mean()
        score = scores.mean()
        traced = TracedReplies(rollout.sequences, rollout.logps, rollout.ended, scores)
        write_trace(trace_path(self.trace.folder, step), traced)
        if self.trace.watch is not None:
            self.trace.watch(step, traced)
        values = torch.stack([score.float(), divergence.float(), (score - kl_coef * divergence).float()]).tolist()
        metrics = dict(zip(("validation/score", "validation/kl", "validation/objective"), values, strict=True))
        if step > 0 and metrics["validation/objective"] > self.best_objective:
            self.best_step, self.best_objective = step, metrics["validation/objective"]
            if self.trace.best is not None:
                weights = {name: tensor.detach().cpu().contiguous() for name, tensor in policy.named_parameters()}
                _write(self.trace.best, safetensors.torch.save(weights))
        return metrics

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold to go on."""
        return {"step": self.best_step, "objective": self.best_objective}

    def load_state(self, state: dict[str, Any] | None) -> None:
        """Take over what `state` gave; weights of a later step than the checkpoint's are written again, the same."""
        if state is not None:
            self.best_step, self.best_objective = state["step"], float(state["objective"])


def load_best(path: Path, policy: nn.Module) -> None:
    """Give a policy the weights that a trace has kept."""
    weights = safetensors.torch.load_file(path)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            parameter.copy_(weights[name])


def trace_path(folder: Path, step: int) -> Path:
    """Return the file with the replies of the policy that has finished `step` iterations."""
    return folder / f"step_{step:05d}.safetensors"


def write_trace(path: Path, replies: TracedReplies) -> None:
    """Write replies so that the file is whole whenever it is there, also after a kill.

    Tensors: ids, prompt_lengths, reply_lengths, logps, ended (0 or 1), scores.
    """
    tensors = {
        **replies.sequences._asdict(),
        "logps": replies.logps,
        "ended": replies.ended.to(torch.uint8),
        "scores": replies.scores,
    }
    _write(path, safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))


def read_trace(path: Path) -> TracedReplies:
    """Read what `write_trace` wrote."""
    tensors = safetensors.torch.load_file(path)
    sequences = Sequences(*(tensors[name] for name in Sequences._fields))
    return TracedReplies(sequences, tensors["logps"], tensors["ended"].bool(), tensors["scores"])


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".new")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
