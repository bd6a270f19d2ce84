"""Stage `judge`: scores a model's replies to a suite with the judge and with the optimised reward model."""

from typing import Any

import torch

from pipelines.scoring import judge_scores, load_scorer
from pipelines.stages.respond import RESPONSES
from pipelines.work import Work
from salsa.data.conversation import Message, Prompt
from salsa.data.source import Source
from salsa.evaluation.scores import ScoredReply, write
from salsa.report.samples import in_turns

SCORES = "scores.jsonl"


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `scores.jsonl`, one `ScoredReply` a prompt; means over the turns."""
    rows = work.inputs["responses"].lines(RESPONSES)
    prompts = [_prompt(row["prompt"]) for row in rows]
    owner = [index for index, row in enumerate(rows) for _ in row["replies"]]
    prompt_ids = [ids for row in rows for ids in row["prompt_ids"]]
    reply_ids = [ids for row in rows for ids in row["reply_ids"]]
    ended = torch.tensor([end for row in rows for end in row["ended"]])
    rewards = load_scorer(work, "reward").score(prompt_ids, reply_ids, ended)
    replies = [tuple(row["replies"]) for row in rows]
    ends = [tuple(row["ended"]) for row in rows]
    judged = judge_scores(work, prompts, replies, ends, prompt_ids, reply_ids, ended, owner)
    turns = [len(row["replies"]) for row in rows]
    reward = _means(rewards, owner, turns)
    length = _means([float(len(ids)) for ids in reply_ids], owner, turns)
    scored = [
        ScoredReply(
            prompt_id=prompt.id,
            cluster=prompt.cluster or prompt.id,
            category=prompt.category,
            suite=work.config["suite"],
            question=_shown(work.source, prompt),
            replies=tuple(work.source.display(text) for text in replies[index]),
            judge=judged[index],
            reward=reward[index],
            length=length[index],
            ended=all(ends[index]),
        )
        for index, prompt in enumerate(prompts)
    ]
    write(work.folder / SCORES, scored)
    metrics = {
        "prompts": len(scored),
        "too_long": work.inputs["responses"].metrics["too_long"],
        "judge": sum(judged) / len(judged),
        "reward": sum(reward) / len(reward),
        "length": sum(length) / len(length),
        "unfinished": 1 - sum(all(end) for end in ends) / len(ends),
    }
    return f"{len(scored)} prompts, mean judge score {metrics['judge']:.2f}, reward {metrics['reward']:.2f}", metrics


def _means(values: list[float], owner: list[int], turns: list[int]) -> list[float]:
    totals = [0.0] * len(turns)
    for value, index in zip(values, owner, strict=True):
        totals[index] += value
    return [total / count for total, count in zip(totals, turns, strict=True)]


def _prompt(row: dict[str, Any]) -> Prompt:
    context = tuple(Message(**message) for message in row["context"])
    return Prompt(**(row | {"context": context, "questions": tuple(row["questions"])}))


def _shown(source: Source, prompt: Prompt) -> str:
    """Return a prompt as a person reads it: who says what where there is a context, which turn where there are some."""
    before = [f"{message.role}: {source.display(message.content)}" for message in prompt.context]
    questions = in_turns([source.display(question) for question in prompt.questions])
    return "\n".join([*before, f"user: {questions}" if before else questions])
