"""Files that are written in pieces are the files that safetensors writes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from salsa.soup.checkpoint import INDEX, SINGLE, opened
from salsa.soup.writer import Writer, copied, planned
from tests.soup.test_checkpoint import KINDS, sharded

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda name: name != "__metadata__"
)
SHAPES = st.lists(st.integers(0, 3), max_size=3)


def described(tensors):
    kinds = {kind: name for name, kind in KINDS.items()}
    return [(name, kinds[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()]


def stored(tensor):
    return np.frombuffer(tensor.flatten().contiguous().view(torch.uint8).numpy().tobytes(), np.uint8)


def write(folder, tensors, shard_bytes=2**30):
    writer = Writer(folder, planned(described(tensors), shard_bytes))
    for name, tensor in reversed(tensors.items()):
        content = stored(tensor) if tensor.numel() else np.empty(0, np.uint8)
        half = len(content) // 2
        writer.write(name, half, content[half:])
        writer.write(name, 0, content[:half])
    writer.close()


@given(forms=st.dictionaries(NAMES, st.tuples(st.sampled_from(list(KINDS)), SHAPES), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_the_bytes_are_those_of_the_library(tmp_path_factory, forms):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: (10 * torch.rand(shape, generator=generator)).to(KINDS[kind]) for name, (kind, shape) in forms.items()
    }
    folder = tmp_path_factory.mktemp("model")
    write(folder, tensors)
    save_file(tensors, folder / "theirs", metadata={"format": "pt"})
    assert (folder / SINGLE).read_bytes() == (folder / "theirs").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == [SINGLE, "theirs"]


def test_shards_hold_what_fits_and_the_index_says_where(tmp_path):
    sizes = {"e": 3, "d": 1, "c": 1, "f": 2, "b": 5, "a": 1}
    write(tmp_path, {name: torch.full((size,), float(size)) for name, size in sizes.items()}, shard_bytes=16)
    files = [f"model-{number:05d}-of-00004.safetensors" for number in range(1, 5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*files, INDEX]
    parts = [load_file(tmp_path / name) for name in files]
    assert [sorted(part) for part in parts] == [["d", "e"], ["c", "f"], ["b"], ["a"]]
    assert all(tensor.tolist() == [sizes[name]] * sizes[name] for part in parts for name, tensor in part.items())
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {"total_size": 4 * 13}
    assert index["weight_map"] == {name: file for file, part in zip(files, parts, strict=True) for name in part}
    assert list(index["weight_map"]) == sorted(sizes)
    with opened(tmp_path) as model:
        assert model.bytes == 52


def test_a_copy_has_the_bytes_of_the_original(tmp_path):
    folder = sharded(tmp_path / "model")
    (tmp_path / "copy").mkdir()
    with opened(folder) as model:
        writer = Writer(tmp_path / "copy", copied(model))
        for name, entry in model.entries.items():
            writer.write(name, 0, np.frombuffer(model.raw(name, 0, entry.count), np.uint8))
        writer.close()
    for path in folder.iterdir():
        assert (tmp_path / "copy" / path.name).read_bytes() == path.read_bytes()


def test_until_it_is_closed_the_names_say_that_it_is_unfinished(tmp_path):
    tensors = {"a": torch.ones(4), "b": torch.ones(4)}
    writer = Writer(tmp_path, planned(described(tensors), 16))
    writer.write("b", 0, stored(tensors["b"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "unfinished-00000.safetensors",
        "unfinished-00001.safetensors",
    ]
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_fails_at_the_end_can_be_discarded(tmp_path, monkeypatch):
    tensors = {"a": torch.ones(4), "b": torch.ones(4)}
    writer = Writer(tmp_path, planned(described(tensors), 16))
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    assert len(list(tmp_path.glob("model-*"))) == 2
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_all_be_made_are_not_left(tmp_path):
    tensors = {"a": torch.ones(4), "b": torch.ones(4)}
    (tmp_path / "unfinished-00001.safetensors").mkdir()
    with pytest.raises(OSError, match="unfinished-00001"):
        Writer(tmp_path, planned(described(tensors), 16))
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished-00001.safetensors"]
