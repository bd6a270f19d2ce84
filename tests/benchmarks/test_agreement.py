"""The comparison of tensors against the peers' formulas, written out here once more, cell by cell."""

import math

import pytest
import torch

from benchmarks.agreement import BETA, CLIP, GROUP, Difference, given, of_groups, of_ppo
from benchmarks.peers import fixed

SETTINGS = {"kl_coef": 0.3, "gamma": 0.97, "lam": 0.9, "epochs": 1}
ROWS, WIDTH = 4, 5
LENGTHS = [5, 2, 1, 4]


def trl_ppo():
    """Return tensors as TRL's PPO trainer computes them: the score lies behind a reply that has ended."""
    generator = torch.Generator().manual_seed(1)
    step = torch.arange(WIDTH).expand(ROWS, WIDTH)
    last = torch.tensor(LENGTHS)[:, None] - 1
    padding, padding_p1 = step > last, step > last + 1
    logps, references, values = (torch.randn(ROWS, WIDTH, generator=generator) for _ in range(3))
    logps, references = logps.masked_fill(padding, 1.0), references.masked_fill(padding, 1.0)
    values, scores = values.masked_fill(padding_p1, 0.0), torch.randn(ROWS, generator=generator)
    rewards = -SETTINGS["kl_coef"] * (logps - references)
    for row, length in enumerate(LENGTHS):
        rewards[row, min(length, WIDTH - 1)] += scores[row]
    advantages = torch.zeros(ROWS, WIDTH)
    for row in range(ROWS):
        running = 0.0
        for t in reversed(range(WIDTH)):
            following = values[row, t + 1].item() if t + 1 < WIDTH else 0.0
            delta = rewards[row, t].item() + SETTINGS["gamma"] * following - values[row, t].item()
            running = delta + SETTINGS["gamma"] * SETTINGS["lam"] * running
            advantages[row, t] = running
    valid = advantages[~padding]
    whitened = (advantages - valid.mean()) * torch.rsqrt(valid.var() + 1e-8)
    found = {
        "logprobs": logps,
        "ref_logprobs": references,
        "values": values,
        "scores": scores,
        "rewards": rewards,
        "advantages": advantages,
        "returns": advantages + values,
        "whitened": whitened,
        "padding_mask": padding,
        "padding_mask_p1": padding_p1,
    }
    return found | trl_pass(found, generator)


def trl_pass(found, generator):
    new = found["logprobs"] + 0.4 * torch.randn(ROWS, WIDTH, generator=generator)
    predicted = found["values"] + 0.4 * torch.randn(ROWS, WIDTH, generator=generator)
    policy, critic = [], []
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            ratio = math.exp(new[row, t] - found["logprobs"][row, t])
            advantage = found["whitened"][row, t].item()
            policy.append(max(-advantage * ratio, -advantage * min(max(ratio, 1 - CLIP), 1 + CLIP)))
        for t in range(min(length + 1, WIDTH)):
            old, target, value = (each[row, t].item() for each in (found["values"], found["returns"], predicted))
            bounded = min(max(value, old - CLIP), old + CLIP)
            critic.append(max((value - target) ** 2, (bounded - target) ** 2) / 2)
    tensors = {
        "new_logprobs": new,
        "vpred": predicted,
        "mb_logprobs": found["logprobs"],
        "mb_advantage": found["whitened"],
        "mb_values": found["values"],
        "mb_return": found["returns"],
        "pg_loss": torch.tensor(sum(policy) / len(policy)),
        "vf_loss": torch.tensor(sum(critic) / len(critic)),
        "padding_mask": found["padding_mask"],
        "padding_mask_p1": found["padding_mask_p1"],
    }
    return {f"pass0.{name}": tensor for name, tensor in tensors.items()}


def largest(differences):
    return max(difference.value for difference in differences)


def test_ppo_agrees_with_the_formulas_of_the_peer():
    assert largest(of_ppo(trl_ppo(), SETTINGS, "case")) < 1e-5


@pytest.mark.parametrize("name", ["rewards", "returns", "whitened", "pass0.pg_loss", "pass0.vf_loss"])
def test_a_disturbed_tensor_of_ppo_is_found(name):
    peer = trl_ppo()
    peer[name] = peer[name] + 1e-3
    assert largest(of_ppo(peer, SETTINGS, "case")) > 1e-4


def trl_groups(tensors):
    """Return losses, gradients and advantages as TRL's GRPO and RLOO trainers define them."""
    mask, rewards = tensors["mask"], tensors["rewards"].view(-1, GROUP)
    lengths = mask.sum(1, keepdim=True)
    means = {"grpo": mask / (lengths * len(mask)), "dapo": mask / mask.sum()}
    found = {}
    for kind, weights in means.items():
        logps = tensors["logps"].clone().requires_grad_()
        ratio, advantages = (logps - tensors["old_logps"]).exp(), tensors["advantages"][:, None]
        gain = torch.min(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages)
        log_ratio = tensors["ref_logps"] - logps
        loss = ((BETA * (log_ratio.exp() - log_ratio - 1) - gain) * weights).sum()
        found |= {f"grpo.{kind}.loss": loss.detach(), f"grpo.{kind}.gradient": torch.autograd.grad(loss, logps)[0]}
    found["rloo.gradient"] = -tensors["advantages"][:, None] * mask / len(mask)
    found["grpo.advantages"] = (
        (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    ).flatten()
    others = (rewards.sum(1, keepdim=True) - rewards) / (GROUP - 1)
    return found | {"rloo.advantages": (rewards - others).flatten()}


def test_groups_agree_with_the_formulas_of_the_peer():
    assert largest(of_groups(given(), trl_groups(given()))) < 1e-5


@pytest.mark.parametrize("name", sorted(trl_groups(given())))
def test_a_disturbed_tensor_of_groups_is_found(name):
    peer = trl_groups(given())
    peer[name] = peer[name] + 1e-3
    assert largest(of_groups(given(), peer)) > 1e-4


def test_tensors_of_other_shapes_are_no_agreement():
    with pytest.raises(ValueError, match=r"rewards: ours has the shape \(2,\), the peer's \(3,\)"):
        Difference.between("rewards", torch.zeros(2), torch.zeros(3))


@pytest.mark.parametrize("ended", [False, True])
def test_an_update_takes_the_given_replies_in_the_given_order(ended, tmp_path):
    folder = fixed.write(tmp_path, ended=ended)
    rows = list(range(12))[::-1]
    collected, trained = fixed.update(folder, rows)
    lengths = collected.sequences.reply_lengths.tolist()
    assert lengths == ([row % 8 + 1 for row in rows] if ended else [8] * 12)
    again, _ = fixed.update(folder, rows[1:] + rows[:1])
    torch.testing.assert_close(again.logps.roll(1, 0), collected.logps, rtol=0, atol=1e-5)
    assert torch.isfinite(torch.cat([weight.flatten() for weight in trained.values()])).all()
