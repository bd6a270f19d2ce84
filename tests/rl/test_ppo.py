"""What an iteration of a training does, on small models."""

import copy

import pytest
import torch

from salsa.models.sequences import pack, reply_mask
from salsa.rl.ppo import PPO, PPOSettings
from salsa.rl.references import FrozenReference
from salsa.rl.rewards import usual_reward
from salsa.rl.trace import Trace, read_trace
from tests.rl.alignment import ALGORITHMS, SETTINGS, Rule, build, equal, metrics, run, weights
from tests.rl.tiny import EOS, FAMILIES, PAD, causal, in_float64, scalar, texts


def test_only_policy_and_critic_change(tmp_path):
    reward_model = scalar(seed=7)
    ppo = build(scorer=usual_reward(reward_model, 0.1, 0.3, -1.0))
    frozen = {"reference": ppo.reference.model, "reward": reward_model}
    before = {name: copy.deepcopy(model.state_dict()) for name, model in frozen.items()}
    start = weights(ppo)
    run(ppo, tmp_path)
    for name, model in frozen.items():
        assert equal(model.state_dict(), before[name])
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    changed = {name.split(".")[0] for name, tensor in ppo.state_dict().items() if not torch.equal(tensor, start[name])}
    assert changed == {"policy", "critic"}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_minibatch_meets_the_policy_that_replied(family, tmp_path):
    # One minibatch and one epoch: every update of the iteration is the first.
    run(build(policy=causal(family), minibatches=1, epochs=1), tmp_path)
    for line in metrics(tmp_path):
        assert line["policy/first_ratio_deviation"] == line["policy/ratio_deviation"] < 1e-5
        assert line["policy/clip_fraction"] == 0
        assert abs(line["policy/approx_kl"]) < 1e-9
        # Minus the mean of whitened advantages.
        assert abs(line["policy/loss"]) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_of_replying_and_of_learning_agree(family, tmp_path):
    """Of the first minibatch, which the policy that replied meets; longer replies than the Mistral's window."""
    run(build(policy=causal(family), steps=2, max_new_tokens=14), tmp_path / "32")
    run(build(policy=causal(family), steps=2, max_new_tokens=14), tmp_path / "16", precision="bf16-mixed")
    for exact, rounded in zip(metrics(tmp_path / "32"), metrics(tmp_path / "16"), strict=True):
        assert exact["policy/first_ratio_deviation"] < 1e-5
        assert 1e-5 < rounded["policy/first_ratio_deviation"] < 0.05
        assert rounded["policy/ratio_deviation"] > rounded["policy/first_ratio_deviation"]
        assert exact["reply/length"] > 6


def test_metrics_of_an_iteration_are_what_they_say():
    ppo = build(reference=causal(seed=1))
    experience, figures = ppo.collect(0)
    sequences, mask = experience.sequences, reply_mask(experience.sequences)
    ((_, reference),) = ppo.reference.token_logps(sequences, 1.0)
    ended = sequences.ids.gather(1, (sequences.prompt_lengths + sequences.reply_lengths - 1)[:, None])[:, 0] == EOS
    ratio = (experience.logps - reference)[mask]
    wanted = {
        "reward/score": ppo.scorer.rewards(sequences, ended).mean(),
        "kl/reply_k1": ratio.sum() / len(mask),
        "kl/token_k1": ratio.mean(),
        "kl/token_k3": (torch.exp(-ratio) - 1 + ratio).mean(),
        "kl/reply_k3": (torch.exp(-ratio) - 1 + ratio).sum() / len(mask),
        "reply/length": mask.sum() / len(mask),
        "reply/unfinished": 1 - ended.float().mean(),
    }
    for name, value in wanted.items():
        assert figures[name].item() == pytest.approx(value.item(), rel=1e-5, abs=1e-7), name
    objective = wanted["reward/score"] - 0.1 * wanted["kl/reply_k1"]
    assert figures["reward/objective"].item() == pytest.approx(objective.item(), rel=1e-5)
    assert experience.advantages[mask].mean().item() == pytest.approx(0, abs=1e-6)


