"""What models say about given replies: log-probabilities, values, scores.

The head of a model is applied only where its output is used: at the reply tokens, or at the last token. For the
Llama, Mistral and Gemma families this equals `model(...).logits` at those places.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from salsa.models.head import linear_head, precise, target_logps
from salsa.models.layout import Layout, layouts
from salsa.models.product import padded
from salsa.models.sequences import Sequences
from salsa.models.trunk import hidden_states

MICRO_BATCH_TOKENS = 4096
"""Most tokens of one forward pass; fewer make more, smaller operations, more take more memory."""


def token_logps(model: PreTrainedModel, layout: Layout, temperature: float = 1.0) -> Tensor:
    """Return the log-probabilities [tokens] in nats of the reply tokens, for the policy that samples at `temperature`.

    They are float32 (float64 from a float64 model), whatever the weights: rounded ones make probability ratios noisy.

    Raises:
        ValueError: if the temperature is not positive, or `linear_head` refuses the model.
    """
    return _token_logps(model, layout, temperature, entropy=False)[0]


def token_values(scalar_model: PreTrainedModel, layout: Layout) -> Tensor:
    """Return a critic's values [tokens] of the states before each reply token of a layout."""
    return precise(scalar_model.score(hidden_states(scalar_model, layout, layout.states))).squeeze(-1)


def token_logps_and_values(
    model: PreTrainedModel, score: Callable[[Tensor], Tensor], layout: Layout, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return log-probabilities [tokens] and values [tokens] of one pass; `score` is a value head on the policy's trunk.

    Raises:
        ValueError: as `token_logps`.
    """
    hidden, targets = _states(model, layout)
    logps, _ = target_logps(hidden, linear_head(model), targets, temperature)
    count = len(layout.states)
    return logps[:count], precise(score(hidden[:count])).squeeze(-1)


def reply_logps(
    model: PreTrainedModel,
    sequences: Sequences,
    temperature: float = 1.0,
    *,
    entropy: bool = False,
    max_tokens: int = MICRO_BATCH_TOKENS,
) -> tuple[Tensor, Tensor | None]:
    """Return log-probabilities [rows, longest reply] in nats of the reply tokens, and entropies there if asked for.

    Both are 0 where a row has no reply token. `max_tokens` bounds the tokens of one forward pass.
    """
    parts = [layout.to(model.device) for layout in layouts(sequences, max_tokens)]
    results = [_token_logps(model, layout, temperature, entropy) for layout in parts]
    entropies = [entropies for _, entropies in results if entropies is not None]
    logps = _table(sequences, parts, [logps for logps, _ in results])
    return logps, _table(sequences, parts, entropies) if entropy else None


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
        [precise(scalar_model.score(hidden_states(scalar_model, part, part.ends))).squeeze(-1) for part in parts]
    )
    return torch.empty_like(scores).index_put((torch.cat([part.sources for part in parts]),), scores)


def _token_logps(
    model: PreTrainedModel, layout: Layout, temperature: float, entropy: bool
) -> tuple[Tensor, Tensor | None]:
    hidden, targets = _states(model, layout)
    logps, entropies = target_logps(hidden, linear_head(model), targets, temperature, entropy=entropy)
    count = len(layout.states)
    return logps[:count], None if entropies is None else entropies[:count]


def _states(model: PreTrainedModel, layout: Layout) -> tuple[Tensor, Tensor]:
    """Return the hidden states and targets of the reply tokens, and perhaps some more to make the products faster."""
    weight = linear_head(model).weight
    return hidden_states(model, layout, padded(layout.states, weight)), padded(layout.targets, weight)


def _table(sequences: Sequences, parts: list[Layout], values: list[Tensor]) -> Tensor:
    """Put values of the reply tokens of all parts into a [rows, longest reply] table of zeros."""
    flat = torch.cat(values)
    shape = (len(sequences.ids), int(sequences.reply_lengths.max()))
    table = flat.new_zeros(shape[0] * shape[1]).index_put((torch.cat([part.cells for part in parts]),), flat)
    return table.view(shape)
