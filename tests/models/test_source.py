import json
import subprocess
import sys
import time

import pytest
from huggingface_hub import HfApi

from salsa.models.families import save
from salsa.models.source import (
    UnavailableModelError,
    check,
    check_configuration,
    model_files,
    resolve,
    weight_bytes,
    write_pointer,
)
from tests.hub_cache import COMMIT, put_into_cache, without_network
from tests.models.tiny import causal, tokenizer


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, tmp_path):
    without_network(monkeypatch, tmp_path / "home")


@pytest.fixture
def model_folder(tmp_path):
    save(causal(), tokenizer(), tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_is_itself_and_a_pointer_is_followed(model_folder, tmp_path):
    write_pointer(tmp_path / "pointer", str(model_folder))
    assert resolve(model_folder) == model_folder
    assert resolve(tmp_path / "pointer") == model_folder
    assert check(str(model_folder)) == model_folder


def test_a_folder_may_be_given_from_the_home_folder(model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check("~/model") == model_folder


def test_a_missing_folder_is_named_with_what_to_do(tmp_path):
    with pytest.raises(UnavailableModelError, match=r"there is no model folder .*nowhere; give the path"):
        resolve(tmp_path / "nowhere")
    with pytest.raises(UnavailableModelError, match="there is no model folder"):
        check(str(tmp_path / "nowhere"))


def test_a_pointer_to_a_missing_folder_is_named(tmp_path):
    write_pointer(tmp_path / "pointer", str(tmp_path / "nowhere"))
    with pytest.raises(
        UnavailableModelError, match=r"points to .*nowhere, which is gone; put the model back, or delete"
    ):
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


def test_a_folder_without_tokenizer_is_refused_before_any_work(model_folder):
    for path in model_folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UnavailableModelError, match="without a tokenizer"):
        check(str(model_folder))


def test_a_missing_shard_is_named(model_folder):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnavailableModelError, match=r"lacks model-00002-of-00002\.safetensors, which its index names"):
        check(str(model_folder))


def test_only_what_is_read_of_a_model_counts(model_folder):
    for name in ("README.md", "consolidated.safetensors", "pytorch_model.bin"):
        (model_folder / name).write_text("something else")
    assert [path.name for path in model_files(model_folder)] == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert weight_bytes(model_folder) == (model_folder / "model.safetensors").stat().st_size


def test_family_and_context_must_fit_the_weights(model_folder):
    check_configuration(model_folder, "llama2", 32)
    with pytest.raises(
        UnavailableModelError, match="of type 'llama', which is not of the family gemma; use model=llama2"
    ):
        check_configuration(model_folder, "gemma", 32)
    with pytest.raises(UnavailableModelError, match=r"at most 32 tokens; use base\.context=32 or less \(now 33\)"):
        check_configuration(model_folder, "llama2", 33)
    (model_folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoModel": "code.Own"}}))
    with pytest.raises(UnavailableModelError, match=r"of type 'own'.*give one of the families llama2, mistral, gemma"):
        check_configuration(model_folder, "llama2", 32)


@pytest.mark.parametrize(
    ("offline", "reason"), [("1", "HF_HUB_OFFLINE forbids"), ("", r"127\.0\.0\.1 cannot be reached")]
)
def test_without_network_the_user_reads_what_to_do_within_a_second(monkeypatch, tmp_path, offline, reason):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    write_pointer(tmp_path / "pointer", "google/gemma-2b", "abc")
    message = (
        rf"google/gemma-2b at revision abc is not on this machine.*{reason}.*hf download google/gemma-2b --local-dir"
    )
    started = time.perf_counter()
    with pytest.raises(UnavailableModelError, match=message):
        resolve(tmp_path / "pointer")
    with pytest.raises(UnavailableModelError, match=message):
        check("google/gemma-2b", "abc")
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("revision", [None, COMMIT])
def test_a_cached_hub_model_needs_no_network(tmp_path, model_folder, revision):
    snapshot = put_into_cache(tmp_path / "home", "model", "google/gemma-2b", model_folder)
    write_pointer(tmp_path / "pointer", "google/gemma-2b", revision)
    assert resolve(tmp_path / "pointer") == snapshot
    assert check("google/gemma-2b", revision) == snapshot


@pytest.mark.parametrize("lost", ["model.safetensors", "config.json", "tokenizer"])
def test_a_cached_model_that_lacks_something_is_not_complete(tmp_path, model_folder, lost):
    for path in model_folder.glob(f"{lost}*"):
        path.unlink()
    put_into_cache(tmp_path / "home", "model", "google/gemma-2b", model_folder)
    with pytest.raises(UnavailableModelError, match="is not on this machine"):
        check("google/gemma-2b")


class Described:
    """What the hub's client returns of a model."""

    def __init__(self, *files):
        self.sha, self.gated = COMMIT, False
        self.siblings = [type("Sibling", (), {"rfilename": name}) for name in files]


@pytest.mark.parametrize("files", [("pytorch_model.bin",), ("onnx/model.safetensors",)])
def test_a_hub_model_without_safetensors_is_refused_before_it_is_fetched(monkeypatch, files):
    monkeypatch.setattr("salsa.models.source.obstacle", lambda: "")
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: Described(*files))
    with pytest.raises(UnavailableModelError, match=r"a/b has no \*\.safetensors file"):
        check("a/b")


def test_a_hub_model_within_reach_will_be_fetched(monkeypatch):
    monkeypatch.setattr("salsa.models.source.obstacle", lambda: "")
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: Described("model.safetensors"))
    assert check("a/b") is None


def test_the_check_imports_neither_torch_nor_the_hubs_client():
    code = (
        "import sys\nfrom salsa.models.source import UnavailableModelError, check\n"
        "try:\n    check('./nowhere')\nexcept UnavailableModelError:\n    pass\n"
        "assert not {'torch', 'transformers', 'huggingface_hub', 'numpy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
