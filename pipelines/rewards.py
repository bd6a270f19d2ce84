"""The reward of an arm's training: its terms, from the stage's configuration and inputs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.rules import load
from pipelines.scoring import reward_model_of
from pipelines.work import Work
from salsa.data.conversation import Prompt
from salsa.models.families import load_scalar
from salsa.rl.dialogues import Dialogues
from salsa.rl.rewards import End, Length, Normalised, RewardSum, RuleTerm, Term, Weighted
from salsa.rl.rules import Rule
from salsa.rl.text_rewards import RewardModelError, TextRewardModel, TextScores, context_of

PLAIN = {"mean": 0.0, "std": 1.0}
"""The unit of what is not normalised."""


def reward_sum(
    work: Work,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    ids: Sequence[Sequence[int]],
    load: Callable[[Path], Any] = load_scalar,
) -> RewardSum:
    """Return the weighted terms of a stage's rewards; `ids` are the token ids of all prompts it will ask.

    `load` gives the reward model of a folder.

    Raises:
        RewardModelError: if a prompt does not fit into the reward model's context.
    """
    rewards, terms = work.config["rewards"], {}
    reads = _Readings(tokenizer, prompts, ids)
    if rewards.get("model"):
        terms["model"] = Weighted(rewards["model"], _model(work, reads, load))
    for name, term in (("length", Length()), ("end", End())):
        terms[name] = Weighted(rewards.get(name, 0.0), term)
    for name, known in sorted(rewards.get("rules", {}).items()):
        terms[name] = Weighted(known["weight"], _rule(work, name, known, reads))
    return RewardSum(terms, work.config["missing_end_score"])


class _Readings:
    """Prompts to be read as text; looked up by their ids only where a term needs it."""

    def __init__(self, tokenizer: Any, prompts: Sequence[Prompt], ids: Sequence[Sequence[int]]) -> None:
        self.prompts = prompts
        self._tokenizer = tokenizer
        self._ids = ids
        self._dialogues: Dialogues | None = None

    def dialogues(self) -> Dialogues:
        if self._dialogues is None:
            self._dialogues = Dialogues(self._tokenizer, self.prompts, self._ids)
        return self._dialogues


def _model(work: Work, reads: _Readings, load: Callable[[Path], Any]) -> Term:
    artifact = work.inputs["reward"]
    unit = artifact.json("reward.json")
    model = reward_model_of(artifact, work.execution.micro_batch_tokens, load)
    if isinstance(model, TextRewardModel):
        _check_room(model, reads.prompts, work.config["generation"]["max_new_tokens"])
        return Normalised(TextScores(model, reads.dialogues()), unit["mean"], unit["std"])
    return Normalised(model, unit["mean"], unit["std"])


def _check_room(model: TextRewardModel, prompts: Sequence[Prompt], reply_tokens: int) -> None:
    """Make sure at once that prompts leave room for replies, as far as they can be counted before they are written."""
    limit = context_of(model.model)
    lengths = model.prompt_lengths([prompt.conversation() for prompt in prompts])
    too_long = sum(limit is not None and length + reply_tokens > limit for length in lengths)
    if too_long:
        raise RewardModelError(
            f"reward.name: {too_long} of {len(prompts)} prompts with {reply_tokens} tokens a reply (the longest has "
            f"{max(lengths)} of the reward model's tokens) are longer than what it reads, {limit} tokens; lower "
            "base.context or generation.max_new_tokens, or take a reward model with a longer context"
        )


def _rule(work: Work, name: str, known: dict[str, Any], reads: _Readings) -> RuleTerm:
    place = work.stage.execution["rules"][name]
    rule = Rule(name, load(place["key"], known, place["folders"]))
    unit = work.inputs[f"rule_{name}"].json("rule.json") if known["normalise"] else PLAIN
    return RuleTerm(rule, reads.dialogues(), unit["mean"], unit["std"])
