"""The stages `soup`, `point` and `landscape` by themselves, on small models."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.stages import landscape, point, soup
from salsa.data.chat import encode_conversation
from salsa.models.families import load_causal, load_tokenizer
from salsa.training.language import collate
from tests.pipelines.compose import experiment
from tests.pipelines.stage_work import language_model, planned, reward_model, work

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base and three ingredients near it."""
    folder = tmp_path_factory.mktemp("models")
    base = language_model(folder / "base", 0)
    ingredients = [near(base, folder / str(seed), seed) for seed in range(1, 4)]
    return [base, *ingredients]


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reward_model(tmp_path_factory.mktemp("reward"), 7)


def near(base: Path, folder: Path, seed: int) -> Path:
    shutil.copytree(base, folder)
    generator = torch.Generator().manual_seed(seed)
    tensors = weights_of(base)
    moved = {name: value + 0.1 * torch.randn(value.shape, generator=generator) for name, value in tensors.items()}
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def weights_of(folder: Path) -> Weights:
    return load_file(folder / "model.safetensors")


def made(tmp_path: Path, models: list[Path], *overrides: str, **more: Path) -> tuple[Path, str, dict[str, Any]]:
    """Run the soup stage of an experiment; return the soup's folder, what it says and its metrics."""
    stage = planned("soup", *overrides)
    roles = [role for role in stage.inputs if role.startswith("ingredient_")]
    inputs = {role: models[int(role.removeprefix("ingredient_"))] for role in roles}
    done = work(stage, inputs | {"base": models[0]} | more, tmp_path)
    says, metrics = soup.run(done)
    return done.folder, says, metrics


def assert_close(folder: Path, expected: Weights) -> None:
    for name, value in weights_of(folder).items():
        torch.testing.assert_close(value, expected[name])


def combined(models: list[Path], *scales: float) -> Weights:
    tensors = [weights_of(model) for model in models]
    return {name: sum(s * t[name] for s, t in zip(scales, tensors, strict=True)) for name in tensors[0]}  # type: ignore[misc]


def test_task_arithmetic_adds_scaled_task_vectors(models: list[Path], tmp_path: Path) -> None:
    folder, says, _ = made(tmp_path, models, "soup=task_arithmetic", "soup.scales=[.5,.75,.25]")
    assert_close(folder, combined(models, -0.5, 0.5, 0.75, 0.25))
    assert says.startswith("0.5 SFT1 + 0.75 SFT2 + 0.25 SFT3 - 0.5 base")


def test_liti_goes_part_of_the_way_from_the_base(models: list[Path], tmp_path: Path) -> None:
    folder, *_ = made(tmp_path, models, "soup=liti", "soup.merge=uniform", "soup.eta=.4")
    assert_close(folder, combined(models[:3], 0.6, 0.2, 0.2))


def test_slerp_goes_from_one_ingredient_to_the_other(models: list[Path], tmp_path: Path) -> None:
    for index, share in ((1, 1e-9), (2, 1 - 1e-9)):
        folder, *_ = made(tmp_path / str(share), models, "soup=slerp", f"soup.share={share}")
        assert_close(folder, weights_of(models[index]))


def test_slerp_keeps_the_length_that_the_line_loses(models: list[Path], tmp_path: Path) -> None:
    """The ingredients' task vectors are nearly orthogonal and of one length, tensor by tensor."""
    base = weights_of(models[0])
    arc, line = (made(tmp_path / name, models, *overrides)[0] for name, overrides in LENGTHS.items())
    for name in (name for name, value in base.items() if value.numel() > 500):
        length = float((weights_of(models[1])[name] - base[name]).norm())
        assert float((weights_of(arc)[name] - base[name]).norm()) == pytest.approx(length, rel=0.1)
        assert float((weights_of(line)[name] - base[name]).norm()) == pytest.approx(length / 2**0.5, rel=0.1)


LENGTHS = {"arc": ("soup=slerp",), "line": ("soup=line",)}


def test_a_soup_names_the_models_that_it_is_made_of(models: list[Path], tmp_path: Path) -> None:
    folder, says, _ = made(tmp_path, models, "soup=weighted", "soup.weights=[.5,0,.5]")
    assert says.startswith("0.5 SFT1 + 0.5 SFT3; ")
    assert_close(folder, combined([models[1], models[3]], 0.5, 0.5))


def test_a_weighted_soup_of_any_sum_is_made_where_it_is_asked_for(models: list[Path], tmp_path: Path) -> None:
    folder, *_ = made(tmp_path, models, "soup=weighted", "soup.weights=[.5,1]", "soup.any_sum=true")
    assert_close(folder, combined(models[1:3], 0.5, 1.0))


def loss_of(folder: Path, done: Any, count: int) -> float:
    """The mean over all learned tokens of held-out demonstrations, one conversation at a time."""
    tokenizer, model = load_tokenizer(folder), load_causal(folder)
    found = done.source.heldout_demonstrations(count)
    total, tokens = 0.0, 0
    for row in encode_conversation(tokenizer, [conversation for conversation, _ in found], "assistant"):
        batch = collate([row])
        with torch.no_grad():
            logits = model(torch.tensor([row[0]])).logits[0].float().log_softmax(-1)
        places = [place for place, learned in enumerate(row[1]) if learned and place]
        total -= sum(float(logits[place - 1, row[0][place]]) for place in places)
        tokens += len(batch.targets)
    return total / tokens


