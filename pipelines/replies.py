"""Sampling replies for a stage, through Lightning's `predict`, with progress."""

from dataclasses import dataclass
from typing import Any

from pipelines.work import Work
from salsa.data.chat import decode_replies
from salsa.rl.responder import respond
from salsa.rl.rollout import Rollout


@dataclass(frozen=True)
class Reply:
    """One sampled reply: its token ids (with the end token, if it ended), its text, and whether it ended."""

    ids: list[int]
    text: str
    ended: bool


def sample_replies(
    work: Work,
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    seed: int,
    generation: Any,
    span: tuple[int, int],
) -> list[Reply]:
    """Return one reply a prompt; `span` is (prompts done before, prompts in all), for the progress that is shown."""
    return to_replies(sample(work, model, tokenizer, prompts, seed, generation, span), tokenizer)


def sample(
    work: Work,
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    seed: int,
    generation: Any,
    span: tuple[int, int],
) -> Rollout:
    """Return the rollout of one reply a prompt, rows in the order of the prompts."""
    done, total = span
    return respond(
        model,
        prompts,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        max_new=generation["max_new_tokens"],
        temperature=generation["temperature"],
        seed=seed,
        accelerator=work.execution.accelerator,
        progress=lambda count: work.progress(done + count, total, "replies"),
    )


def to_replies(rollout: Rollout, tokenizer: Any) -> list[Reply]:
    """Return a rollout's replies as texts and ids."""
    ids = []
    for row, prompt, reply in zip(
        rollout.sequences.ids.tolist(),
        rollout.sequences.prompt_lengths.tolist(),
        rollout.sequences.reply_lengths.tolist(),
        strict=True,
    ):
        ids.append(row[prompt : prompt + reply])
    texts = decode_replies(tokenizer, ids)
    return [Reply(*parts) for parts in zip(ids, texts, rollout.ended.tolist(), strict=True)]
