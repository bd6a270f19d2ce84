"""Trainings of the PPO family on small models, and what came of them."""

import copy

import torch

from salsa.rl.ppo import PPO, PPOSettings
from salsa.rl.references import FrozenReference
from salsa.rl.rewards import usual_reward
from salsa.training.loop import fit
from salsa.training.metrics import JsonLines, read_metrics
from tests.rl.tiny import EOS, PAD, causal, scalar, texts

SETTINGS = {
    "steps": 4,
    "batch_prompts": 12,
    "minibatches": 3,
    "max_new_tokens": 10,
    "learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
    "kl_coef": 0.1,
    "warmup_steps": 1,
    "trace_every": 2,
    "seed": 5,
}
GROUPS = {"batch_prompts": 4, "replies_per_prompt": 3}
ALGORITHMS = {
    "ppo": {},
    "apa": {"loss": "square", "kl_placement": "none", "kl_coef": 1.0, "value_clip": 100.0},
    "awr": {"loss": "awr"},
    "grpo": {"credit": "group", "whiten": False, "aggregate": "replies", "kl_placement": "loss_k3"} | GROUPS,
    "rloo": {"loss": "reinforce", "credit": "leave_one_out", "whiten": False, "aggregate": "reply_sums", "epochs": 1}
    | GROUPS,
    "reinforce": {"loss": "reinforce", "credit": "returns", "epochs": 1},
}
"""What `conf/align` changes in PPO's settings, for each algorithm."""


class Rule:
    """A reward that is a function of replies and of whether they ended."""

    def __init__(self, rule):
        self.rule = rule

    def terms(self, sequences, ended):
        return {"rule": self.rule(sequences, ended)}

    def total(self, terms, ended):
        return terms["rule"]

    def to(self, device):
        pass


def build(reference=None, policy=None, trace=None, models=lambda model: model, prompts=None, scorer=None, **changes):
    """Return PPO on small models; the reference, a model or a `Reference`, is the policy's start if none is given."""
    settings = PPOSettings(**SETTINGS | changes)
    start = policy or causal()
    if not hasattr(reference, "token_logps"):
        reference = FrozenReference(models(copy.deepcopy(reference or start)), "reference")
    separate = settings.credit == "gae" and settings.critic != "trunk"
    return PPO(
        settings,
        policy=models(copy.deepcopy(start)),
        critic=models(scalar(seed=8)) if separate else None,
        reference=reference,
        scorer=scorer or usual_reward(models(scalar(seed=7)), mean=0.1, std=0.3, missing_end_score=-1.0),
        prompts=prompts or texts(0, 30),
        eos=EOS,
        pad=PAD,
        trace=trace,
    )


def run(ppo, folder, **options):
    fit(
        ppo,
        lambda step: step,
        ppo.settings.steps,
        folder,
        loggers=[JsonLines(folder)],
        accelerator="cpu",
        **{"checkpoint_steps": 1} | options,
    )
    return ppo


def weights(ppo):
    return {name: tensor.clone() for name, tensor in ppo.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def metrics(folder):
    return read_metrics(folder / "metrics.jsonl")


class KilledError(Exception):
    """Stands for a kill in the middle of an iteration."""


def kill_after(ppo, name, iteration):
    """Let a training die in iteration `iteration`, right after its method `name` has done its work."""
    method = getattr(ppo, name)

    def die(*arguments):
        result = method(*arguments)
        if ppo.completed == iteration:
            raise KilledError
        return result

    setattr(ppo, name, die)
