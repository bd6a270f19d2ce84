"""Stages by themselves, on inputs made by hand; how they work together is shown end to end."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines import replies, scoring
from pipelines.replies import SampledReply
from pipelines.scoring import TokenReader
from pipelines.stages import anchors, report, respond, reward, soup
from pipelines.stages.preferences import DRAWS, unseen_prompts
from salsa.data.chat import encode_prompts
from salsa.data.rows import DataError
from salsa.data.zoo.source import ZooSource
from salsa.evaluation.statistics import cluster_bootstrap_means
from salsa.models.families import load_causal, load_scalar
from salsa.models.source import write_pointer
from salsa.rl.rewards import TokenScores
from salsa.rl.rollout import generate
from salsa.rl.trace import TracedReplies, trace_path, write_trace
from salsa.soup.average import SoupError
from tests.pipelines.stage_work import language_model, planned, reward_model, work, zoo_tokenizer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base and two ingredients."""
    folder = tmp_path_factory.mktemp("models")
    return [language_model(folder / str(seed), seed) for seed in range(3)]


# --- preferences ----------------------------------------------------------------------------------------------------


def test_heldout_prompts_are_none_of_the_training_prompts() -> None:
    source = ZooSource()
    training = source.prompts(np.random.default_rng(0), 2000)
    drawn = [unseen_prompts(source, np.random.default_rng(1), 600, training) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 600
    asked = {prompt.conversation() for prompt in training}
    assert asked.isdisjoint(prompt.conversation() for prompt in drawn[0])
    assert not asked.isdisjoint(prompt.conversation() for prompt in source.prompts(np.random.default_rng(1), 600))


def test_too_few_prompts_for_a_heldout_set_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ZooSource()
    training = source.prompts(np.random.default_rng(0), 5)
    monkeypatch.setattr(source, "prompts", lambda rng, count: training[:count])
    with pytest.raises(DataError, match=f"preferences.heldout=3: only 0 of {3 * DRAWS}"):
        unseen_prompts(source, np.random.default_rng(1), 3, training)


# --- soup -----------------------------------------------------------------------------------------------------------


def souped(folder: Path, base: Path, first: Path, second: Path) -> tuple[str, dict[str, Any]]:
    inputs = {"base": base, "ingredient_1": first, "ingredient_2": second}
    return soup.run(work(planned("soup"), inputs, folder))


def test_a_soup_says_how_far_apart_its_ingredients_are(models: list[Path], tmp_path: Path) -> None:
    says, metrics = souped(tmp_path, *models)
    base, first, second = (load_file(path / "model.safetensors") for path in models)

    def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
        return sum(float((one[name].double() - other[name].double()).square().sum()) for name in one) ** 0.5

    assert metrics["distance"] == pytest.approx(distance(first, second))
    assert metrics["norms"] == pytest.approx([distance(first, base), distance(second, base)])
    squares = [metrics[key] ** 2 for key in ("distance",)] + [norm**2 for norm in metrics["norms"]]
    cosine = (squares[1] + squares[2] - squares[0]) / (2 * metrics["norms"][0] * metrics["norms"][1])
    assert metrics["cosine"] == pytest.approx(cosine)
    assert f"distance {metrics['distance']:.3g}" in says


def test_a_soup_of_one_model_twice_is_refused(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(SoupError, match="SFT1 and SFT2 are the same model"):
        souped(tmp_path, models[0], models[1], models[1])


def test_published_weights_in_half_precision_are_a_base_too(models: list[Path], tmp_path: Path) -> None:
    published = tmp_path / "published"
    shutil.copytree(models[0], published)
    tensors = load_file(models[0] / "model.safetensors")
    halves = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    save_file(halves, published / "model.safetensors", metadata={"format": "pt"})
    write_pointer(tmp_path / "base", str(published))
    exact = souped(tmp_path / "exact", models[0], *models[1:])[1]
    rounded = souped(tmp_path / "rounded", tmp_path / "base", *models[1:])[1]
    assert rounded["norms"] == pytest.approx(exact["norms"], rel=1e-2)
    assert rounded["distance"] == exact["distance"]


def test_a_base_with_other_tensors_costs_only_norms_and_cosine(models: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(models[0], other)
    save_file({"w": torch.zeros(1)}, other / "model.safetensors", metadata={"format": "pt"})
    metrics = souped(tmp_path, other, *models[1:])[1]
    assert metrics["distance"] > 0
    assert metrics["norms"] is metrics["cosine"] is None


# --- respond --------------------------------------------------------------------------------------------------------


def test_control_tokens_are_kept_for_the_judge_and_left_out_of_the_conversation(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[list[int]]] = []

    def sample(*given: Any) -> list[SampledReply]:
        asked.append(given[3])
        return [SampledReply([7], "the fox is red .", "the fox <guide> is red .", True) for _ in given[3]]

    monkeypatch.setattr(replies, "sample_replies", sample)
    stage = planned("respond SFT1: two_turn", "suite.prompts=3", "suite.names=[two_turn]")
    done = work(stage, {"model": models[1]}, tmp_path)
    respond.run(done)
    rows = [json.loads(line) for line in (done.folder / respond.RESPONSES).read_text().splitlines()]
    assert [row["replies"] for row in rows] == [["the fox <guide> is red ."] * 2] * 3
    tokenizer = zoo_tokenizer()
    conversations = [prompt.conversation(("the fox is red .",)) for prompt in done.source.suite("two_turn", 3)]
    assert asked[1] == encode_prompts(tokenizer, conversations)


# --- reward ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended", [0, 1, 2])
def test_the_unit_of_the_reward_is_measured_on_finished_replies(
    ended: int, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(*given: Any) -> list[SampledReply]:
        return [SampledReply([7 + index, 9], "", "", index < ended) for index in range(len(given[3]))]

    monkeypatch.setattr(reward, "sample_replies", sample)
    done = work(planned("reward", "reward.normaliser_replies=6"), {"normaliser": models[1]}, tmp_path)
    scores = TokenScores(load_scalar(reward_model(tmp_path / "reward", 0)))
    tokenizer = zoo_tokenizer()
    found = reward._normaliser(done, TokenReader(scores, tokenizer.pad_token_id), tokenizer)
    assert found["normaliser_finished"] is (ended == 2)
    assert found["normaliser_replies"] == (2 if ended == 2 else 6)


@pytest.mark.parametrize("finished", [True, False])
def test_a_reward_unit_of_unfinished_replies_is_a_warning_of_the_report(finished: bool, tmp_path: Path) -> None:
    (tmp_path / "reward.json").write_text(json.dumps({"normaliser_finished": finished}))
    warnings = report._warnings(work(planned("report"), {"reward": tmp_path}, tmp_path))
    assert len(warnings) == (0 if finished else 1)
    assert all("reward model" in warning and "unfinished replies" in warning for warning in warnings)


# --- anchors --------------------------------------------------------------------------------------------------------


def test_anchors_load_each_model_once_and_keep_the_kl_of_each_reply(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []

    def load(folder: Path) -> Any:
        loads.append(folder)
        return load_scalar(folder)

    monkeypatch.setattr(scoring, "load_scalar", load)
    stage = planned("anchors SALSA", "suite.anchor_prompts=6")
    policy, judge = tmp_path / "policy", reward_model(tmp_path / "reward", 3)
    tokenizer = zoo_tokenizer()
    inputs = dict(zip(("anchor_soup", "anchor_sft_1", "anchor_sft_2"), models, strict=True))
    done = work(stage, inputs | {"replies": policy, "reward": judge}, tmp_path)
    ids = encode_prompts(tokenizer, [prompt.conversation() for prompt in done.source.suite("validation", 6)])
    noise = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    ends = {"eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    rollout = generate(load_causal(models[1]), ids, max_new=5, temperature=1.0, noise=noise, **ends)
    for step in (0, 4):
        traced = TracedReplies(rollout.sequences, rollout.logps, rollout.ended, torch.zeros(6))
        write_trace(trace_path(policy / anchors.TRACE, step), traced)
    _, metrics = anchors.run(done)
    written = json.loads((done.folder / anchors.ANCHORS).read_text())
    assert loads == [judge]
    assert [point["step"] for point in written["points"]] == [0, 4]
    final = written["final"]
    assert len(final["clusters"]) == 6
    assert final["divergences"]["sft_1"]["k1"] == pytest.approx([0.0] * 6, abs=1e-4)
    assert metrics["kl_sft_2"] == pytest.approx(np.mean(final["divergences"]["sft_2"]["k1"]))
    assert written["points"][1]["kl"]["sft_2"]["k3"] > 0


def test_intervals_of_kl_follow_the_configuration(tmp_path: Path) -> None:
    clusters = ["a", "a", "b", "c", "d", "e"]
    values = {"k1": [1.0, 2.0, 0.0, 5.0, 3.0, 1.0], "k3": [1.0, 1.0, 2.0, 4.0, 3.0, 2.0]}
    final = {"clusters": clusters, "divergences": {"soup": values}}
    done = work(planned("report", "judge.rounds=200", "judge.level=.5"), {}, tmp_path)
    found = report._divergences(done, final, "f")["soup"]
    rng = np.random.default_rng(done.seed("KL intervals"))
    expected = cluster_bootstrap_means(np.array([values["k1"], values["k3"]]).T, clusters, rng, 200, 0.5)
    assert [found.k1, found.k3] == expected
    wide = report._divergences(work(planned("report"), {}, tmp_path), final, "f")["soup"]
    assert wide.k1.high - wide.k1.low > found.k1.high - found.k1.low
