"""What shows that a training is in trouble, and what is done about it."""

import logging
import math

import pytest
import torch

from salsa.rl.guards import NAMES, Crossing, GuardError, act, crossings
from salsa.rl.settings import ACTIONS, Guard, GuardSettings
from salsa.training.loop import CHECKPOINT
from tests.rl.alignment import Rule, build, equal, metrics, run, weights

WELL = {"kl/reply_k1": 3.0, "reply/entropy": 0.5, "reply/length": 6.0, "reply/unfinished": 0.1, "policy/loss": -0.1}
CROSSED = {
    "kl": ("kl/reply_k1", 101.0, "kl/reply_k1 is 101, above 100"),
    "entropy": ("reply/entropy", 0.01, "reply/entropy is 0.01, below 0.02"),
    "short": ("reply/length", 1.25, "reply/length is 1.25, below 1.5"),
    "unfinished": ("reply/unfinished", 0.95, "reply/unfinished is 0.95, above 0.9"),
}
LIMITS = {"kl": -1.0, "entropy": 9.0, "short": 99.0, "unfinished": -1.0}
"""Limits that every training crosses."""


def _guards(name, action):
    return GuardSettings(**{name: Guard(LIMITS[name], action)})


class TestCrossings:
    """Which guards the figures of an iteration cross."""

    def test_a_training_that_is_well_crosses_none(self):
        assert crossings(WELL, GuardSettings()) == []
        assert crossings({}, GuardSettings()) == []

    @pytest.mark.parametrize("name", list(CROSSED))
    def test_each_says_what_is_wrong(self, name):
        metric, value, says = CROSSED[name]
        ((guard, action, text),) = crossings(WELL | {metric: value}, GuardSettings())
        assert (guard, action) == (name, "warn")
        assert text.startswith(says)
        assert ": " in text

    @pytest.mark.parametrize("name", list(CROSSED))
    def test_the_limit_itself_is_not_crossed(self, name):
        metric, _, _ = CROSSED[name]
        assert crossings(WELL | {metric: getattr(GuardSettings(), name).limit}, GuardSettings()) == []

    @pytest.mark.parametrize("name", list(CROSSED))
    def test_an_ignored_one_is_not_crossed(self, name):
        metric, value, _ = CROSSED[name]
        assert crossings(WELL | {metric: value}, _guards(name, "ignore")) == []

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("action", ["stop", "skip"])
    def test_what_is_not_finite_is_named(self, value, action):
        found = crossings(WELL | {"policy/loss": value, "reward/score": value}, GuardSettings(non_finite=action))
        ((guard, does, text),) = found
        assert (guard, does) == ("non_finite", action)
        assert f"policy/loss = {value}, reward/score = {value}" in text

    def test_the_remedy_is_where_the_first_broken_figure_is(self):
        ((_, _, of_reward),) = crossings(WELL | {"reward/score": math.nan}, GuardSettings())
        ((_, _, of_policy),) = crossings(WELL | {"reward/score": math.nan, "kl/reply_k1": math.nan}, GuardSettings())
        assert "terms of the reward" in of_reward
        assert "learning_rate" in of_policy

    def test_minibatches_that_were_skipped_count_although_their_figures_are_left_out(self):
        figures = WELL | {"policy/skipped_updates": 2.0, "critic/skipped_updates": 0.0}
        ((guard, _, text),) = crossings(figures, GuardSettings(non_finite="skip"))
        assert guard == "non_finite"
        assert "policy/skipped_updates = 2" in text
        assert "critic" not in text

    def test_several_at_once(self):
        figures = WELL | {"kl/reply_k1": math.nan} | {metric: value for metric, value, _ in CROSSED.values()}
        found = crossings(figures | {"reward/score": math.nan}, GuardSettings())
        assert [crossing.guard for crossing in found] == list(NAMES)


class TestActing:
    """Stop, skip, warn."""

    def test_a_stop_names_guard_and_iteration(self):
        with pytest.raises(GuardError, match="guard kl at iteration 7: too far"):
            act([Crossing("kl", "stop", "too far")], [], 7)

    def test_a_warning_is_written_once_and_a_skip_each_time(self, caplog):
        warn, skip = Crossing("kl", "warn", "too far"), Crossing("short", "skip", "too short")
        assert not act([warn], [warn], 0)
        assert not act([warn], [], 1)
        assert act([warn, skip], [skip], 2)
        assert act([skip], [], 3)
        assert [record.getMessage() for record in caplog.records] == [
            "guard kl at iteration 0: too far",
            "guard short at iteration 2: too short; its update is skipped",
            "guard short at iteration 3: too short; its update is skipped",
        ]

    def test_actions_unheard_of_are_refused(self):
        with pytest.raises(ValueError, match=f"action must be one of {', '.join(ACTIONS)}, got panic"):
            Guard(1.0, "panic")
        for action in ("warn", "ignore"):
            with pytest.raises(ValueError, match=f"non_finite must be stop or skip.*got {action}"):
                GuardSettings(non_finite=action)


