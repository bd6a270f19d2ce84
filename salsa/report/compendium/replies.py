"""Which replies stand side by side: prompts on which models differ most, then others chosen without a look."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from salsa.evaluation.scores import ScoredReply, read
from salsa.report.compendium.contents import REPORT, Contents, Result
from salsa.report.compendium.experiments import role_of
from salsa.report.samples import in_turns

SCORES = "scores.jsonl"
APART, EVENLY = 2, 1
"""Prompts of each suite by which models differ most, and that are evenly spaced."""
_MOST = 18
"""Prompts of one result in all."""
_TRAINED = ("ppo", "salsa", "control", "other")


@dataclass(frozen=True)
class Model:
    """A model whose replies are shown: how it is called, its role, and its fingerprint."""

    name: str
    role: str
    fingerprint: str


@dataclass(frozen=True)
class Reply:
    """What a model said, whether it came to an end, and what the judge and the reward model think of it."""

    text: str
    judge: float | None
    reward: float | None
    ended: bool


@dataclass(frozen=True)
class Sample:
    """A prompt with the replies of the models, in their order; `apart` says why it was chosen."""

    suite: str
    question: str
    apart: bool
    replies: Mapping[str, Reply]


@dataclass(frozen=True)
class Book:
    """The samples of one result: of which models, and what of the result they are."""

    result: Result
    about: str
    models: Sequence[Model]
    samples: Sequence[Sample]


class Shelf:
    """Finds the scored replies behind results; each artifact is read once, because studies share most of them."""

    def __init__(self, contents: Contents) -> None:
        self._lineage = contents.lineage
        self._read: dict[str, Sequence[ScoredReply]] = {}

    def book(self, result: Result) -> Book | None:
        """Return the samples of a result, or None where its replies are not in the store."""
        about, models, keys = _of_report(result) if result.kind == REPORT else _of_study(result)
        found = {model.name: self._replies(result, key) for model, key in zip(models, keys, strict=True)}
        models = [model for model in models if found[model.name]]
        samples = list(select(models, found))
        return Book(result, about, models, samples) if samples else None

    def _replies(self, result: Result, key: str) -> dict[str, Sequence[ScoredReply]]:
        """Return the scored replies of one model by suite; a suite whose artifact is gone is left out."""
        start = f"{key}:judge:"
        inputs = result.manifest.get("inputs", {})
        own = {role.removeprefix(start): identity for role, identity in inputs.items() if role.startswith(start)}
        return {suite: self._scores(identity) for suite, identity in own.items() if identity in self._lineage.artifacts}

    def _scores(self, identity: str) -> Sequence[ScoredReply]:
        if identity not in self._read:
            self._read[identity] = read(self._lineage.artifacts[identity].file(SCORES))
        return self._read[identity]


def models(result: Result) -> tuple[str, list[tuple[str, str]]]:
    """Return of which part of a result models are shown, and the name and fingerprint of each."""
    about, found, _ = _of_report(result) if result.kind == REPORT else _of_study(result)
    return about, [(model.name, model.fingerprint) for model in found]


def _of_report(result: Result) -> tuple[str, list[Model], list[str]]:
    rows = result.manifest.get("config", {}).get("rows", ())
    models = [Model(row["name"], role_of(row["role"]), row["fingerprint"]) for row in rows]
    return "", models, [row["key"] for row in rows]


def _of_study(result: Result) -> tuple[str, list[Model], list[str]]:
    """Return the models of the first family's first replicate, those that are reported with scored replies."""
    config = result.manifest.get("config", {})
    told = [each for each in config.get("models", ()) if "arm" in each]
    if not told:
        return "", [], []
    family = told[0]["family"]
    replicate = min(each["replicate"] for each in told if each["family"] == family)
    own = [each for each in told if (each["family"], each["replicate"]) == (family, replicate)]
    roles = {"SFT1": "sft", "soup": "soup", **config.get("arms", {})}
    models = [Model(_name(each, own), roles.get(each["arm"], "other"), each["fingerprint"]) for each in own]
    return f"{family}, replicate {replicate}", models, [each["key"] for each in own]


def _name(told: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    several = sum(each["arm"] == told["arm"] for each in others) > 1
    return f"{told['arm']} at {told['coefficient']:g}" if several else str(told["arm"])


def select(models: Sequence[Model], found: Mapping[str, Mapping[str, Sequence[ScoredReply]]]) -> Iterator[Sample]:
    """Yield the samples of all suites: first, suite by suite, those on which the trained models lie farthest apart."""
    suites = list(dict.fromkeys(suite for model in models for suite in found[model.name]))
    if not suites:
        return
    apart, evenly = max(1, min(APART, _MOST // len(suites) - 1)), EVENLY
    trained = [model.name for model in models if model.role in _TRAINED] or [model.name for model in models]
    picked = []
    for suite in suites:
        by_prompt = _by_prompt(suite, found)
        prompts = list(by_prompt)
        far = sorted(prompts, key=lambda prompt: -_spread(by_prompt[prompt], trained))[:apart]
        rest = [prompt for prompt in prompts if prompt not in far]
        spaced = [rest[(2 * place + 1) * len(rest) // (2 * evenly)] for place in range(min(evenly, len(rest)))]
        for number, prompt in enumerate([*far, *spaced]):
            picked.append((number >= len(far), number, _sample(suite, by_prompt[prompt], number < len(far))))
    for _, _, sample in sorted(picked, key=lambda each: each[:2])[:_MOST]:
        yield sample


def _by_prompt(
    suite: str, found: Mapping[str, Mapping[str, Sequence[ScoredReply]]]
) -> dict[str, dict[str, ScoredReply]]:
    """Return the replies by model of each prompt that every model of the suite has answered, in the suite's order."""
    own = {
        name: {reply.prompt_id: reply for reply in suites[suite]} for name, suites in found.items() if suite in suites
    }
    first = next(iter(own.values()), {})
    return {
        prompt: {name: replies[prompt] for name, replies in own.items()}
        for prompt in first
        if all(prompt in replies for replies in own.values())
    }


def _spread(replies: Mapping[str, ScoredReply], trained: Sequence[str]) -> float:
    """Return how far apart the scores of trained models are: the judge's, or the reward model's without a judge."""
    own = [replies[name] for name in trained if name in replies]
    judged = [reply.judge for reply in own if reply.judge is not None]
    scores = judged if len(judged) == len(own) else [reply.reward for reply in own]
    return max(scores, default=0.0) - min(scores, default=0.0)


def _sample(suite: str, replies: Mapping[str, ScoredReply], apart: bool) -> Sample:
    shown = {name: Reply(in_turns(each.replies), each.judge, each.reward, each.ended) for name, each in replies.items()}
    return Sample(suite, next(iter(replies.values())).question, apart, shown)
