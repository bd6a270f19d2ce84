"""Prompts of a source as token ids that leave room for their replies; what does not fit is counted, never cut."""

from collections.abc import Mapping, Sequence
from typing import Any

from salsa.data.chat import encode_prompts
from salsa.data.conversation import Prompt


def fitting(
    tokenizer: Any, prompts: Sequence[Prompt], generation: Mapping[str, Any], what: str
) -> tuple[list[Prompt], int]:
    """Return the prompts whose questions and longest possible replies fit into the context, and how many do not.

    The choice depends on the questions alone, so that every model answers the same ones. Raises ValueError, naming
    the keys to change, when nothing fits.
    """
    if not prompts:
        raise ValueError(f"{what}: there are no prompts; check the files that were given and the suite's name")
    lengths = encode_prompts(
        tokenizer, [prompt.conversation(("",) * (len(prompt.questions) - 1)) for prompt in prompts]
    )
    longest = generation["max_new_tokens"]
    room = generation["context"]
    kept = [
        prompt
        for prompt, ids in zip(prompts, lengths, strict=True)
        if len(ids) + len(prompt.questions) * longest <= room
    ]
    if not kept:
        raise ValueError(
            f"{what}: none of the {len(prompts)} prompts fits into base.context={room} tokens with replies of "
            f"generation.max_new_tokens={longest}; raise the first or lower the second"
        )
    return kept, len(prompts) - len(kept)
