"""What models say about given replies: log-probabilities, values, scores.

The head of a model is applied only where its output is used: at the reply tokens, or at the last token. For the
Llama, Mistral and Gemma families this equals `model(...).logits` at those places.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from salsa.models.layout import Layout, layouts
from salsa.models.sequences import Sequences

MICRO_BATCH_TOKENS = 2048
"""Most slots (padding included) of one forward pass; more than fits the processor's cache makes it slower."""


def token_logits(model: PreTrainedModel, layout: Layout, temperature: float = 1.0) -> Tensor:
    """Return the logits [tokens, vocabulary] of the policy that samples at `temperature`, at the replies of a layout.

    They are float32 (float64 from a float64 model), whatever the weights: rounded logits make probability ratios noisy.

    Raises:
        ValueError: if the model changes its logits behind the head, or the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"log-probabilities need a positive temperature, got {temperature}")
    if getattr(model.config, "final_logit_softcapping", None) or getattr(model.config, "logit_scale", None):
        raise ValueError(
            f"{type(model).__name__} changes its logits behind the head (final_logit_softcapping or logit_scale), "
            "which this package does not do; use a Llama, Mistral or Gemma (1) model"
        )
    logits = precise(model.get_output_embeddings()(_hidden(model, layout)[layout.states]))
    return logits if temperature == 1 else logits / temperature


def token_logps(model: PreTrainedModel, layout: Layout, temperature: float = 1.0) -> Tensor:
    """Return the log-probabilities [tokens] in nats of the reply tokens of a layout."""
    return -F.cross_entropy(token_logits(model, layout, temperature), layout.targets, reduction="none")


def token_values(scalar_model: PreTrainedModel, layout: Layout) -> Tensor:
    """Return a critic's values [tokens] of the states before each reply token of a layout."""
    return precise(scalar_model.score(_hidden(scalar_model, layout)[layout.states])).squeeze(-1)


def reply_logps(
    model: PreTrainedModel,
    sequences: Sequences,
    temperature: float = 1.0,
    *,
    entropy: bool = False,
    max_tokens: int = MICRO_BATCH_TOKENS,
) -> tuple[Tensor, Tensor | None]:
    """Return log-probabilities [rows, longest reply] in nats of the reply tokens, and entropies there if asked for.

    Both are 0 where a row has no reply token. `max_tokens` bounds the slots of one forward pass.
    """
    logps, entropies = [], []
    parts = [layout.to(model.device) for layout in layouts(sequences, max_tokens)]
    for layout in parts:
        logits = token_logits(model, layout, temperature)
        logps.append(-F.cross_entropy(logits, layout.targets, reduction="none"))
        if entropy:
            entropies.append(torch.distributions.Categorical(logits=logits, validate_args=False).entropy())
    return _table(sequences, parts, logps), _table(sequences, parts, entropies) if entropy else None


def reply_values(
    scalar_model: PreTrainedModel, sequences: Sequences, *, max_tokens: int = MICRO_BATCH_TOKENS
) -> Tensor:
    """Return a critic's values [rows, longest reply] of the states before each reply token, 0 where there is none."""
    parts = [layout.to(scalar_model.device) for layout in layouts(sequences, max_tokens)]
    return _table(sequences, parts, [token_values(scalar_model, layout) for layout in parts])


def sequence_scores(
    scalar_model: PreTrainedModel, sequences: Sequences, *, max_tokens: int = MICRO_BATCH_TOKENS
) -> Tensor:
    """Return a reward model's scores [rows]: its output at the last token of each sequence."""
    parts = [layout.to(scalar_model.device) for layout in layouts(sequences, max_tokens)]
    scores = torch.cat(
        [precise(scalar_model.score(_hidden(scalar_model, part)[part.ends])).squeeze(-1) for part in parts]
    )
    return torch.empty_like(scores).index_put((torch.cat([part.sources for part in parts]),), scores)


def precise(values: Tensor) -> Tensor:
    """Return the values in float32, or as they are in float64."""
    return values if values.dtype == torch.float64 else values.float()


def _hidden(model: PreTrainedModel, layout: Layout) -> Tensor:
    """Return the last hidden states [bins x width, hidden] of a model's backbone."""
    output = model.base_model(input_ids=layout.ids, position_ids=layout.positions, attention_mask=None, use_cache=False)
    return output.last_hidden_state.flatten(0, 1)


def _table(sequences: Sequences, parts: list[Layout], values: list[Tensor]) -> Tensor:
    """Put values of the reply tokens of all parts into a [rows, longest reply] table of zeros."""
    flat = torch.cat(values)
    shape = (len(sequences.ids), int(sequences.reply_lengths.max()))
    table = flat.new_zeros(shape[0] * shape[1]).index_put((torch.cat([part.cells for part in parts]),), flat)
    return table.view(shape)
