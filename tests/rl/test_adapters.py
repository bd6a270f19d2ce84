"""PPO whose policy, critic, reference and reward model are adapters over one base in memory."""

import copy

import pytest
import torch

from salsa.models.adapters import SharedBase, merge
from salsa.models.heads import critic_from_reward, head_weight, reward_from_causal
from salsa.models.lora import LINEAR_LAYERS
from salsa.rl.ppo import PPO, PPOSettings
from salsa.rl.references import FrozenReference, MovingReference
from salsa.rl.rewards import usual_reward
from salsa.rl.trace import Trace, load_best
from salsa.soup.adapters import soup_of
from salsa.training.loop import CHECKPOINT
from tests.models.adapted import adapted
from tests.rl.alignment import SETTINGS, KilledError, equal, kill_after, metrics, run, weights
from tests.rl.tiny import EOS, FAMILIES, PAD, causal, texts

HEAD = 11


def ingredients(family="llama"):
    """Return two SFT models and a reward model as adapters by themselves, of different ranks."""
    shared = SharedBase(causal(family))
    shapes = {"one": (1, 3), "two": (2, 2), "reward": (3, 4)}
    views = {name: adapted(shared, name, seed, rank=rank) for name, (seed, rank) in shapes.items()}
    views["reward"].give_head(head_weight(32, HEAD))
    return {name: copy.deepcopy(view.adapter()) for name, view in views.items()}


def parts(family, reference):
    """Return policy, critic, reference and reward model over one base, and the base."""
    adapters = ingredients(family)
    shared = SharedBase(causal(family))
    policy = shared.load("policy", adapters["one"])
    reward = shared.load("reward", adapters["reward"])
    critic = reward.copy("critic").give_head(torch.zeros(1, 32))
    references = {
        "sft": lambda: shared.load("reference", adapters["one"]),
        "soup": lambda: shared.load("reference", soup_of([adapters["one"], adapters["two"]], [0.4, 0.6])),
        "base": shared.bare,
    }
    return shared, policy, critic, references[reference](), reward


def full_parts(family, reference):
    """Return the same as full models: adapters merged, and their soup as the average of the merged models."""
    adapters = ingredients(family)
    one, two = (merge(causal(family), adapters[name], name).eval() for name in ("one", "two"))
    soup = copy.deepcopy(one)
    with torch.no_grad():
        for parameter, other in zip(soup.parameters(), two.parameters(), strict=True):
            parameter.mul_(0.4).add_(other, alpha=0.6)
    reward = reward_from_causal(merge(causal(family), adapters["reward"], "reward"), HEAD)
    references = {"sft": copy.deepcopy(one), "soup": soup, "base": causal(family)}
    return one, critic_from_reward(reward), references[reference], reward


