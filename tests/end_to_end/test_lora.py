"""The real command with adapters: every model is one, over one base, and everything downstream works as before."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from salsa.cli import main
from salsa.models.families import load_causal, load_scalar
from salsa.soup.average import average
from tests.end_to_end.test_zoo import ROOT, SMALL, experiments

pytestmark = pytest.mark.slow
ARGUMENTS = [*SMALL, "lora.rank=4", "~controls", "suite.names=[single]", "logger=none", "compute.workers=0"]
ARGUMENTS += ["landscape=line", "landscape.intervals=2", "landscape.beyond=0"]
ARGUMENTS += ["landscape.prompts=8", "landscape.documents=6"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    run = [sys.executable, "run.py", f"outputs.dir={folder}", *ARGUMENTS]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def only(outputs: Path, kind: str) -> Path:
    (folder,) = (outputs / "store" / kind).iterdir()
    return folder


def by_name(outputs: Path, kind: str) -> dict[str, Path]:
    folders = (outputs / "store" / kind).iterdir()
    return {json.loads((folder / "manifest.json").read_text())["name"]: folder for folder in folders}


def test_only_the_base_is_a_full_model(outputs: Path) -> None:
    full = {path.parent.parent.name for path in outputs.glob("store/*/*/model.safetensors")}
    assert full == {"base"}
    adapters = [path.parent.relative_to(outputs / "store") for path in outputs.glob("store/**/adapter_config.json")]
    assert {path.parts[0] for path in adapters} == {"sft", "soup", "reward", "align"}
    for name, folder in by_name(outputs, "align").items():
        assert load_scalar(folder / "critic").config.num_labels == 1, name


def test_the_soup_is_the_average_of_the_models(outputs: Path, tmp_path: Path) -> None:
    folders = []
    for name, folder in sorted(by_name(outputs, "sft").items()):
        folders.append(tmp_path / name)
        load_causal(folder).save_pretrained(folders[-1])
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copyfile(folder / file, folders[-1] / file)
    average(folders, [0.5, 0.5], tmp_path / "average")
    expected = load_causal(tmp_path / "average").state_dict()
    soup = load_causal(only(outputs, "soup")).state_dict()
    assert max((soup[name] - tensor).abs().max().item() for name, tensor in expected.items()) < 1e-5


def test_the_policy_starts_as_its_sft_model(outputs: Path) -> None:
    """Training over the shared base and measuring with merged models agree."""
    (experiment,) = experiments(outputs)
    for arm in ("PPO", "SALSA"):
        assert experiment["curves"][arm][0]["kl"]["SFT1"]["k3"] == pytest.approx(0, abs=1e-6)
        assert experiment["curves"][arm][0]["kl"]["SFT1"]["k1"] == pytest.approx(0, abs=1e-4)
    assert experiment["curves"]["SALSA"][0]["kl"]["soup"]["k3"] > 0


def test_adapters_have_a_landscape(outputs: Path) -> None:
    (path,) = outputs.glob("landscapes/*/landscape.json")
    drawn = json.loads(path.read_text())
    ends = [point["values"]["judge"]["value"] for point in drawn["line"]["points"]]
    assert len(ends) == 3
    assert {row["name"] for row in drawn["others"]} == {"PPO", "SALSA"}
    assert drawn["geometry"]["names"] == ["SFT1", "SFT2", "PPO", "SALSA"]
    assert drawn["replies"] == 8


def test_a_policy_leaves_the_store_as_a_full_model(outputs: Path, tmp_path: Path) -> None:
    policy = by_name(outputs, "align")["align SALSA"]
    assert main(["store", "export", policy.name, str(tmp_path / "model"), "--outputs", str(outputs)]) == 0
    ids = torch.tensor([[1, 5, 7, 3]])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(model(ids).logits, load_causal(policy)(ids).logits)


def test_a_store_can_move(outputs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(outputs / "store", moved / "store")
    assert load_causal(only(moved, "soup")).num_parameters() == load_causal(only(moved, "base")).num_parameters()
