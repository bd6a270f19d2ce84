"""Held-out demonstrations of a stage, and what a model makes of them."""

from collections.abc import Callable
from typing import Any

from pipelines.work import Work
from salsa.data.chat import encode_conversation
from salsa.data.lengths import fit_conversations
from salsa.training.validation import HeldoutLoss, Likelihoods, heldout_loss


def heldout_losses(
    work: Work, tokenizer: Any, model: Any, count: int, progress: Callable[[int, int], None] | None = None
) -> tuple[HeldoutLoss, list[str]]:
    """Return a model's loss on up to `count` held-out demonstrations, and the cluster of each."""
    config, execution = work.config, work.execution
    found = work.source.heldout_demonstrations(count)
    fitting = fit_conversations(tokenizer, [conversation for conversation, _ in found], config["context"])
    rows = encode_conversation(tokenizer, fitting.kept, config["learn"])
    module = Likelihoods(model, rows, execution.micro_batch_tokens)
    losses = heldout_loss(module, accelerator=execution.accelerator, progress=progress)
    return losses, [found[index][1] or str(index) for index in fitting.indices]