class TestInTraining:
    """The guards at work."""

    @pytest.mark.parametrize("name", list(LIMITS))
    def test_a_warning_is_in_the_log_once_and_counted_in_the_metrics(self, name, tmp_path, caplog):
        free = run(build(steps=3), tmp_path / "free")
        warned = run(build(steps=3, guards=_guards(name, "warn")), tmp_path / "warned")
        written = [record for record in caplog.records if record.name == "salsa.rl.guards"]
        assert len(written) == 1
        assert written[0].levelno == logging.WARNING
        assert f"guard {name} at iteration 0" in written[0].getMessage()
        assert [line[f"guard/{name}"] for line in metrics(tmp_path / "warned")] == [1, 2, 3]
        assert not any("guard" in key for line in metrics(tmp_path / "free") for key in line)
        assert equal(weights(free), weights(warned))

    @pytest.mark.parametrize("name", list(LIMITS))
    def test_an_ignored_guard_leaves_no_mark(self, name, tmp_path, caplog):
        run(build(steps=2, guards=_guards(name, "ignore")), tmp_path)
        assert not any("guard" in key for line in metrics(tmp_path) for key in line)
        assert not [record for record in caplog.records if record.name == "salsa.rl.guards"]

    @pytest.mark.parametrize("name", list(LIMITS))
    def test_a_stop_ends_the_training_before_the_update(self, name, tmp_path):
        ppo = build(guards=_guards(name, "stop"))
        start = weights(ppo)
        with pytest.raises(GuardError, match=f"guard {name} at iteration 0"):
            run(ppo, tmp_path)
        assert equal(weights(ppo), start)
        assert not (tmp_path / CHECKPOINT).exists()
        (line,) = metrics(tmp_path)
        assert line[f"guard/{name}"] == 1
        assert "policy/loss" not in line

    @pytest.mark.parametrize("name", list(LIMITS))
    def test_a_skip_leaves_the_policy_as_it_is(self, name, tmp_path):
        ppo = build(steps=2, guards=_guards(name, "skip"))
        start = weights(ppo)
        run(ppo, tmp_path)
        assert equal(weights(ppo), start)
        assert [line[f"guard/{name}"] for line in metrics(tmp_path)] == [1, 2]

    def test_a_reward_that_is_not_a_number_stops_and_keeps_the_last_good_checkpoint(self, tmp_path):
        reference = build(steps=4)
        with pytest.raises(GuardError, match=r"guard non_finite at iteration 2: .*reward/score = nan.*of the reward"):
            run(_broken(build(steps=4), {2}), tmp_path / "broken")
        *good, last = metrics(tmp_path / "broken")
        assert [line["step"] for line in good] == [0, 1]
        assert last["step"] == 2
        assert last["reward/score"] is None
        assert last["reward/objective"] is None
        assert last["kl/reply_k1"] is not None
        assert last["guard/non_finite"] == 1
        assert torch.load(tmp_path / "broken" / CHECKPOINT)["salsa_completed_steps"] == 2
        # Once the reward is mended, the training goes on from there as if nothing had been.
        mended = run(build(steps=4), tmp_path / "broken")
        assert equal(weights(mended), weights(run(reference, tmp_path / "straight")))
        assert metrics(tmp_path / "broken") == metrics(tmp_path / "straight")

    def test_where_it_is_skipped_the_iteration_changes_nothing_and_the_next_ones_do(self, tmp_path, caplog):
        ppo = _broken(build(steps=4, guards=GuardSettings(non_finite="skip")), {1, 2})
        seen = {}
        step = ppo.training_step

        def training_step(iteration, batch_idx=0):
            before = weights(ppo)
            step(iteration, batch_idx)
            seen[iteration] = equal(before, weights(ppo))

        ppo.training_step = training_step
        run(ppo, tmp_path)
        assert seen == {0: False, 1: True, 2: True, 3: False}
        lines = metrics(tmp_path)
        assert [line["reward/score"] is None for line in lines] == [False, True, True, False]
        assert [line.get("guard/non_finite") for line in lines] == [None, 1, 2, 2]
        assert all(torch.isfinite(tensor).all() for tensor in weights(ppo).values())
        assert len([record for record in caplog.records if "its update is skipped" in record.getMessage()]) == 2

    def test_a_gradient_that_is_not_a_number_skips_its_minibatch(self, tmp_path, caplog):
        ppo = build(steps=2, epochs=1, guards=GuardSettings(non_finite="skip"))
        # The second minibatch of the first iteration; policy and critic go backward by turns.
        _spoil_gradients(ppo, {2})
        run(ppo, tmp_path)
        first, second = metrics(tmp_path)
        assert (first["policy/skipped_updates"], first["policy/updates"]) == (1, 2)
        assert (second["policy/skipped_updates"], second["policy/updates"]) == (0, 3)
        assert [first["guard/non_finite"], second["guard/non_finite"]] == [1, 1]
        assert first["policy/gradient_norm"] is not None
        assert all(torch.isfinite(tensor).all() for tensor in weights(ppo).values())
        assert "policy/skipped_updates = 1" in caplog.text

    def test_or_stops(self, tmp_path):
        ppo = build(epochs=1)
        # The last minibatch of the second iteration.
        _spoil_gradients(ppo, {10})
        with pytest.raises(GuardError, match="at iteration 1: policy/gradient_norm = nan"):
            run(ppo, tmp_path)
        checkpoint = torch.load(tmp_path / CHECKPOINT)
        assert checkpoint["salsa_completed_steps"] == 1
        assert all(torch.isfinite(tensor).all() for tensor in checkpoint["state_dict"].values())
        assert metrics(tmp_path)[-1]["policy/gradient_norm"] is None


def _broken(ppo, iterations):
    """Let a training's reward be no number in some iterations."""
    scorer = ppo.scorer

    def rule(sequences, ended):
        rewards = scorer.total(scorer.terms(sequences, ended), ended)
        return rewards * math.nan if ppo.completed in iterations and len(rewards) == 12 else rewards

    ppo.scorer = Rule(rule)
    ppo.scorer.to = scorer.to
    return ppo


def _spoil_gradients(ppo, passes):
    """Let the gradients of some backward passes (from 0) be no numbers, though the losses are."""
    count = 0

    def backward(loss):
        nonlocal count
        loss.backward()
        if count in passes:
            next(parameter for parameter in ppo.policy.parameters() if parameter.grad is not None).grad[0] = math.nan
        count += 1

    ppo._learner.backward = backward
