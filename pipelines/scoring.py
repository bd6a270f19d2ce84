"""Scores of replies for a stage: the reward model in its unit, and the judge, whichever it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipelines.work import Work
from salsa.data.conversation import Prompt
from salsa.models.families import load_scalar, load_tokenizer
from salsa.models.sequences import pack
from salsa.rl.rewards import RewardScorer
from salsa.store.artifact import Artifact


@dataclass(frozen=True)
class Scorer:
    """A reward model with its normaliser and its tokenizer's padding."""

    scorer: RewardScorer
    pad: int

    def score(self, prompts: list[list[int]], replies: list[list[int]], ended: torch.Tensor) -> list[float]:
        """Return the normalised scores [rows] of replies given as token ids; an unended one gets the fixed score."""
        return [float(score) for score in self.scorer.rewards(pack(prompts, replies, self.pad), ended)]


def scorer_of(artifact: Artifact, missing_end_score: float, micro_batch_tokens: int) -> RewardScorer:
    """Return the reward model of an artifact in the unit that its normaliser defines."""
    reward = artifact.json("reward.json")
    return RewardScorer(
        load_scalar(artifact.path), reward["mean"], reward["std"], missing_end_score, micro_batch_tokens
    )


def load_scorer(work: Work, role: str) -> Scorer:
    """Return the scorer of one of a stage's inputs."""
    artifact = work.inputs[role]
    scorer = scorer_of(artifact, work.config["missing_end_score"], work.execution.micro_batch_tokens)
    return Scorer(scorer, load_tokenizer(artifact.path).pad_token_id)


def judge_scores(
    work: Work,
    prompts: Sequence[Prompt],
    replies: Sequence[tuple[str, ...]],
    ends: Sequence[tuple[bool, ...]],
    prompt_ids: list[list[int]],
    reply_ids: list[list[int]],
    ended: torch.Tensor,
    owner: Sequence[int],
) -> list[float]:
    """Return the judge's score of each prompt, the mean over its turns; `owner[i]` is the prompt of reply i."""
    if work.config["judge"] == "gold":
        scores: list[Any] = [
            work.source.gold(prompt, texts, end) for prompt, texts, end in zip(prompts, replies, ends, strict=True)
        ]
        return [float(score) for score in scores]
    values = load_scorer(work, "judge").score(prompt_ids, reply_ids, ended)
    totals, counts = [0.0] * len(prompts), [0] * len(prompts)
    for value, index in zip(values, owner, strict=True):
        totals[index] += value
        counts[index] += 1
    return [total / count for total, count in zip(totals, counts, strict=True)]
