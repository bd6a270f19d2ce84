"""A made-up experiment with the shape and the magnitudes of a real one: seven models, four suites, curves, samples."""

import functools
import json
from typing import Any

import numpy as np

from salsa.evaluation.scores import ScoredReply
from salsa.evaluation.statistics import Estimate
from salsa.report.experiment import (
    Divergence,
    Evidence,
    Heading,
    Judge,
    RewardModelReport,
    Row,
    Tax,
    assemble,
)

SUITES = ("single", "two_turn", "hard", "unseen")
ANCHORS = ("SFT1", "SFT2", "soup")
OPPONENTS = ("PPO", "SFT1")
ANIMALS = ("fox", "owl", "crow", "goat", "bear", "seal")
ASKED = ("colour", "food", "home", "skill")
# Name, role, start, reference, mean judge score, mean length, KL to the three anchors.
MODELS: tuple[tuple[str, str, str | None, str | None, float, float, tuple[float, float, float]], ...] = (
    ("SFT1", "ingredient", None, None, 0.74, 15.0, (0.0, 3.1, 0.9)),
    ("SFT2", "ingredient", None, None, 0.79, 15.4, (3.0, 0.0, 0.8)),
    ("soup", "soup", None, None, 1.02, 15.2, (0.8, 0.8, 0.0)),
    ("SALSA", "policy", "SFT1", "soup", 1.51, 17.9, (6.2, 6.0, 4.1)),
    ("PPO", "opponent", "SFT1", "SFT1", 1.41, 18.2, (4.4, 7.3, 5.0)),
    ("reference SFT2", "control", "SFT1", "SFT2", 1.49, 17.4, (7.0, 4.6, 4.4)),
    ("start + ref. soup", "control", "soup", "soup", 1.53, 17.7, (6.4, 6.3, 4.0)),
)
TRAINED = tuple(name for name, _, start, *_ in MODELS if start)


def replies(name: str, suite: str, count: int, seed: int = 0) -> list[ScoredReply]:
    """Return one model's replies to one suite; difficulty is shared by the models, noise is not."""
    index = [model[0] for model in MODELS].index(name)
    _, _, _, _, level, length, _ = MODELS[index]
    shared = np.random.default_rng([seed, SUITES.index(suite)])
    own = np.random.default_rng([seed, SUITES.index(suite), index])
    scored = []
    for number in range(count):
        animal, asked = ANIMALS[number % len(ANIMALS)], ASKED[number // 2 % len(ASKED)]
        judge = level - 0.3 * SUITES.index(suite) + shared.normal(0, 0.5) + own.normal(0, 0.6)
        turns = 2 if suite == "two_turn" else 1
        text = f"hello there . the {animal} is red . it eats fish ." if index > 2 else f"the {animal} is red ."
        scored.append(
            ScoredReply(
                prompt_id=f"{suite}-{number:03d}",
                cluster=f"{animal}:{asked}",
                category=asked,
                suite=suite,
                question=f"tell me the {asked} of the {animal} .",
                replies=(text,) * turns,
                judge=float(judge),
                reward=float(0.6 * judge + own.normal(0, 0.3)),
                length=float(length + own.normal(0, 3)),
                ended=bool(own.random() > 0.02),
            )
        )
    return scored


def interval(value: float, half: float, n: int = 256) -> Estimate:
    return Estimate(value, value - half, value + half, n)


def divergences(name: str) -> dict[str, Divergence]:
    values = next(model[-1] for model in MODELS if model[0] == name)
    return {
        anchor: Divergence(interval(value, 0.06 * value), interval(1.03 * value, 0.05 * value), f"{name}-{anchor}-kl")
        for anchor, value in zip(ANCHORS, values, strict=True)
    }


def divergence(value: float, final: float) -> dict[str, float]:
    error = 0.04 * final + 0.02
    of_reply = {"k1": value, "k1_se": error, "k3": value, "k3_se": 0.1}
    return of_reply | {f"{key[:2]}_token{key[2:]}": each / 14.0 for key, each in of_reply.items()}


def curve(name: str, steps: int = 32, every: int = 4) -> list[dict[str, Any]]:
    _, _, _, _, level, length, finals = next(model for model in MODELS if model[0] == name)
    points = []
    for step in range(0, steps + 1, every):
        done = step / steps
        kl = {anchor: divergence(final * done**0.7, final) for anchor, final in zip(ANCHORS, finals, strict=True)}
        points.append(
            {
                "step": step,
                "judge": 0.74 + (level - 0.74) * np.sin(done * 1.9) / np.sin(1.9),
                "reward": float(1.1 * done**0.5),
                "length": 15.0 + (length - 15.0) * done,
                "unfinished": 0.02,
                "kl": kl,
            }
        )
    return json.loads(json.dumps(points))


def reward_model() -> RewardModelReport:
    bins = [
        {"predicted": center / 10 + 0.05, "observed": 0.5 + 0.85 * (center / 10 - 0.45), "count": 40 + 12 * center}
        for center in range(10)
    ]
    return RewardModelReport(interval(0.748, 0.019, 1000), 0.171, 0.031, 0.44, 1000, bins, "reward-model-report")


def evidence(count: int = 60, seed: int = 0) -> Evidence:
    names = [model[0] for model in MODELS]
    return Evidence(
        scores={name: {suite: replies(name, suite, count, seed) for suite in SUITES} for name in names},
        fingerprints={
            name: {suite: {"respond": f"respond-{name}-{suite}", "judge": f"judge-{name}-{suite}"} for suite in SUITES}
            for name in names
        },
        kl={name: divergences(name) for name in names},
        tax={name: Tax(0.97 - 0.01 * index, 5.1 + 0.2 * index, f"tax-{name}") for index, name in enumerate(names)},
        curves={name: curve(name) for name in TRAINED},
        training={
            name: [{"step": step, "reward": 0.03 * step, "kl": 0.1 * step} for step in range(32)] for name in TRAINED
        },
        reward_model=reward_model(),
    )


def rows() -> list[Row]:
    return [
        Row(name, role, start, reference, 0.2 if start else None, f"{index:02d}" * 32)
        for index, (name, role, start, reference, *_) in enumerate(MODELS)
    ]


def heading(model: str = "llama2") -> Heading:
    return Heading(
        fingerprint="ab12" * 16,
        title="SALSA against PPO in the embedded world",
        model=model,
        judge=Judge("gold reward", 0.75, "points"),
        settings={"model": {"family": model}, "soup": {"alpha": 0.5}, "policy": {"kl_coef": 0.2, "init": "sft_1"}},
    )


@functools.cache
def _experiment(model: str, seed: int, count: int) -> str:
    made = assemble(
        heading(model),
        rows(),
        evidence(count, seed),
        suites=SUITES,
        opponents=OPPONENTS,
        anchors=ANCHORS,
        rng=np.random.default_rng(seed),
    )
    return json.dumps(made, allow_nan=False)


def experiment(model: str = "llama2", seed: int = 0, count: int = 60) -> dict[str, Any]:
    """Return a fresh copy of the made-up experiment, so that a test may change it."""
    return json.loads(_experiment(model, seed, count))
