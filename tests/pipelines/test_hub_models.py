"""Published weights and sets: known by content or commit, and the whole experiment on small ones of all families."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.configuration import Config
from pipelines.experiment import build
from pipelines.plan import Stage
from salsa.data.sets import ULTRACHAT_REVISION, ULTRAFEEDBACK_REVISION, ultra_sets
from salsa.data.suites import ULTRA_SUITES
from tests.data.files import ultra_pair, write_parquet
from tests.hub_cache import COMMIT, put_into_cache, without_network
from tests.pipelines.compose import CONF, config
from tests.pipelines.folders import PAPER, at_paper_scale, sets, weights
from tests.pipelines.offline_runs import read_runs


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_network(monkeypatch, tmp_path / "home")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return weights(tmp_path / "model")


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    return sets(tmp_path / "sets")


def stages(wanted: Config) -> dict[str, Stage]:
    return {stage.name: stage for stage in build(wanted, {}).plan}


def identities(wanted: Config) -> dict[str, str]:
    return {name: stage.fingerprint for name, stage in stages(wanted).items()}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_a_folder_is_known_by_its_files_and_not_by_its_place(
    tmp_path: Path, model: Path, data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = identities(at_paper_scale(model, data))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(model, moved / "weights")
    shutil.move(data[0], moved / "chat")
    shutil.move(data[1], moved / "feedback")
    assert identities(at_paper_scale(moved / "weights", (moved / "chat", moved / "feedback"))) == here
    monkeypatch.chdir(moved)
    relative = stages(at_paper_scale("./weights", (Path("./chat"), Path("./feedback"))))
    assert {name: stage.fingerprint for name, stage in relative.items()} == here
    assert relative["base"].execution["name"] == str(moved / "weights")
    assert relative["data"].execution["sets"]["demonstrations"] == [str(moved / "chat"), None]


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_other_weights_settings_or_tokenizer_make_another_base(model: Path, data: tuple[Path, Path], name: str) -> None:
    before = identities(at_paper_scale(model, data))
    with (model / name).open("ab") as file:
        file.write(b" ")
    made_anew = changed(before, identities(at_paper_scale(model, data)))
    assert made_anew == before.keys() - {"data"}


def test_what_is_not_read_of_a_model_does_not_count(model: Path, data: tuple[Path, Path]) -> None:
    before = identities(at_paper_scale(model, data))
    for name in ("README.md", "pytorch_model.bin", "consolidated.safetensors"):
        (model / name).write_text("something else")
    (model / "onnx").mkdir()
    (data[0] / "data" / "train_gen-00000-of-00001.parquet").write_text("a split that is not read")
    assert identities(at_paper_scale(model, data)) == before


def test_other_rows_make_other_data(model: Path, data: tuple[Path, Path]) -> None:
    before = identities(at_paper_scale(model, data))
    write_parquet(data[1] / "data" / "test_prefs-00000-of-00001.parquet", [ultra_pair("What else?")])
    made_anew = changed(before, identities(at_paper_scale(model, data)))
    assert "base" not in made_anew
    assert {"data", "sft_1", "preferences", "align SALSA", "report"} <= made_anew


def test_the_base_depends_on_weights_and_template_alone(model: Path, data: tuple[Path, Path]) -> None:
    before = identities(at_paper_scale(model, data))
    assert "base" not in changed(before, identities(at_paper_scale(model, data, "seed=5", "base.context=1024")))
    assert "base" in changed(before, identities(at_paper_scale(model, data, "model.template=own")))


def test_a_hub_model_is_known_by_its_commit(tmp_path: Path, model: Path, data: tuple[Path, Path]) -> None:
    name = "meta-llama/Llama-2-7b-hf"
    unknown = stages(at_paper_scale(name, data))["base"]
    assert unknown.config == {"source": "hub", "name": name, "revision": None, "template": "text"}
    branch = stages(at_paper_scale(name, data, "model.revision=v2"))["base"]
    assert branch.config["revision"] == "v2"
    put_into_cache(tmp_path / "home", "model", name, model)
    newest = stages(at_paper_scale(name, data))["base"]
    pinned = stages(at_paper_scale(name, data, f"model.revision={COMMIT}"))["base"]
    assert newest.config["revision"] == newest.execution["revision"] == COMMIT
    assert newest.fingerprint == pinned.fingerprint != unknown.fingerprint


def test_the_hub_sets_are_pinned(model: Path) -> None:
    wanted = config(*PAPER, f"model.name={model}")
    assert wanted.data.demonstrations_revision == ULTRACHAT_REVISION
    assert wanted.data.preferences_revision == ULTRAFEEDBACK_REVISION
    identity = stages(wanted)["data"].config["sets"]
    assert identity["demonstrations"] == {"name": "HuggingFaceH4/ultrachat_200k", "revision": ULTRACHAT_REVISION}
    assert tuple(ultra_sets().prompts) == ULTRA_SUITES
    assert config(*PAPER, "suite.names=[heldout,ultrafeedback]").suite.names == ["heldout", "ultrafeedback"]


SMALL = [
    *PAPER,
    "compute.accelerator=cpu",
    "compute.workers=0",
    "logger=none",
    "base.context=160",
    "generation.max_new_tokens=20",
    "sft.steps=40",
    "sft.batch=8",
    "sft.optimiser.learning_rate=1e-2",
    "sft.optimiser.warmup_steps=2",
    "reward.steps=4",
    "reward.batch=8",
    "reward.optimiser.learning_rate=2e-3",
    "reward.optimiser.warmup_steps=1",
    "reward.normaliser_replies=16",
    "policy.steps=2",
    "policy.batch_prompts=8",
    "policy.learning_rate=1e-3",
    "policy.critic_learning_rate=1e-3",
    "suite.names=[heldout,ultrachat]",
    "suite.prompts=6",
    "suite.anchor_prompts=4",
    "suite.tax_documents=4",
    "suite.samples=3",
    "judge.rounds=100",
    "~controls.other",
    "~controls.soup_start",
]
FAMILIES = ("llama2", "mistral", "gemma")


def command(*arguments: str, flags: tuple[str, ...] = ()) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = {**inherited, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "run.py", *flags, *SMALL, *arguments],
        cwd=CONF.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Ran:
    """What the real command printed and left for small published models of all families."""

    def __init__(self, folder: Path) -> None:
        from tests.pipelines import published

        for family, write in published.CHECKPOINTS.items():
            write(folder / "weights" / family)
        published.ultrachat(folder / "chat")
        published.ultrafeedback(folder / "feedback")
        self.folder, self.outputs = folder, folder / "outputs"
        self.arguments = [
            f"data.demonstrations_set={folder / 'chat'}",
            f"data.preferences_set={folder / 'feedback'}",
            f"outputs.dir={self.outputs}",
        ]
        names = f"model.name={folder / 'weights'}/${{hydra:runtime.choices.model}}"
        self.printed = command(f"model={','.join(FAMILIES)}", names, *self.arguments, flags=("-m",))
        paths = self.outputs.glob("experiments/*/experiment.json")
        read = [json.loads(path.read_text()) for path in paths]
        self.experiments: dict[str, dict[str, Any]] = {experiment["model"]: experiment for experiment in read}

    def artifacts(self, kind: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in self.outputs.glob(f"store/{kind}/*/manifest.json"):
            yield path.parent, json.loads(path.read_text())


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("published"))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_experiment_reaches_its_table_from_published_weights(ran: Ran, family: str) -> None:
    experiment = ran.experiments[family]
    rows = {row["name"]: row for row in experiment["rows"]}
    assert list(rows) == ["SFT1", "SFT2", "soup", "PPO", "SALSA"]
    for row in rows.values():
        assert row["suites"].keys() == {"heldout", "ultrachat"}
        assert row["kl"].keys() == {"SFT1", "SFT2", "soup"}
        assert 1 < row["tax"]["perplexity"] < 1000
    # Fine-tuning has learned to end its replies; otherwise every score is the fixed one and nothing is compared.
    assert rows["SFT1"]["suites"]["heldout"]["unfinished"]["value"] < 1
    assert rows["SFT1"]["kl"]["SFT1"]["k1"]["value"] == pytest.approx(0, abs=1e-5)
    assert rows["SFT1"]["kl"]["SFT2"]["k1"]["value"] != 0
    assert experiment["reward_model"]["accuracy"]["value"] > 0.5
    assert "second reward model" in experiment["judge"]["name"]
    assert len(experiment["samples"]) > 0


@pytest.mark.slow
def test_one_table_is_shown_over_the_families(ran: Ran) -> None:
    assert ran.experiments.keys() == set(FAMILIES)
    table = ran.printed[ran.printed.rindex("stages computed") :]
    assert all(family in table for family in FAMILIES)
    # The three share the data and nothing else.
    assert len(list(ran.artifacts("data"))) == 1
    assert len(list(ran.artifacts("sft"))) == 2 * len(FAMILIES)


@pytest.mark.slow
def test_the_base_is_a_pointer_with_a_usable_tokenizer(ran: Ran) -> None:
    from salsa.models.families import load_tokenizer

    found = {Path(manifest["says"].split(",")[0]).name: folder for folder, manifest in ran.artifacts("base")}
    assert found.keys() == set(FAMILIES)
    pads = {}
    for family, folder in found.items():
        assert not any(folder.glob("*.safetensors"))
        tokenizer = load_tokenizer(folder)
        asked = tokenizer.apply_chat_template([{"role": "user", "content": "Why?"}], tokenize=False)
        assert asked == f"{tokenizer.bos_token}User:\nWhy?\n\n"
        pads[family] = tokenizer.pad_token
    assert pads == {"llama2": "<unk>", "mistral": "</s>", "gemma": "<pad>"}


@pytest.mark.slow
def test_training_is_in_single_precision_whatever_the_weights_came_in(ran: Ran) -> None:
    from safetensors import safe_open

    for kind in ("sft", "soup", "reward", "align"):
        for folder, _ in ran.artifacts(kind):
            with safe_open(folder / "model.safetensors", framework="pt") as weights_file:
                formats = {weights_file.get_slice(name).get_dtype() for name in list(weights_file.keys())}
            assert formats == {"F32"}, kind


@pytest.mark.slow
def test_at_another_place_nothing_but_what_changed_is_computed_and_tracked(ran: Ran) -> None:
    moved = shutil.copytree(ran.folder / "weights" / "gemma", ran.folder / "moved" / "gemma")
    arguments = ("model=gemma", f"model.name={moved}", *ran.arguments)
    assert "0 stages computed" in command(*arguments)
    printed = command(*arguments, "judge.tie_margin=0.2", "logger=wandb", "logger.mode=offline")
    assert "1 stages computed" in printed
    assert f"wandb sync {ran.outputs}/wandb/offline-run-*" in printed
    (run,) = read_runs(ran.outputs)
    assert (run.name, run.exit_code) == ("report", 0)
    assert run.config["settings"]["model"]["name"] == str(moved)
    assert run.config["settings"]["opponent"]["kl_coef"] == run.config["settings"]["policy"]["kl_coef"] == 0.05
    assert "${" not in json.dumps(run.config)
    assert len(run.table("samples")["data"]) == 3
    assert {"row", "suite", "metric", "value"} <= set(run.table("results")["columns"])
    assert run.axes["curves/judge/SALSA"] == "step"
    assert {row["step"] for row in run.history if "curves/judge/SALSA" in row} == {0, 2}
