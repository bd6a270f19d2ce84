"""A training that is killed and resumed is the training that was not, whatever it carries along."""

import copy

import pytest
import torch

from salsa.rl.references import FrozenReference, MixtureReference, MovingReference
from salsa.rl.settings import Guard, GuardSettings
from salsa.rl.trace import Trace
from salsa.training.loop import CHECKPOINT
from tests.rl.alignment import ALGORITHMS, KilledError, build, equal, kill_after, metrics, run
from tests.rl.tiny import causal, texts


def _moving(rate, every=1):
    return lambda: MovingReference(causal(), "moving", rate=rate, every=every)


def _mixture():
    return MixtureReference([(0.5, FrozenReference(causal(seed=1), "other")), (0.5, _moving(0.3)())])


CROSSED = GuardSettings(kl=Guard(0.5, "warn"), short=Guard(99.0, "warn"), unfinished=Guard(0.25, "skip"))
ARMS = {
    "ppo": ({}, None),
    "adaptive": ({"kl_target": 0.5, "kl_horizon": 40}, None),
    "ema": ({}, _moving(0.2)),
    "sync": ({}, _moving(0.6, every=2)),
    "mixture": ({}, _mixture),
    "trunk": ({"critic": "trunk"}, None),
    "grpo": (ALGORITHMS["grpo"], lambda: FrozenReference(causal(seed=1), "other")),
    "guards": ({"guards": CROSSED, "learning_rate": 1e-2}, None),
}
CASES = [("ppo", "_learn"), *((name, "_trace") for name in ARMS)]
"""What the training carries, and after which of its parts it is killed in the fourth iteration.

After `_learn` the update is made and nothing is written; after `_trace` the trace file and the best weights are there,
and the checkpoint and the line of metrics are not.
"""


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case).replace("_", ""))
def folders(request, tmp_path_factory):
    """Return what a training has left that was not killed, and one that was killed with a checkpoint of step 3."""
    name, part = request.param
    changes, reference = ARMS[name]
    straight, resumed = tmp_path_factory.mktemp("straight"), tmp_path_factory.mktemp("resumed")

    def make(folder):
        trace = Trace(folder / "trace", texts(9, 5), folder / "best.safetensors")
        return build(reference=reference and reference(), steps=6, trace=trace, **changes)

    run(make(straight), straight, checkpoint_steps=3)
    killed = make(resumed)
    kill_after(killed, part, 3)
    with pytest.raises(KilledError):
        run(killed, resumed, checkpoint_steps=3)
    assert torch.load(resumed / CHECKPOINT)["salsa_completed_steps"] == 3
    assert (resumed / "trace" / "step_00004.safetensors").exists() == (part == "_trace")
    run(make(resumed), resumed, checkpoint_steps=3)
    return name, straight, resumed


def _checkpoints(folders):
    return [torch.load(folder / CHECKPOINT) for folder in folders[1:]]


def test_weights_and_optimisers_are_equal_bit_for_bit(folders):
    straight, resumed = _checkpoints(folders)
    assert equal(straight["state_dict"], resumed["state_dict"])
    assert len(straight["optimizer_states"]) == (2 if folders[0] not in ("trunk", "grpo") else 1)
    for one, other in zip(straight["optimizer_states"], resumed["optimizer_states"], strict=True):
        assert one["param_groups"] == other["param_groups"]
        for number, state in one["state"].items():
            assert equal(state, other["state"][number])


def test_metrics_and_traces_are_equal(folders):
    _, straight, resumed = folders
    assert [line["step"] for line in metrics(straight)] == list(range(6))
    assert metrics(straight) == metrics(resumed)
    names = sorted(path.name for path in (straight / "trace").iterdir())
    assert names == [f"step_0000{step}.safetensors" for step in (0, 2, 4, 6)]
    assert names == sorted(path.name for path in (resumed / "trace").iterdir())
    for name in names:
        assert (straight / "trace" / name).read_bytes() == (resumed / "trace" / name).read_bytes()


def test_what_is_carried_beside_the_weights_is_equal(folders):
    straight, resumed = (checkpoint["salsa_alignment"] for checkpoint in _checkpoints(folders))
    assert straight.keys() == {"kl_coef", "reference_identity", "reference", "best", "guards"}
    assert equal(straight["reference"], resumed["reference"])
    for name in ("kl_coef", "reference_identity", "best", "guards"):
        assert straight[name] == resumed[name]


def test_it_carries_what_it_is_named_for(folders):
    """So that the equalities above are not those of nothing."""
    name, straight, _ = folders
    carried, lines = _checkpoints(folders)[0]["salsa_alignment"], metrics(straight)
    moving = {"ema", "sync", "mixture"}
    assert bool(carried["reference"]) == (name in moving)
    assert (carried["kl_coef"] != 0.1) == (name == "adaptive")
    assert (len({line["kl/coefficient"] for line in lines}) > 3) == (name == "adaptive")
    if name in moving:
        start = dict(causal().named_parameters())
        key = next(key for key in carried["reference"] if key.endswith("embed_tokens.weight"))
        assert not torch.equal(carried["reference"][key], start["model.embed_tokens.weight"])
    if name == "guards":
        counts = carried["guards"]
        assert 0 < counts["unfinished"] < 6
        assert counts["short"] == lines[-1]["guard/short"] == 6
        assert {line.get("policy/updates") for line in lines} == {6.0, None}
    names = {key.split(".")[0] for key in _checkpoints(folders)[0]["state_dict"]}
    assert names == ({"policy"} if name == "grpo" else {"policy", "critic"})


def test_the_best_policy_is_equal(folders):
    _, straight, resumed = folders
    assert (straight / "best.safetensors").read_bytes() == (resumed / "best.safetensors").read_bytes()
    best = _checkpoints(folders)[1]["salsa_alignment"]["best"]
    objectives = {
        line["step"] + 1: line["validation/objective"] for line in metrics(resumed) if "validation/kl" in line
    }
    assert objectives.keys() == {2, 4, 6}
    assert best == {"step": max(objectives, key=objectives.get), "objective": max(objectives.values())}


def test_a_finished_training_gives_back_what_it_carried(folders, tmp_path):
    name, straight, _ = folders
    changes, reference = ARMS[name]
    trace = Trace(straight / "trace", texts(9, 5), straight / "best.safetensors")
    again = build(reference=reference and reference(), steps=6, trace=trace, **changes)
    before = metrics(straight)
    run(again, straight, checkpoint_steps=3)
    carried = copy.deepcopy(_checkpoints(folders)[0]["salsa_alignment"])
    assert metrics(straight) == before
    assert again.kl_coef == carried["kl_coef"]
    assert again.guard_counts == carried["guards"]
    assert equal(again.reference.state(), carried["reference"])
    assert (again.tracer.best_step, again.tracer.best_objective) == tuple(carried["best"].values())


def test_a_checkpoint_is_refused_by_a_training_with_another_reference(tmp_path):
    run(build(reference=_moving(0.3)(), steps=1), tmp_path)
    with pytest.raises(ValueError, match=r"belongs to a training with the reference .*, this one has"):
        run(build(steps=2), tmp_path)


def test_what_a_moving_reference_has_left_is_refused_by_a_frozen_one():
    with pytest.raises(ValueError, match="holds a moving reference, but this training has a frozen one"):
        FrozenReference(causal(), "sft_1").load_state(_moving(0.3)().state())
