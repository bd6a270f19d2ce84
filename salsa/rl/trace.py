"""What a policy says to fixed prompts in the course of its training, for whoever measures KL to other models later."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from salsa.models.sequences import Sequences
from salsa.rl.rollout import Rollout


class Trace(NamedTuple):
    """Where to write which replies: a folder, and the token ids of the prompts."""

    folder: Path
    prompts: Sequence[Sequence[int]]


class TracedReplies(NamedTuple):
    """The content of one trace file.

    `logps` [rows, longest reply] are the policy's own log-probabilities (nats) at temperature 1, 0 behind a reply;
    `ended` [rows] tells which replies have their end token.
    """

    sequences: Sequences
    logps: Tensor
    ended: Tensor


def trace_path(folder: Path, step: int) -> Path:
    """Return the file with the replies of the policy that has finished `step` iterations."""
    return folder / f"step_{step:05d}.safetensors"


def write_trace(path: Path, rollout: Rollout) -> None:
    """Write replies so that the file is whole whenever it is there, also after a kill.

    Tensors: ids, prompt_lengths, reply_lengths, logps, ended (0 or 1).
    """
    tensors = {
        **rollout.sequences._asdict(),
        "logps": rollout.logps,
        "ended": rollout.ended.to(torch.uint8),
    }
    content = safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".new")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_trace(path: Path) -> TracedReplies:
    """Read what `write_trace` wrote."""
    tensors = safetensors.torch.load_file(path)
    sequences = Sequences(*(tensors[name] for name in Sequences._fields))
    return TracedReplies(sequences, tensors["logps"], tensors["ended"].bool())
