"""An adapter leaves the store as the full model that it makes of its base."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from salsa.models.adapters import SharedBase
from salsa.models.families import load_causal, load_scalar, save
from salsa.models.heads import head_weight
from salsa.store.artifact import Artifact, Store
from salsa.store.export import ExportError, is_adapter, kinds_with_models, merge_model
from tests.models.adapted import adapted
from tests.models.tiny import causal, tokenizer
from tests.store.artifacts import numbered

IDS = torch.tensor([[1, 5, 7, 3]])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store with a base, an SFT model and a reward model, both adapters."""
    store = Store(tmp_path / "outputs")
    draft = store.temporary("base", numbered(1))
    save(causal(), tokenizer(), draft)
    store.publish("base", numbered(1), draft, {"inputs": {}})
    for kind, number in (("sft", 2), ("reward", 3)):
        view = adapted(SharedBase(causal()), "made", number)
        if kind == "reward":
            view.give_head(head_weight(16, 0))
        draft = store.temporary(kind, numbered(number))
        save(view, tokenizer(), draft, base=f"../../base/{numbered(1)}")
        store.publish(kind, numbered(number), draft, {"inputs": {"base": numbered(1)}})
    return store


def found(store: Store, kind: str, number: int) -> Artifact:
    artifact = store.find(kind, numbered(number))
    assert artifact is not None
    return artifact


def test_a_language_model_is_merged(store: Store, tmp_path: Path) -> None:
    artifact = found(store, "sft", 2)
    assert is_adapter(artifact)
    assert not is_adapter(found(store, "base", 1))
    files = merge_model(artifact, store.artifacts(), tmp_path / "model")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(model(IDS).logits, load_causal(artifact.path)(IDS).logits)
    assert (model(IDS).logits - causal()(IDS).logits).abs().max() > 0.01


def test_a_reward_model_is_merged_and_keeps_its_head(store: Store, tmp_path: Path) -> None:
    artifact = found(store, "reward", 3)
    merge_model(artifact, store.artifacts(), tmp_path / "model")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(model(IDS).logits, load_scalar(artifact.path)(IDS).logits)


def test_kinds_of_adapters_have_models(store: Store) -> None:
    assert kinds_with_models(store.artifacts()) == ["base", "reward", "sft"]


@pytest.mark.parametrize(("kind", "number", "name"), [("sft", 2, "adapter_model"), ("base", 1, "model")])
def test_damage_of_adapter_or_base_is_named(store: Store, tmp_path: Path, kind: str, number: int, name: str) -> None:
    path = found(store, kind, number).path / f"{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ExportError, match=rf"{kind}.*{name}\.safetensors is damaged"):
        merge_model(found(store, "sft", 2), store.artifacts(), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_base_that_is_gone_is_named(store: Store, tmp_path: Path) -> None:
    store.remove("base", numbered(1))
    with pytest.raises(ExportError, match="there is no base model"):
        merge_model(found(store, "sft", 2), store.artifacts(), tmp_path / "model")


def test_a_folder_that_holds_something_is_left_alone(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is not an empty folder"):
        merge_model(found(store, "sft", 2), store.artifacts(), store.root)