@torch.no_grad()
def test_kl_before_the_first_step_is_that_of_the_start_to_the_reference():
    """An independent estimate: the library's own sampling, and whole logits of one reply at a time."""
    start, soup = causal(seed=0), causal(seed=0)
    for parameter, other in zip(soup.parameters(), causal(seed=1).parameters(), strict=True):
        parameter.lerp_(other, 0.5)
    prompt, count, longest = [1, 7, 5], 1500, 6
    ppo = build(policy=start, reference=soup, batch_prompts=count, prompts=[prompt] * count, max_new_tokens=longest)
    experience, figures = ppo.collect(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ids = start.generate(
            torch.tensor([prompt] * count), do_sample=True, top_k=0, max_new_tokens=longest, pad_token_id=PAD
        )
    tokens = ids[:, len(prompt) :]
    counted = (tokens == EOS).cumsum(1) - (tokens == EOS).long() == 0
    logps = [
        model(ids).logits[:, len(prompt) - 1 : -1].log_softmax(-1).gather(2, tokens[..., None])[..., 0]
        for model in (start, soup)
    ]
    independent = torch.where(counted, logps[0] - logps[1], 0.0).sum(1)
    ((_, reference),) = ppo.reference.token_logps(experience.sequences, 1.0)
    ours = (experience.logps - reference).sum(1)
    error = ((independent.var() + ours.var()) / count).sqrt().item()
    assert figures["kl/reply_k1"].item() == pytest.approx(independent.mean().item(), abs=3 * error)
    assert figures["kl/reply_k1"].item() > 10 * error
    assert figures["kl/reply_k3"].item() == pytest.approx(figures["kl/reply_k1"].item(), abs=3 * error)


def test_prompts_and_noise_belong_to_the_iteration_and_the_seed():
    one, other = build(), build(seed=6)
    first, again = one.collect(3)[0], one.collect(3)[0]
    assert torch.equal(first.sequences.ids, again.sequences.ids)
    assert not torch.equal(first.sequences.ids, one.collect(2)[0].sequences.ids)
    assert not torch.equal(first.sequences.prompt_lengths, other.collect(3)[0].sequences.prompt_lengths)


def test_dropout_is_off(tmp_path):
    start = causal(attention_dropout=0.5)
    start.train()
    run(build(policy=start, steps=1, epochs=1, minibatches=1), tmp_path)
    assert metrics(tmp_path)[0]["policy/first_ratio_deviation"] < 1e-5


def test_learning_rates_climb_then_fall(tmp_path):
    run(build(steps=6, warmup_steps=2, critic_learning_rate=6e-3), tmp_path)
    rates = [line["policy/learning_rate"] for line in metrics(tmp_path)]
    assert rates == pytest.approx([1e-3, 2e-3, 3e-3, 2.325e-3, 1.65e-3, 0.975e-3])
    assert [line["critic/learning_rate"] for line in metrics(tmp_path)] == pytest.approx([2 * rate for rate in rates])


def test_the_last_trace_is_the_trained_policy(tmp_path):
    prompts = texts(9, 5)
    ppo = run(build(steps=3, trace=Trace(tmp_path, prompts)), tmp_path)
    assert sorted(path.name for path in tmp_path.glob("step_*")) == [
        f"step_0000{step}.safetensors" for step in (0, 2, 3)
    ]
    first, last = (read_trace(tmp_path / f"step_0000{step}.safetensors") for step in (0, 3))
    rollout = ppo._generate(prompts, 1.0, ppo._generator("trace", 0))
    assert torch.equal(last.sequences.ids, rollout.sequences.ids)
    assert torch.equal(first.sequences.prompt_lengths, last.sequences.prompt_lengths)
    assert not torch.equal(first.logps, last.logps)


def test_reward_rises_and_the_price_holds_the_policy_back(tmp_path):
    changes = {"steps": 10, "batch_prompts": 32, "learning_rate": 1e-2}
    for name, kl_coef in (("free", 0.0), ("held", 5.0)):
        run(build(kl_coef=kl_coef, **changes), tmp_path / name, checkpoint_steps=None)
    free, held = metrics(tmp_path / "free"), metrics(tmp_path / "held")
    assert free[-1]["reward/score"] > free[0]["reward/score"] + 0.5
    assert held[-1]["kl/reply_k1"] < 0.2 * free[-1]["kl/reply_k1"]


def test_the_critic_learns_what_can_be_foreseen(tmp_path):
    changes = {"learning_rate": 1e-9, "critic_learning_rate": 1e-2, "value_clip": 10.0, "kl_coef": 0.0}
    # The reward follows from the prompt.
    scorer = Rule(lambda sequences, ended: (sequences.ids[:, 1] % 2).float())
    changes |= {"steps": 10, "batch_prompts": 32, "max_new_tokens": 4}
    ppo = build(prompts=[[1, word] for word in range(3, 19)], scorer=scorer, **changes)
    run(ppo, tmp_path, checkpoint_steps=None)
    explained = [line["critic/explained_variance"] for line in metrics(tmp_path)]
    assert explained[0] < 0.2
    assert explained[-1] > 0.8


def test_a_reference_that_is_the_policy_itself_is_refused():
    model = causal()
    with pytest.raises(ValueError, match="no parameter of the policy may learn"):
        PPO(
            PPOSettings(**SETTINGS),
            policy=model,
            critic=scalar(),
            reference=FrozenReference(model, "same"),
            scorer=usual_reward(scalar(), 0.0, 1.0, -1.0),
            prompts=texts(0, 3),
            eos=EOS,
            pad=PAD,
        )


def test_prompts_are_needed():
    ppo = build()
    with pytest.raises(ValueError, match="needs prompts"):
        PPO(
            ppo.settings,
            policy=ppo.policy,
            critic=ppo.critic,
            reference=ppo.reference,
            scorer=ppo.scorer,
            prompts=[],
            eos=EOS,
            pad=PAD,
        )


def test_values_are_read_before_each_token_and_rewards_after():
    """The whole way from replies to advantages, by the formulas, for one reply at a time."""
    ppo = build(reference=causal(seed=1), models=in_float64, gamma=0.9, lam=0.7)
    experience, _ = ppo.collect(0)
    sequences = experience.sequences
    advantages = []
    for row in range(len(sequences.ids)):
        begin, length = int(sequences.prompt_lengths[row]), int(sequences.reply_lengths[row])
        ids = sequences.ids[row : row + 1, : begin + length]
        alone = pack([ids[0, :begin].tolist()], [ids[0, begin:].tolist()], PAD)
        with torch.no_grad():
            states = ppo.critic.score(ppo.critic.model(ids).last_hidden_state)[0, begin - 1 : -1, 0].tolist()
            logits = [model(ids).logits[0, begin - 1 : -1] for model in (ppo.policy, ppo.reference.model)]
        own, reference = (x.log_softmax(-1).gather(1, ids[0, begin:, None])[:, 0].tolist() for x in logits)
        rewards = [-0.1 * (one - other) for one, other in zip(own, reference, strict=True)]
        rewards[-1] += ppo.scorer.rewards(alone, ids[:, -1] == EOS).item()
        running, row_advantages = 0.0, []
        for step in reversed(range(length)):
            following = states[step + 1] if step + 1 < length else 0.0
            running = rewards[step] + 0.9 * following - states[step] + 0.9 * 0.7 * running
            row_advantages.insert(0, running)
            assert experience.returns[row, step].item() == pytest.approx(running + states[step], abs=1e-9)
        advantages += row_advantages
    flat = torch.tensor(advantages, dtype=torch.float64)
    wanted = (flat - flat.mean()) / flat.std(correction=0)
    found = experience.advantages[reply_mask(sequences)]
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"credit": "returns"}, "credit returns with critic reward takes no separate critic"),
        ({"critic": "trunk"}, "credit gae with critic trunk takes no separate critic"),
    ],
)
def test_a_critic_that_nobody_asks_is_refused(changes, message):
    ppo = build(**changes)
    arguments = {"policy": causal(), "reference": ppo.reference, "scorer": ppo.scorer, "prompts": texts(0, 3)}
    with pytest.raises(ValueError, match=message):
        PPO(ppo.settings, critic=scalar(), eos=EOS, pad=PAD, **arguments)


