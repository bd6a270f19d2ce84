"""What is missing is said at once, with what to do, before anything starts."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError

from pipelines import preflight
from pipelines.preflight import MissingError, check, gpu_problem, problems
from salsa import hub
from tests.hub_cache import COMMIT, put_into_cache, without_network
from tests.pipelines.compose import CONF, config
from tests.pipelines.folders import PAPER, at_paper_scale, sets, weights


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, no GPU, whatever this machine has."""
    without_network(monkeypatch, tmp_path / "home")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(preflight, "DEVICES", tmp_path / "dev")
    monkeypatch.setattr(preflight.shutil, "which", lambda name: None)
    monkeypatch.setattr(preflight.metadata, "version", lambda name: "2.13.0")


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    return sets(tmp_path / "sets")


def test_the_embedded_world_needs_nothing() -> None:
    check(config())


def test_local_folders_need_neither_hub_nor_gpu(tmp_path: Path, data: tuple[Path, Path]) -> None:
    check(at_paper_scale(weights(tmp_path / "model"), data))


def test_all_that_is_missing_is_said_at_once_with_the_key_and_the_fix() -> None:
    model, gpu, chat, feedback = problems(config(*PAPER))
    assert model.startswith("model.name: the model meta-llama/Llama-2-7b-hf is not on this machine")
    assert "127.0.0.1 cannot be reached" in model
    assert "hf download meta-llama/Llama-2-7b-hf --local-dir FOLDER" in model
    assert gpu.startswith("scale=paper: meta-llama/Llama-2-7b-hf needs a GPU, and this machine has none")
    assert chat.startswith("data.demonstrations_set: not in the local cache")
    assert "HuggingFaceH4/ultrachat_200k (split train_sft)" in chat
    assert feedback.startswith("data.preferences_set: not in the local cache")
    assert "HuggingFaceH4/ultrafeedback_binarized (split test_prefs)" in feedback
    with pytest.raises(MissingError, match=r"(?s)^model\.name: .*\nscale=paper: .*\ndata\.demonstrations_set: "):
        check(config(*PAPER))


@pytest.mark.parametrize("offline", ["1", ""])
def test_even_a_network_that_swallows_everything_is_told_within_a_second(
    offline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow(*_: Any, **__: Any) -> None:
        time.sleep(2)
        raise OSError

    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(hub.socket, "create_connection", swallow)
    wanted = config(*PAPER)
    started = time.perf_counter()
    assert len(problems(wanted)) == 4
    assert time.perf_counter() - started < 1


def test_a_cached_model_and_cached_sets_need_no_network(tmp_path: Path, data: tuple[Path, Path]) -> None:
    home = tmp_path / "home"
    put_into_cache(home, "model", "meta-llama/Llama-2-7b-hf", weights(tmp_path / "model"))
    put_into_cache(home, "dataset", "HuggingFaceH4/ultrachat_200k", data[0])
    put_into_cache(home, "dataset", "HuggingFaceH4/ultrafeedback_binarized", data[1])
    revisions = (f"data.demonstrations_revision={COMMIT}", "data.preferences_revision=null")
    check(config(*PAPER, *revisions, "compute.accelerator=cpu"))
    (stale,) = problems(config(*PAPER, "data.preferences_revision=null", "compute.accelerator=cpu"))
    assert "HuggingFaceH4/ultrachat_200k (split train_sft)" in stale


def test_a_gated_model_is_told_apart_from_a_missing_one(
    monkeypatch: pytest.MonkeyPatch, data: tuple[Path, Path]
) -> None:
    class Described:
        sha, gated = COMMIT, "manual"
        siblings: list[Any] = []

    def refuse(self: HfApi, name: str, **_: Any) -> None:
        raise GatedRepoError.__new__(GatedRepoError, "refused")

    monkeypatch.setattr("salsa.models.source.obstacle", lambda: "")
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: Described())
    monkeypatch.setattr(HfApi, "auth_check", refuse)
    (problem,) = problems(at_paper_scale("google/gemma-2b", data, "model=gemma", "compute.accelerator=cpu"))
    assert "gated: accept its licence on https://huggingface.co/google/gemma-2b" in problem
    assert "hf auth login" in problem


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("config.json", r"holds no config\.json"),
        ("model.safetensors", "holds no weights; save the weights as safetensors"),
        ("tokenizer.json", r"without a tokenizer; put its tokenizer\.json there"),
        ("all", "there is no model folder"),
    ],
)
def test_an_incomplete_model_folder_is_told(tmp_path: Path, data: tuple[Path, Path], damage: str, says: str) -> None:
    folder = weights(tmp_path / "model")
    if damage == "all":
        folder = tmp_path / "nowhere"
    else:
        (folder / damage).unlink()
    with pytest.raises(MissingError, match=f"model.name: .*{says}"):
        check(at_paper_scale(folder, data))


