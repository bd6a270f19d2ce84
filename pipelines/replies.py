"""Sampling replies for a stage, through Lightning's `predict`, with progress."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.work import Work
from salsa.data.chat import decode_replies
from salsa.rl.responder import Responder, respond


@dataclass(frozen=True)
class SampledReply:
    """One sampled reply: its token ids (with the end token, if it ended), its text twice, and whether it ended.

    `text` has no control tokens and can go back into a conversation; `visible` spells out those that the model wrote
    before the end, and is what is judged and shown.
    """

    ids: list[int]
    text: str
    visible: str
    ended: bool


def sample_replies(
    work: Work,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    seed: int,
    generation: Mapping[str, Any],
    span: tuple[int, int],
) -> list[SampledReply]:
    """Return one reply a prompt; `span` is (prompts done before, prompts in all), for the progress that is shown."""
    before, total = span
    responder = Responder(
        model,
        prompts,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        max_new_tokens=generation["max_new_tokens"],
        temperature=generation["temperature"],
        seed=seed,
        max_tokens=work.execution.micro_batch_tokens,
    )
    replies = respond(
        responder,
        accelerator=work.execution.accelerator,
        progress=lambda done: work.progress(before + done, total, "replies"),
    )
    ids = [reply.ids for reply in replies]
    texts, visible = decode_replies(tokenizer, ids), decode_replies(tokenizer, ids, keep_control=True)
    return [
        SampledReply(reply.ids, text, shown, reply.ended)
        for reply, text, shown in zip(replies, texts, visible, strict=True)
    ]