def test_a_greedy_soup_by_loss_takes_what_lowers_it_and_reports_each_decision(
    models: list[Path], tmp_path: Path
) -> None:
    folder, says, metrics = made(tmp_path, models, "soup=greedy", "soup.prompts=8")
    selection = json.loads((folder / soup.SELECTION).read_text())
    done = work(planned("soup", "soup=greedy"), {}, tmp_path / "other")
    alone = [loss_of(model, done, 8) for model in models[1:]]
    assert selection["alone"] == pytest.approx(alone, abs=1e-4)
    assert selection["order"] == sorted(range(3), key=alone.__getitem__)
    assert metrics["loss"] == pytest.approx(loss_of(folder, done, 8), abs=1e-4)
    assert metrics["loss"] <= min(selection["alone"])
    assert_close(folder, combined(models[1:], *metrics["weights"]))
    taken = [decision for decision in selection["decisions"] if decision["taken"]]
    assert [weight for weight in metrics["weights"] if weight] == [1 / len(taken)] * len(taken)
    assert all(decision["score"] < decision["best"] for decision in taken[1:])
    assert soup.told(selection) in says


def test_a_greedy_soup_by_reward_takes_what_raises_it(models: list[Path], reward: Path, tmp_path: Path) -> None:
    overrides = ("soup=greedy", "soup.by=reward", "soup.prompts=6", "generation.max_new_tokens=6")
    folder, says, metrics = made(tmp_path, models, *overrides, reward=reward)
    selection = json.loads((folder / soup.SELECTION).read_text())
    assert selection["order"][0] == int(np.argmax(selection["alone"]))
    assert metrics["reward"] >= max(selection["alone"])
    assert all(d["taken"] == (d["score"] > d["best"]) for d in selection["decisions"][1:])
    assert says.startswith(f"greedy: SFT{selection['order'][0] + 1} first (reward ")


SMALL = (
    "landscape=plane",
    "landscape.intervals=2",
    "landscape.plane_intervals=1",
    "landscape.beyond=0",
    "landscape.plane_beyond=0",
    "landscape.prompts=6",
    "landscape.documents=5",
    "generation.max_new_tokens=5",
    "judge.rounds=100",
)


def evaluated(name: str, ingredients: list[Path], reward: Path, folder: Path) -> Path:
    inputs = {f"ingredient_{index}": model for index, model in enumerate(ingredients, start=1)}
    done = work(planned(name, *SMALL), inputs | {"reward": reward}, folder)
    point.run(done)
    assert not any(done.unfinished.glob("**/*.safetensors"))
    return done.folder


def test_a_point_is_the_soups_replies_and_its_loss(models: list[Path], reward: Path, tmp_path: Path) -> None:
    """At a soup of copies everything is what it is at the model, with the same random numbers."""
    model = evaluated("point SFT1", [models[1]], reward, tmp_path / "one")
    copies = evaluated("point 0.5 SFT1 + 0.5 SFT2", [models[1], models[1]], reward, tmp_path / "two")
    one, two = (json.loads((folder / point.POINT).read_text()) for folder in (model, copies))
    assert one == two
    assert len(one["judge"]) == len(one["reward"]) == len(one["clusters"]) == 6
    done = work(planned("point SFT1", *SMALL), {}, tmp_path / "three")
    assert sum(one["loss"]) / sum(one["tokens"]) == pytest.approx(loss_of(models[1], done, 5), abs=1e-4)
    assert len(one["documents"]) == len(one["loss"]) == 5


def test_a_landscape_is_drawn_from_its_points(models: list[Path], reward: Path, tmp_path: Path) -> None:
    built = experiment(*SMALL)
    assert built.landscape is not None
    sft = dict(zip(("SFT1", "SFT2", "SFT3"), models[1:], strict=True))
    policy = near(models[1], tmp_path / "policy", 9)
    inputs = {"base": models[0]} | {f"model_{i}": model for i, model in enumerate(models[1:], start=1)}
    names = {stage.fingerprint: stage.name for stage in built.plan if stage.kind == "point"}
    for role, fingerprint in built.landscape.inputs.items():
        if fingerprint not in names:
            continue
        # Every policy is one and the same here: where it lies is the matter.
        parts = [sft.get(part.split()[-1], policy) for part in names[fingerprint].removeprefix("point ").split(" + ")]
        inputs[role] = evaluated(names[fingerprint], parts, reward, tmp_path / fingerprint)
    inputs |= {role: policy for role in built.landscape.inputs if role.startswith("policy_") and role not in inputs}
    done = work(built.landscape, inputs, tmp_path / "landscape")
    says, metrics = landscape.run(done)
    drawn = json.loads((done.folder / "landscape.json").read_text())
    assert metrics["points"] == 7
    assert drawn["models"] == ["SFT1", "SFT2", "SFT3"]
    assert drawn["plane"]["verdicts"]["judge"] in says
    step = {name: weights_of(policy)[name].double() - value.double() for name, value in weights_of(models[1]).items()}
    square = sum(float(value.square().sum()) for value in step.values())
    foot = drawn["others"][0]["plane"]
    across = sum(value**2 for value in foot["coordinates"])
    assert across + foot["off"] ** 2 == pytest.approx(square)
    assert {path.name for path in done.folder.iterdir()} >= {"line.png", "plane.svg", "layers.png", "landscape.md"}
