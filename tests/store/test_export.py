"""A model leaves the store complete and unchanged, or not at all."""

from pathlib import Path

import pytest

from salsa.store.artifact import Artifact, Store
from salsa.store.export import ExportError, chosen_files, copy_manifest, copy_model, model_files
from salsa.store.manifest import ManifestError
from tests.store.artifacts import edit_manifest, place

MODEL = {
    "config.json": '{"model_type": "llama"}',
    "generation_config.json": "{}",
    "model.safetensors": "w" * 100,
    "tokenizer.json": "{}",
    "chat_template.jinja": "{{ x }}",
    "merges.txt": "a b",
}
OTHERS = {"metrics.jsonl": "{}", "reward.json": "{}", "critic/config.json": "{}", "trace/step_0.safetensors": "t"}


@pytest.fixture
def artifact(store: Store) -> Artifact:
    return place(store, 1, files=MODEL | OTHERS)


def content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_model_files_are_those_that_from_pretrained_reads() -> None:
    assert model_files([*OTHERS, *MODEL]) == [*sorted(MODEL.keys() - {"config.json"}), "config.json"]
    sharded = ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    assert sorted(model_files(sharded)) == sorted(sharded)
    assert model_files(["model.safetensors", "tokenizer.json"]) == []
    assert model_files(["config.json", "tokenizer.json"]) == []
    assert model_files(["config.json", "critic/model.safetensors"]) == []
    assert model_files([]) == []


@pytest.mark.parametrize("exists", [False, True])
def test_a_model_is_copied_as_it_is(artifact: Artifact, tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "deep" / "model"
    if exists:
        folder.mkdir(parents=True)
    counted: list[int] = []
    copy_model(artifact, chosen_files(artifact, []), folder, counted.append)
    assert content(folder) == MODEL
    assert sum(counted) == sum(map(len, MODEL.values()))
    copy_manifest(artifact, folder)
    assert (folder / "manifest.json").read_bytes() == (artifact.path / "manifest.json").read_bytes()


def test_a_folder_that_holds_something_is_left_alone(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("m")
    for folder in (tmp_path, tmp_path / "mine"):
        with pytest.raises(ExportError, match="is not an empty folder"):
            copy_model(artifact, chosen_files(artifact, []), folder)
    assert (tmp_path / "mine").read_text() == "m"


@pytest.mark.parametrize("exists", [False, True])
def test_damage_is_found_on_the_way_and_nothing_is_left(artifact: Artifact, tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "model"
    if exists:
        folder.mkdir()
    files = chosen_files(artifact, [])
    (artifact.path / "model.safetensors").write_text("W" * 100)
    with pytest.raises(ExportError, match=r"model\.safetensors is damaged; run `salsa store verify --set-aside 001"):
        copy_model(artifact, files, folder)
    assert folder.exists() is exists
    assert not exists or list(folder.iterdir()) == []


def test_a_missing_file_leaves_nothing_either(artifact: Artifact, tmp_path: Path) -> None:
    files = chosen_files(artifact, [])
    (artifact.path / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no file tokenizer\.json"):
        copy_model(artifact, files, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_artifacts_without_a_model_are_refused_with_the_kinds_that_have_one(store: Store, artifact: Artifact) -> None:
    tax = place(store, 2, kind="tax")
    place(store, 3, kind="align", files=MODEL)
    (place(store, 4, kind="soup", files=MODEL).path / "manifest.json").write_text("{")
    with pytest.raises(ExportError, match=r"no model in tax 2 002.*; artifacts of these kinds have one: align, sft"):
        chosen_files(tax, store.artifacts())
    with pytest.raises(ExportError, match="no artifact in this store has one"):
        chosen_files(tax, [tax])


def test_a_pointer_to_published_weights_is_refused_with_its_place(store: Store) -> None:
    files = {name: text for name, text in MODEL.items() if not name.startswith(("config", "model"))}
    artifact = place(store, 1, kind="base", files=files | {"pointer.json": '{"name": "owner/name"}'})
    with pytest.raises(ExportError, match=r"only points to published weights; .*pointer\.json names them"):
        chosen_files(artifact, [])


def test_a_changed_manifest_is_not_trusted(artifact: Artifact) -> None:
    edit_manifest(artifact, files={})
    with pytest.raises(ManifestError, match="has changed"):
        chosen_files(artifact, [])
