"""Experience made up for one update of small models, and updates from it."""

import torch

from salsa.models.heads import ValueHead
from salsa.models.sequences import pack, reply_mask
from salsa.rl.experience import Experience
from salsa.rl.learner import Learner
from salsa.rl.settings import PPOSettings
from salsa.training.optimiser import OptimiserSettings, adamw
from tests.rl.tiny import PAD, causal, in_float64, replies, scalar, texts

ROWS = 10
SETTINGS = {"batch_prompts": ROWS, "minibatches": 2, "epochs": 2, "kl_coef": 0.3, "learning_rate": 1e-3}


def settings_of(loss="ppo_clip", **changes):
    placement = "none" if loss == "square" else "loss_k3"
    return PPOSettings(**SETTINGS | {"loss": loss, "kl_placement": placement} | changes)


def policy_of(dtype=torch.float64, seed=0):
    model = causal(seed=seed, hidden_size=16, intermediate_size=24)
    return in_float64(model) if dtype == torch.float64 else model


def critic_of(dtype=torch.float64):
    model = scalar(seed=3, hidden_size=16, intermediate_size=24)
    return in_float64(model) if dtype == torch.float64 else model


def experience_of(dtype=torch.float64):
    """Return random replies with old log-probabilities that lie so far from the policy's that some are clipped."""
    sequences = pack(texts(0, ROWS), replies(1, ROWS), PAD)
    mask = reply_mask(sequences)
    generator = torch.Generator().manual_seed(2)

    def table(scale, centre):
        drawn = centre + scale * torch.randn(mask.shape, generator=generator, dtype=torch.float64)
        return torch.where(mask, drawn, 0.0).to(dtype)

    logps = torch.where(mask, naive_logps(policy_of(), sequences), 0.0)
    old, first, second = (table(0.25, logps) for _ in range(3))
    return Experience(sequences, old, [(0.4, first), (0.6, second)], table(1.0, 0.0), table(0.3, 0.0), table(1.0, 0.0))


@torch.no_grad()
def naive_logps(policy, sequences):
    """Return log-probabilities from whole logits of one text at a time."""
    rows = torch.zeros(reply_mask(sequences).shape, dtype=torch.float64)
    for row, (ids, begin, length) in enumerate(zip(*sequences, strict=True)):
        logits = policy(ids[None, : begin + length]).logits[0, begin - 1 : -1].double()
        rows[row, :length] = logits.log_softmax(-1).gather(1, ids[begin : begin + length, None])[:, 0]
    return rows


def permutation_of(each_pass):
    return torch.randperm(ROWS, generator=torch.Generator().manual_seed(each_pass))


def optimisers_of(policy, critic, rate=1e-3):
    models = [policy, critic] if critic is not None and not isinstance(critic, ValueHead) else [policy]
    adam = OptimiserSettings(learning_rate=rate, betas=(0.9, 0.95), eps=1e-5)
    extra = list(critic.parameters()) if isinstance(critic, ValueHead) else []
    return [adamw([*model.parameters(), *extra], adam) for model in models]


def update(experience, settings, permutation=permutation_of, critic=None):
    """Make one update of fresh models; return their parameters and the metrics."""
    policy = policy_of(experience.logps.dtype)
    critic = ValueHead(policy) if critic == "trunk" else critic
    learner = Learner(settings, policy, critic, torch.Tensor.backward)
    metrics = learner.update(experience, settings.kl_coef, optimisers_of(policy, critic), permutation)
    models = {"policy": policy} | ({"critic": critic} if critic is not None else {})
    return {f"{n}.{k}": v.detach() for n, m in models.items() for k, v in m.named_parameters()}, metrics


def difference(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


class Standing:
    """An optimiser that makes no step but keeps the gradients it would have used."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.gradients = []

    def step(self):
        self.gradients.append([None if p.grad is None else p.grad.clone() for p in self.parameters])

    def zero_grad(self):
        for parameter in self.parameters:
            parameter.grad = None


def named(policy):
    return ((f"policy.{name}", parameter.detach()) for name, parameter in policy.named_parameters())
