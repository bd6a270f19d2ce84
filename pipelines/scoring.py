"""Scores of replies for a stage: the reward model in its unit, and the judge, whichever it is.

What is measured of a model is the reward model's score, whatever else a policy was rewarded for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pipelines.device import place
from pipelines.judges import NO_SCORES
from pipelines.work import Work
from salsa.data.chat import decode_replies
from salsa.data.conversation import Conversation, Prompt
from salsa.data.source import Source
from salsa.models.families import load_scalar, load_tokenizer
from salsa.models.sequences import pack
from salsa.rl.rewards import TokenScores
from salsa.rl.text_rewards import TextRewardModel, padding_of
from salsa.store.artifact import Artifact

POLICY_TOKENIZER = "policy_tokenizer"
"""Folder of the policy's tokenizer in the artifact of a reward model with another one."""


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


class Reader(Protocol):
    """A reward model that reads answers, one way or the other."""

    def raw(self, answers: Answers) -> Tensor:
        """Return the model's scores [replies] of all turns, ended or not."""
        ...

    def to(self, device: torch.device) -> None:
        """Move the model to a device."""
        ...


@dataclass(frozen=True)
class TokenReader:
    """A reward model with the policy's tokenizer, which reads token ids; `pad` fills rows."""

    scores: TokenScores
    pad: int

    def raw(self, answers: Answers) -> Tensor:
        """Return the model's scores [replies] of all turns."""
        return self.scores.values(pack(answers.prompt_ids, answers.reply_ids, self.pad), answers.ended)

    def to(self, device: torch.device) -> None:
        """Move the model to a device."""
        self.scores.to(device)


@dataclass(frozen=True)
class TextReader:
    """A reward model with a tokenizer of its own, which reads text; `tokenizer` is the policy's."""

    model: TextRewardModel
    tokenizer: Any

    def raw(self, answers: Answers) -> Tensor:
        """Return the model's scores [replies] of all turns."""
        return self.model.scores(*self.dialogues(answers))

    def dialogues(self, answers: Answers) -> tuple[list[Conversation], list[str], list[bool]]:
        """Return the conversation before each reply, the reply with its control tokens spelled out, and its end."""
        plain = iter(decode_replies(self.tokenizer, answers.reply_ids))
        conversations = []
        for prompt, turns in zip(answers.prompts, answers.texts, strict=True):
            said = tuple(next(plain) for _ in turns)
            conversations += [prompt.conversation(said[:turn]) for turn in range(len(turns))]
        return conversations, [text for turns in answers.texts for text in turns], answers.ended.tolist()

    def to(self, device: torch.device) -> None:
        """Move the model to a device."""
        self.model.to(device)


@dataclass(frozen=True)
class Scorer:
    """A reward model with its normaliser: a score is (raw - `mean`) / `std`."""

    reader: Reader
    mean: float
    std: float
    missing_end_score: float | None

    def scores(self, answers: Answers) -> list[float]:
        """Return the normalised score of each prompt, the mean over turns; an unended reply gets the fixed score."""
        scores = (self.reader.raw(answers) - self.mean) / self.std
        if self.missing_end_score is not None:
            scores = torch.where(answers.ended.to(scores.device), scores, self.missing_end_score)
        return answers.mean_over_turns(scores.tolist())

    def to(self, device: torch.device) -> None:
        """Move the model to a device."""
        self.reader.to(device)


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


def reads_text(artifact: Artifact) -> bool:
    """Return whether the reward model of an artifact has another tokenizer than the policy."""
    return artifact.json("reward.json").get("reads") == "text"


def reward_model_of(
    artifact: Artifact, micro_batch_tokens: int, load: Callable[[Path], Any] = load_scalar
) -> TokenScores | TextRewardModel:
    """Return the reward model of an artifact: one that reads tokens, or one that reads text.

    One that was trained here is read at the last token; a published one where the library reads it.
    """
    model = load(artifact.path)
    if reads_text(artifact):
        return TextRewardModel(model, load_tokenizer(artifact.path), micro_batch_tokens)
    published = "reads" in artifact.json("reward.json")
    return TokenScores(model, micro_batch_tokens, padding_of(model) if published else None)


def load_scorer(work: Work, role: str) -> Scorer:
    """Return the scorer of one of a stage's inputs, on the device of the execution."""
    artifact = work.inputs[role]
    model = reward_model_of(artifact, work.execution.micro_batch_tokens, load_scalar)
    reader: Reader
    if isinstance(model, TextRewardModel):
        reader = TextReader(model, load_tokenizer(artifact.path / POLICY_TOKENIZER))
    else:
        reader = TokenReader(model, load_tokenizer(artifact.path).pad_token_id)
    unit = artifact.json("reward.json")
    return place(Scorer(reader, unit["mean"], unit["std"], work.config["missing_end_score"]), work.execution)


def load_judge(work: Work) -> Scorer | GoldJudge | None:
    """Return the judge of a stage: the source's gold reward, the second reward model, or None if none gives scores."""
    if work.config["judge"] == NO_SCORES:
        return None
    return GoldJudge(work.source) if work.config["judge"] == "gold" else load_scorer(work, "judge")