def test_a_critic_that_is_missed_is_named():
    ppo = build()
    arguments = {"policy": causal(), "reference": ppo.reference, "scorer": ppo.scorer, "prompts": texts(0, 3)}
    with pytest.raises(ValueError, match="credit gae with critic reward needs separate critic"):
        PPO(ppo.settings, critic=None, eos=EOS, pad=PAD, **arguments)


class TestAdaptiveCoefficient:
    """Ziegler et al.: the coefficient moves by the error of the KL, clipped to a fifth, times episodes / horizon."""

    @pytest.mark.parametrize(
        ("divergence", "error"),
        [(4.0, 0.2), (40.0, 0.2), (2.2, 0.1), (2.0, 0.0), (1.9, -0.05), (0.5, -0.2), (-3.0, -0.2), (float("nan"), 0.0)],
    )
    def test_one_turn(self, divergence, error):
        ppo = build(kl_target=2.0, kl_horizon=100)
        ppo._adapt(divergence)
        assert ppo.kl_coef == pytest.approx(0.1 * (1 + error * 12 / 100))

    def test_a_fixed_one_stays(self):
        ppo = build()
        ppo._adapt(1e6)
        assert ppo.kl_coef == 0.1

    def test_episodes_are_replies_not_prompts(self):
        ppo = build(kl_target=2.0, kl_horizon=100, **ALGORITHMS["grpo"])
        ppo._adapt(4.0)
        assert ppo.settings.episodes == 12
        assert ppo.kl_coef == pytest.approx(0.1 * (1 + 0.2 * 12 / 100))

    @pytest.mark.parametrize("name", ["ppo", "grpo"])
    def test_each_iteration_is_charged_what_the_one_before_led_to(self, name, tmp_path):
        changes = {"kl_target": 0.7, "kl_horizon": 30, "learning_rate": 1e-2}
        ppo = build(reference=causal(seed=1), **ALGORITHMS[name] | changes)
        run(ppo, tmp_path)
        expected = 0.1
        for line in metrics(tmp_path):
            assert line["kl/coefficient"] == pytest.approx(expected)
            objective = line["reward/score"] - expected * line["kl/reply_k1"]
            assert line["reward/objective"] == pytest.approx(objective, rel=1e-4)
            error = min(max(line["kl/reply_k1"] / 0.7 - 1, -0.2), 0.2)
            expected *= 1 + error * 12 / 30
        assert ppo.kl_coef == pytest.approx(expected)
        assert ppo.kl_coef > 0.12

    @pytest.mark.parametrize("name", ["ppo", "grpo"])
    def test_rewards_and_losses_are_priced_with_it(self, name, tmp_path):
        """One that has moved to a value does what one that was set to it does."""
        changes = {"reference": causal(seed=1), "steps": 1} | ALGORITHMS[name]
        moved = build(**changes)
        moved.kl_coef = 0.5
        as_set = build(kl_coef=0.5, **changes)
        assert equal(weights(run(moved, tmp_path / "moved")), weights(run(as_set, tmp_path / "set")))
