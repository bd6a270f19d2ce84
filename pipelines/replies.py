"""Sampling replies for a stage, through Lightning's `predict`, with progress."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.work import Work
from salsa.data.chat import decode_replies, encode_prompts
from salsa.data.conversation import Prompt
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


def responder_of(
    work: Work, model: Any, tokenizer: Any, prompts: Sequence[list[int]], seed: int, generation: Mapping[str, Any]
) -> Responder:
    """Return what samples a model's replies to prompts (token ids)."""
    return Responder(
        model,
        prompts,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        max_new_tokens=generation["max_new_tokens"],
        temperature=generation["temperature"],
        seed=seed,
        max_tokens=work.execution.micro_batch_tokens,
    )


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
    responder = responder_of(work, model, tokenizer, prompts, seed, generation)
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


@dataclass
class Answered:
    """A model's replies to the questions of one prompt, turn after turn; `said` is what later turns are asked after."""

    prompt: Prompt
    prompt_ids: list[list[int]] = field(default_factory=list)
    reply_ids: list[list[int]] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    ended: list[bool] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def answer(
    work: Work, model: Any, tokenizer: Any, prompts: Sequence[Prompt], role: str, generation: Mapping[str, Any]
) -> list[Answered]:
    """Return a model's replies to every turn of the prompts; `role` names the random stream of each turn.

    The stream is the same whatever the model: models are compared with common random numbers.
    """
    answered = [Answered(prompt) for prompt in prompts]
    turns = max(len(prompt.questions) for prompt in prompts)
    for turn in range(turns):
        open_ = [each for each in answered if len(each.prompt.questions) > turn]
        ids = encode_prompts(tokenizer, [each.prompt.conversation(tuple(each.said)) for each in open_])
        span = (turn * len(prompts), turns * len(prompts))
        replies = sample_replies(work, model, tokenizer, ids, work.seed(role, turn), generation, span)
        for each, prompt_ids, reply in zip(open_, ids, replies, strict=True):
            each.prompt_ids.append(prompt_ids)
            each.reply_ids.append(reply.ids)
            each.replies.append(reply.visible)
            each.said.append(reply.text)
            each.ended.append(reply.ended)
    return answered


def first_turn(prompt: Prompt) -> Prompt:
    """Return the prompt of the first question alone."""
    query = prompt.query
    if query is not None:
        query = {key: value[:1] if key == "turns" else value for key, value in query.items()}
    return Prompt(prompt.id, prompt.questions[:1], prompt.context, prompt.cluster, query=query)