def test_weights_that_would_have_to_be_unpickled_are_refused(tmp_path: Path, data: tuple[Path, Path]) -> None:
    folder = weights(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(MissingError, match=r"only pytorch_model\.bin, and loading those can run code"):
        check(at_paper_scale(folder, data))


def test_family_and_context_must_fit_the_weights(tmp_path: Path, data: tuple[Path, Path]) -> None:
    with pytest.raises(MissingError, match="of type 'gemma', which is not of the family llama2; use model=gemma"):
        check(at_paper_scale(weights(tmp_path / "gemma", "gemma"), data))
    with pytest.raises(MissingError, match=r"at most 1024 tokens; use base\.context=1024 or less \(now 2048\)"):
        check(at_paper_scale(weights(tmp_path / "short", longest=1024), data))


def test_a_set_without_its_files_is_told(tmp_path: Path, data: tuple[Path, Path]) -> None:
    model = weights(tmp_path / "model")
    missing, swapped = problems(at_paper_scale(model, (Path("./nowhere"), data[0])))
    assert missing.startswith("data.demonstrations_set: the folder nowhere does not exist")
    assert "no Parquet files of the split train_prefs" in swapped


def test_a_gpu_is_there_if_its_device_is_and_torch_can_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_problem() == "this machine has none"
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    assert gpu_problem() == "this machine has none"
    (tmp_path / "dev" / "nvidia3").touch()
    assert gpu_problem() == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "hides every GPU" in gpu_problem()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(preflight.metadata, "version", lambda name: "2.13.0+cpu")
    assert "a build for CPUs only" in gpu_problem()


def test_a_gpu_is_asked_for_by_the_setting_or_by_the_size_of_the_weights(
    tmp_path: Path, data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert problems(config("compute.accelerator=gpu")) == [
        "compute.accelerator=gpu: this machine has none; or use compute.accelerator=cpu"
    ]
    monkeypatch.setattr(preflight, "CPU_BYTES", 3)
    model = weights(tmp_path / "model")
    (problem,) = problems(at_paper_scale(model, data))
    assert f"{model} needs a GPU" in problem
    assert problems(at_paper_scale(model, data, "compute.accelerator=cpu")) == []


def test_the_command_ends_with_the_words_and_loads_nothing_heavy(tmp_path: Path) -> None:
    arguments = ["run.py", *PAPER, "model.name=./nowhere", f"outputs.dir={tmp_path}"]
    code = (
        f"import sys; sys.argv = {arguments!r}; import runpy\n"
        "try:\n    runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as end:\n    print('left with', end.code)\n"
        "print('heavy:', sorted({'torch', 'transformers', 'huggingface_hub', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CONF.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "error model.name: there is no model folder nowhere" in done.stdout
    assert "data.preferences_set: not in the local cache" in done.stdout
    assert "left with 1" in done.stdout
    assert "heavy: []" in done.stdout


def test_a_plan_is_shown_with_what_is_missing(tmp_path: Path) -> None:
    arguments = ["run.py", *PAPER, "plan=true", f"outputs.dir={tmp_path}"]
    done = subprocess.run([sys.executable, *arguments], cwd=CONF.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "45 to run" in done.stdout
    assert "missing model.name: the model meta-llama/Llama-2-7b-hf is not on this machine" in done.stdout
