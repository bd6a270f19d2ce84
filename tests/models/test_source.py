import json

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from salsa.models import source
from salsa.models.source import UnavailableModelError, check, resolve, write_pointer
from tests.models.tiny import causal


@pytest.fixture
def model_folder(tmp_path):
    causal().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_is_itself_and_a_pointer_is_followed(model_folder, tmp_path):
    write_pointer(tmp_path / "pointer", str(model_folder))
    assert resolve(model_folder) == model_folder
    assert resolve(tmp_path / "pointer") == model_folder
    check(str(model_folder))


def test_a_missing_folder_is_named_with_what_to_do(tmp_path):
    with pytest.raises(UnavailableModelError, match=r"there is no model folder .*nowhere; give the path"):
        resolve(tmp_path / "nowhere")
    with pytest.raises(UnavailableModelError, match="there is no model folder"):
        check(str(tmp_path / "nowhere"))


def test_a_pointer_to_a_missing_folder_is_named(tmp_path):
    write_pointer(tmp_path / "pointer", str(tmp_path / "nowhere"))
    with pytest.raises(UnavailableModelError, match="nowhere"):
        resolve(tmp_path / "pointer")


def test_a_pointer_to_a_pointer_is_refused(tmp_path, model_folder):
    write_pointer(tmp_path / "first", str(model_folder))
    write_pointer(tmp_path / "second", str(tmp_path / "first"))
    with pytest.raises(UnavailableModelError, match="point to the model directly"):
        resolve(tmp_path / "second")


@pytest.mark.parametrize("text", ["", "[]", '{"revision": null}', "not json"])
def test_a_broken_pointer_is_named(tmp_path, text):
    (tmp_path / "pointer.json").write_text(text)
    with pytest.raises(UnavailableModelError, match=r"pointer\.json is not a pointer"):
        resolve(tmp_path)


def test_pickled_weights_are_refused(model_folder):
    (model_folder / "model.safetensors").rename(model_folder / "pytorch_model.bin")
    with pytest.raises(UnavailableModelError, match=r"only pytorch_model\.bin.*save the weights as safetensors"):
        resolve(model_folder)


def test_a_folder_without_configuration_or_weights_is_refused(tmp_path, model_folder):
    (model_folder / "model.safetensors").unlink()
    with pytest.raises(UnavailableModelError, match="holds no weights"):
        resolve(model_folder)
    with pytest.raises(UnavailableModelError, match=r"no config\.json"):
        resolve(tmp_path)


@pytest.fixture
def hub_without_network(monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        if kwargs.get("local_files_only"):
            raise FileNotFoundError("not in the cache")
        raise ConnectionError("no route")

    monkeypatch.setattr(source, "snapshot_download", unreachable)
    monkeypatch.setattr(HfApi, "model_info", unreachable)
    monkeypatch.chdir(tmp_path)


def test_without_network_the_user_reads_what_to_do(hub_without_network, tmp_path):
    write_pointer(tmp_path / "pointer", "google/gemma-2b", "abc")
    message = r"'google/gemma-2b' at revision abc is not on this machine.*hf download google/gemma-2b --local-dir"
    with pytest.raises(UnavailableModelError, match=message):
        resolve(tmp_path / "pointer")
    with pytest.raises(UnavailableModelError, match=message):
        check("google/gemma-2b", "abc")


def test_a_cached_hub_model_needs_no_network(monkeypatch, tmp_path, model_folder):
    asked = []

    def cached(name, revision, **options):
        asked.append((name, revision, options["local_files_only"]))
        return str(model_folder)

    monkeypatch.setattr(source, "snapshot_download", cached)
    write_pointer(tmp_path / "pointer", "google/gemma-2b", "abc")
    assert resolve(tmp_path / "pointer") == model_folder
    check("google/gemma-2b", "abc")
    assert asked == [("google/gemma-2b", "abc", True)] * 2


def test_a_cache_that_lacks_a_shard_is_not_complete(monkeypatch, hub_without_network, tmp_path, model_folder):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    download = source.snapshot_download

    def cached(*args, **options):
        return str(model_folder) if options.get("local_files_only") else download(*args, **options)

    monkeypatch.setattr(source, "snapshot_download", cached)
    with pytest.raises(UnavailableModelError, match="is not on this machine"):
        check("google/gemma-2b")


def test_answers_of_the_hub_become_advice():
    for kind, advice in (
        (GatedRepoError, "accept its licence on https://huggingface.co/a/b"),
        (RepositoryNotFoundError, "the hub has no model 'a/b' at revision r that you may read"),
        (RevisionNotFoundError, "has no revision 'r'"),
        (HfHubHTTPError, "did not hand out the model 'a/b' at revision r"),
    ):
        # The constructors want a response of whichever HTTP library the hub's client uses at the moment.
        assert advice in source._hub_message("a/b", "r", kind.__new__(kind, "refused"))
