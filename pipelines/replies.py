"""Sampling replies for a stage, through Lightning's `predict`, with progress; what a kill leaves is not made again."""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from pipelines.work import Work
from salsa.data.chat import decode_replies, encode_prompts
from salsa.data.conversation import Prompt
from salsa.rl.responder import Reply, Responder, respond
from salsa.store import journal

SYNC_SECONDS = 1.0
"""A kill loses no reply that was kept; a power cut at most what came in this time."""
BATCH_PASSES = 8
"""The key-value cache of a batch of a benchmark holds so many times the tokens of one pass: its replies are long."""


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


class ReplyLog:
    """The replies of a stage as they come, by key, in a file that outlives a kill: `with ReplyLog(path) as log`.

    One process at a time writes it, which is what the lock of a stage is for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replies: dict[str, Reply] = {}
        self._synced = 0.0

    def __enter__(self) -> "ReplyLog":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found = journal.read(self.path)
        self.replies = {entry["key"]: Reply(entry["ids"], entry["ended"]) for entry in found}
        self._file = self.path.open("ab+")
        if self._file.tell() and not self._ends_a_line():
            self._file.write(b"\n")  # What follows a torn line begins a line of its own.
        self._synced = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def keep(self, replies: Mapping[str, Reply]) -> None:
        """Append replies by their keys; raises OSError where they cannot be written."""
        self.replies.update(replies)
        lines = [
            json.dumps({"key": key, "ids": reply.ids, "ended": reply.ended}) + "\n" for key, reply in replies.items()
        ]
        self._file.write("".join(lines).encode("ascii"))
        self._file.flush()
        now = time.monotonic()
        if now - self._synced >= SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = now

    def _ends_a_line(self) -> bool:
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1) == b"\n"


@dataclass(frozen=True)
class Turn:
    """One turn of a suite: which it is, the stream of random numbers of each prompt, and where replies are kept.

    In a benchmark replies may be long: batches are bounded by what the key-value cache holds, and a reply ends where
    the context does.
    """

    number: int
    streams: Sequence[int]
    log: ReplyLog | None = None
    benchmark: bool = False

    def key(self, row: int, prompt: Sequence[int]) -> str:
        """Return what a reply is known by: its turn, its stream and what it answers, token by token."""
        digest = hashlib.sha256(json.dumps(list(prompt)).encode("ascii")).hexdigest()[:16]
        return f"{self.number}:{self.streams[row]}:{digest}"


def responder_of(
    work: Work,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    seed: int,
    generation: Mapping[str, Any],
    streams: Sequence[int] | None = None,
) -> Responder:
    """Return what samples a model's replies to prompts (token ids); the temperature may be a list, one a prompt."""
    return Responder(
        model,
        prompts,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        max_new_tokens=generation["max_new_tokens"],
        temperature=generation["temperature"],
        seed=seed,
        max_tokens=work.execution.micro_batch_tokens,
        streams=streams,
    )


def sample_replies(
    work: Work,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    seed: int,
    generation: Mapping[str, Any],
    span: tuple[int, int],
    turn: Turn | None = None,
) -> list[SampledReply]:
    """Return one reply a prompt; `span` is (prompts done before, prompts in all), for the progress that is shown."""
    before, total = span
    turn = turn or Turn(0, range(len(prompts)))
    log, keys = turn.log, [turn.key(row, prompt) for row, prompt in enumerate(prompts)] if turn.log else []
    replies = respond(
        responder_of(work, model, tokenizer, prompts, seed, generation, turn.streams),
        batch_slots=BATCH_PASSES * work.execution.micro_batch_tokens if turn.benchmark else None,
        accelerator=work.execution.accelerator,
        progress=lambda done: work.progress(before + done, total, "replies"),
        known={row: log.replies[key] for row, key in enumerate(keys) if key in log.replies} if log else {},
        keep=(lambda batch: log.keep({keys[row]: reply for row, reply in batch.items()})) if log else None,
    )
    if turn.benchmark:
        context = generation["context"]
        replies = [_within(reply, context - len(prompt)) for reply, prompt in zip(replies, prompts, strict=True)]
    ids = [reply.ids for reply in replies]
    texts, visible = decode_replies(tokenizer, ids), decode_replies(tokenizer, ids, keep_control=True)
    return [
        SampledReply(reply.ids, text, shown, reply.ended)
        for reply, text, shown in zip(replies, texts, visible, strict=True)
    ]


def _within(reply: Reply, room: int) -> Reply:
    """Return a reply as far as there is room, which may be less than a whole one after a reply of many odd characters.

    A token always remains: what scores replies takes none for an error.
    """
    return reply if len(reply.ids) <= room else Reply(reply.ids[: max(1, room)], False)


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
    work: Work,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    role: str,
    generation: Mapping[str, Any],
    log: ReplyLog | None = None,
    places: Sequence[int] | None = None,
) -> list[Answered]:
    """Return a model's replies to every turn of the prompts; `role` names the random stream of each turn.

    The stream is the same whatever the model: models are compared with common random numbers. `places` are the prompts'
    places in their benchmark, which keep it so where another model answers other questions (see also `Turn`); without
    them the streams of a turn are counted. `generation` may have `temperatures` by category beside its `temperature`.
    """
    answered = [Answered(prompt) for prompt in prompts]
    turns = max(len(prompt.questions) for prompt in prompts)
    for turn in range(turns):
        rows = [row for row, prompt in enumerate(prompts) if len(prompt.questions) > turn]
        open_ = [answered[row] for row in rows]
        ids = encode_prompts(tokenizer, [each.prompt.conversation(tuple(each.said)) for each in open_])
        span = (turn * len(prompts), turns * len(prompts))
        streams = range(len(rows)) if places is None else [places[row] for row in rows]
        one = Turn(turn, streams, log, places is not None)
        settings = _settings(generation, [each.prompt for each in open_])
        replies = sample_replies(work, model, tokenizer, ids, work.seed(role, turn), settings, span, one)
        for each, prompt_ids, reply in zip(open_, ids, replies, strict=True):
            each.prompt_ids.append(prompt_ids)
            each.reply_ids.append(reply.ids)
            each.replies.append(reply.visible)
            each.said.append(reply.text)
            each.ended.append(reply.ended)
    return answered


def _settings(generation: Mapping[str, Any], prompts: Sequence[Prompt]) -> Mapping[str, Any]:
    """Return the settings of generation with the temperature of each prompt where it depends on the category."""
    by_category = generation.get("temperatures")
    if not by_category:
        return generation
    usual = generation["temperature"]
    return {**generation, "temperature": [by_category.get(prompt.category, usual) for prompt in prompts]}


def first_turn(prompt: Prompt) -> Prompt:
    """Return the prompt of the first question alone."""
    query = prompt.query
    if query is not None:
        query = {key: value[:1] if key == "turns" else value for key, value in query.items()}
    return Prompt(prompt.id, prompt.questions[:1], prompt.context, prompt.cluster, query=query)
