"""Scores of replies for a stage: the reward model in its unit, and the judge, whichever it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipelines.device import place
from pipelines.work import Work
from salsa.data.conversation import Prompt
from salsa.data.source import Source
from salsa.models.families import load_scalar, load_tokenizer
from salsa.models.sequences import pack
from salsa.rl.rewards import RewardScorer
from salsa.store.artifact import Artifact


@dataclass(frozen=True)
class Answers:
    """A model's replies to prompts: by prompt as texts, turn after turn in one list as token ids.

    `texts` show the control tokens that a model wrote, so that none escapes the judge.
    """

    prompts: Sequence[Prompt]
    texts: Sequence[tuple[str, ...]]
    ends: Sequence[tuple[bool, ...]]
    prompt_ids: list[list[int]]
    reply_ids: list[list[int]]

    @property
    def ended(self) -> torch.Tensor:
        """Whether each reply has its end token [replies]."""
        return torch.tensor([end for turns in self.ends for end in turns], dtype=torch.bool)

    def mean_over_turns(self, values: Sequence[float]) -> list[float]:
        """Return the mean over the turns of each prompt, from one value a reply."""
        means, start = [], 0
        for turns in self.ends:
            means.append(sum(values[start : start + len(turns)]) / len(turns))
            start += len(turns)
        return means


@dataclass(frozen=True)
class Scorer:
    """A reward model with its normaliser and its tokenizer's padding."""

    scorer: RewardScorer
    pad: int

    def scores(self, answers: Answers) -> list[float]:
        """Return the normalised score of each prompt, the mean over turns; an unended reply gets the fixed score."""
        rewards = self.scorer.rewards(pack(answers.prompt_ids, answers.reply_ids, self.pad), answers.ended)
        return answers.mean_over_turns(rewards.tolist())


@dataclass(frozen=True)
class GoldJudge:
    """The programmatic judge that a source of data brings."""

    source: Source

    def scores(self, answers: Answers) -> list[float]:
        """Return the gold reward of each prompt, the mean over its turns. Raises ValueError where there is none."""
        scores = []
        for prompt, texts, ends in zip(answers.prompts, answers.texts, answers.ends, strict=True):
            gold = self.source.gold(prompt, texts, ends)
            if gold is None:
                raise ValueError(f"judge=gold: prompt {prompt.id!r} has no gold reward; use judge=reward_model")
            scores.append(float(gold))
        return scores


def scorer_of(artifact: Artifact, missing_end_score: float, micro_batch_tokens: int) -> RewardScorer:
    """Return the reward model of an artifact in the unit that its normaliser defines."""
    reward = artifact.json("reward.json")
    return RewardScorer(
        load_scalar(artifact.path), reward["mean"], reward["std"], missing_end_score, micro_batch_tokens
    )


def load_scorer(work: Work, role: str) -> Scorer:
    """Return the scorer of one of a stage's inputs, on the device of the execution."""
    artifact = work.inputs[role]
    scorer = scorer_of(artifact, work.config["missing_end_score"], work.execution.micro_batch_tokens)
    return Scorer(place(scorer, work.execution), load_tokenizer(artifact.path).pad_token_id)


def load_judge(work: Work) -> Scorer | GoldJudge:
    """Return the judge of a stage: the source's gold reward, or the second reward model."""
    return GoldJudge(work.source) if work.config["judge"] == "gold" else load_scorer(work, "judge")