def ppo(policy, value_model, reference, reward, trace=None, **changes):
    settings = PPOSettings(**SETTINGS | changes)
    if not hasattr(reference, "token_logps"):
        reference = FrozenReference(reference, "reference")
    return PPO(
        settings,
        policy=policy,
        critic=value_model if settings.credit == "gae" and settings.critic != "trunk" else None,
        reference=reference,
        scorer=usual_reward(reward, mean=0.1, std=0.3, missing_end_score=-1.0),
        prompts=texts(0, 30),
        eos=EOS,
        pad=PAD,
        trace=trace,
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reference", ["sft", "soup", "base"])
def test_the_first_iteration_is_that_of_the_full_models(family, reference, tmp_path):
    _, *shared = parts(family, reference)
    once = {"steps": 1, "epochs": 1, "minibatches": 1}
    over_base, full = ppo(*shared, **once), ppo(*full_parts(family, reference), **once)
    (found, _), (expected, _) = over_base.collect(0), full.collect(0)
    assert torch.equal(found.sequences.ids, expected.sequences.ids)
    for one, other in (
        (found.logps, expected.logps),
        (found.values, expected.values),
        (found.returns, expected.returns),
        (found.references[0][1], expected.references[0][1]),
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    run(over_base, tmp_path / "adapters")
    run(full, tmp_path / "full")
    (line,), (wanted,) = metrics(tmp_path / "adapters"), metrics(tmp_path / "full")
    assert line.keys() == wanted.keys()
    for name in line.keys() - {"policy/gradient_norm", "critic/gradient_norm"}:
        assert line[name] == pytest.approx(wanted[name], abs=1e-5, rel=1e-5), name


@pytest.mark.parametrize("changes", [{}, {"critic": "trunk"}, {"credit": "returns"}])
def test_only_the_adapters_of_policy_and_critic_change(tmp_path, changes):
    shared, policy, critic, reference, reward = parts("llama", "soup")
    ours = {id(parameter) for view in (policy, critic) for parameter in view.parameters()}
    frozen = {name: parameter for name, parameter in shared.model.named_parameters() if id(parameter) not in ours}
    before = {name: parameter.clone() for name, parameter in frozen.items()}
    head = reward.score.weight.clone()
    module = ppo(policy, critic, reference, reward, **changes)
    start = weights(module)
    run(module, tmp_path)
    assert equal(before, frozen)
    assert torch.equal(reward.score.weight, head)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in frozen.values())
    end = module.state_dict()
    assert all(not torch.equal(end[name], start[name]) for name in start)


def test_checkpoints_hold_the_adapters_of_policy_and_critic_only(tmp_path):
    shared, *rest = parts("llama", "soup")
    run(ppo(*rest, steps=1), tmp_path)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)["state_dict"]
    assert len(state) == 2 * (2 * len(LINEAR_LAYERS) * 2) + 1
    assert {name.split(".")[0] for name in state} == {"policy", "critic"}
    assert sum(tensor.numel() for tensor in state.values()) < shared.model.num_parameters()


def test_a_killed_training_resumes_bit_for_bit(tmp_path):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"

    def build(folder):
        trace = Trace(folder / "trace", texts(9, 5), folder / "best.safetensors")
        return ppo(*parts("llama", "soup")[1:], trace=trace, steps=5)

    run(build(straight), straight, checkpoint_steps=3)
    killed = build(resumed)
    kill_after(killed, "collect", 4)
    with pytest.raises(KilledError):
        run(killed, resumed, checkpoint_steps=3)
    run(build(resumed), resumed, checkpoint_steps=3)
    one, other = (torch.load(folder / CHECKPOINT, weights_only=True) for folder in (straight, resumed))
    assert equal(one["state_dict"], other["state_dict"])
    assert metrics(straight) == metrics(resumed)
    assert (straight / "best.safetensors").read_bytes() == (resumed / "best.safetensors").read_bytes()


def test_the_best_policy_comes_back(tmp_path):
    _, policy, *rest = parts("llama", "sft")
    module = run(ppo(policy, *rest, trace=Trace(tmp_path, texts(9, 5), tmp_path / "best.safetensors")), tmp_path)
    kept = {name: parameter.clone() for name, parameter in policy.named_parameters()}
    load_best(tmp_path / "best.safetensors", policy)
    same = all(torch.equal(kept[name], parameter) for name, parameter in policy.named_parameters())
    assert same == (module.tracer.best_step == module.settings.steps)


def test_a_reference_may_be_synchronised_with_the_policy(tmp_path):
    _, policy, critic, _, reward = parts("llama", "base")
    reference = MovingReference(policy.copy("reference"), "moving", rate=1.0, every=2)
    run(ppo(policy, critic, reference, reward, steps=4), tmp_path)
    for one, other in zip(reference.model.parameters(), policy.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one is not other
    divergences = [line["kl/token_k3"] for line in metrics(tmp_path)]
    assert divergences[0] < 1e-6
    assert divergences[1] > 1e-6
    assert divergences[2] < 1e-6
