"""Reading safetensors: what is in a file is read as safetensors itself reads it, and what is damaged is said."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from salsa.soup.checkpoint import INDEX, SINGLE, SoupError, opened, opened_files, weight_files
from tests.soup.toys import toy

KINDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "U16": torch.uint16,
    "C64": torch.complex64,
}


def raw_file(path, header, body=b"", length=None):
    """A file with any header and body."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + body)
    return path.parent


def described(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def sharded(folder, count=3):
    """A model in files of two tensors each, with its index."""
    folder.mkdir()
    weight_map = {}
    for number in range(count):
        name = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        tensors = {f"{letter}{number}": torch.full((2,), float(number)) for letter in "ab"}
        save_file(tensors, folder / name)
        weight_map.update(dict.fromkeys(tensors, name))
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def edit_index(folder, change):
    content = json.loads((folder / INDEX).read_text())
    change(content["weight_map"])
    (folder / INDEX).write_text(json.dumps(content))


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_tensor_of_every_kind_is_read_as_it_is_stored(tmp_path, kind):
    tensor = (torch.arange(6) % 2).to(KINDS[kind]).reshape(2, 3)
    with opened(toy(tmp_path, some__name=tensor, empty=tensor[:0].clone(), scalar=tensor[0, 1].clone())) as model:
        entry = model.entries["some.name"]
        assert (entry.dtype, entry.shape, entry.count) == (kind, (2, 3), 6)
        assert entry.floating is (kind in ("F64", "F32", "F16", "BF16"))
        assert entry.bytes == tensor.nbytes
        assert model.read("some.name").tolist() == tensor.tolist()
        assert model.read("empty").shape == (0, 3)
        assert model.read("scalar").shape == ()
        assert model.raw("some.name", 2, 5) == tensor.flatten()[2:5].view(torch.uint8).numpy().tobytes()
        assert model.bytes == tensor.nbytes + tensor[0, 1].nbytes


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4), piece=st.integers(1, 45))
@settings(max_examples=40, deadline=None)
def test_pieces_joined_are_the_tensor(tmp_path_factory, sizes, piece):
    generator = torch.Generator().manual_seed(sum(sizes))
    tensors = {f"t{index}": torch.randn(size, generator=generator).bfloat16() for index, size in enumerate(sizes)}
    with opened(toy(tmp_path_factory.mktemp("model"), **tensors)) as model:
        for name, tensor in tensors.items():
            parts = [part.copy() for part in model.pieces(name, piece)]
            assert all(len(part) <= piece for part in parts)
            assert np.concatenate([*parts, []]).tolist() == tensor.tolist()
            assert model.values(name, len(tensor) // 2, len(tensor)).tolist() == tensor[len(tensor) // 2 :].tolist()


def test_values_go_where_they_are_wanted(tmp_path):
    with opened(toy(tmp_path, w=torch.arange(10).half())) as model:
        wanted = np.zeros(8)
        found = model.values("w", 3, 6, out=wanted)
        assert wanted.tolist() == [3, 4, 5, 0, 0, 0, 0, 0]
        assert found.tolist() == [3, 4, 5]


def test_shards_are_one_model_in_the_order_of_the_files(tmp_path):
    with opened(sharded(tmp_path / "model")) as model:
        assert list(model.entries) == ["a0", "b0", "a1", "b1", "a2", "b2"]
        assert [model.read(name)[0] for name in model.entries] == [0, 0, 1, 1, 2, 2]
        assert [file.name for file in weight_files(tmp_path / "model")] == [
            f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)
        ]


def test_files_are_closed_at_the_end_and_after_an_error(tmp_path):
    listed = Path("/proc/self/fd")
    if not listed.is_dir():
        pytest.skip("counts open files in /proc")

    def files():
        return len(list(listed.iterdir()))

    before = files()
    with opened(sharded(tmp_path / "model")):
        assert files() == before + 3
    assert files() == before
    (tmp_path / "model" / "model-00003-of-00003.safetensors").write_bytes(b"")
    with pytest.raises(SoupError), opened(tmp_path / "model"):
        pass
    assert files() == before


def test_a_format_without_averages_is_named(tmp_path):
    low = torch.ones(4).to(torch.float8_e4m3fn)
    with opened(toy(tmp_path, low=low, whole=torch.ones(2, dtype=torch.int64))) as model:
        assert model.raw("low", 0, 4) == low.view(torch.uint8).numpy().tobytes()
        for name, dtype in (("low", "F8_E4M3"), ("whole", "I64")):
            with pytest.raises(
                SoupError, match=rf"tensor {name} of .* number format {dtype}; only F64, F32, F16, BF16"
            ):
                model.values(name, 0, 1)
            with pytest.raises(SoupError, match=dtype):
                next(model.pieces(name))
        with pytest.raises(SoupError, match="F8_E4M3, which is not read"):
            model.read("low")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", r"git-lfs pointer .*git lfs pull"),
        (b"PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00", "is a pickle in spite of its name"),
        (b"\x80\x02}q\x00X\x01\x00\x00\x00", "is a pickle in spite of its name"),
        (b"<!DOCTYPE html><html></html>", r"is not a safetensors file; copy or download model.safetensors again"),
        (b"", "is truncated|not a safetensors file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{", "is truncated: 9 bytes, its header alone takes 24"),
        ((2**40).to_bytes(8, "little") + b"{}", "is not a safetensors file"),
    ],
)
def test_what_is_no_safetensors_file_is_said(tmp_path, content, message):
    (tmp_path / SINGLE).write_bytes(content)
    with pytest.raises(SoupError, match=message) as error, opened(tmp_path):
        pass
    assert str(tmp_path / SINGLE) in str(error.value)


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        ({"w": described()}, b"\0" * 7, "is truncated: .* bytes, its header describes"),
        ({"w": described()}, b"\0" * 9, "is too long"),
        ({"w": described(offsets=(4, 12))}, b"\0" * 12, "overlap or leave a hole before w"),
        ({"v": described(), "w": described(offsets=(4, 12))}, b"\0" * 12, "overlap or leave a hole before w"),
        ({"v": described(), "w": described(offsets=(12, 20))}, b"\0" * 20, "overlap or leave a hole before w"),
        ({"w": described(dtype="F33")}, b"\0" * 8, "describes its tensor w as .*F33"),
        ({"w": described(shape=(3,))}, b"\0" * 8, "describes its tensor w as"),
        ({"w": described(shape=(-2,))}, b"\0" * 8, "describes its tensor w as"),
        ({"w": described(shape=(True, 2))}, b"\0" * 8, "describes its tensor w as"),
        ({"w": described(offsets=(8, 0))}, b"\0" * 8, "describes its tensor w as"),
        ({"w": described(offsets=(0,))}, b"\0" * 8, "describes its tensor w as"),
        ({"w": {"dtype": "F32", "shape": [2]}}, b"\0" * 8, "describes its tensor w as"),
        ({"w": None}, b"\0" * 8, "describes its tensor w as null"),
        (b"{not json}", b"", "a header that is not JSON"),
        (b'{"\xff":1}', b"", "a header that is not JSON"),
    ],
)
def test_a_damaged_header_is_said(tmp_path, header, body, message):
    raw_file(tmp_path / SINGLE, header, body)
    with pytest.raises(SafetensorError):
        load_file(tmp_path / SINGLE)
    with pytest.raises(SoupError, match=message) as error, opened(tmp_path):
        pass
    assert str(tmp_path / SINGLE) in str(error.value)
    assert "again" in str(error.value)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_damage_is_an_error_with_a_message_or_changes_nothing_but_values(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    toy(folder, w=torch.arange(3.0), v=torch.arange(4))
    content = bytearray((folder / SINGLE).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / SINGLE).write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    said = None
    try:
        with opened(folder) as model:
            for name, entry in model.entries.items():
                assert len(model.raw(name, 0, entry.count)) == entry.bytes
    except SoupError as error:
        said = str(error)
    assert said is None or str(folder / SINGLE) in said


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    with opened(toy(tmp_path, w=torch.ones(1000))) as model:
        os.truncate(tmp_path / SINGLE, 2000)
        with pytest.raises(SoupError, match=r"model.safetensors has become shorter"):
            model.read("w")


def test_missing_files_are_named_and_what_is_there_instead(tmp_path):
    with pytest.raises(SoupError, match=r"model.safetensors is missing; models are averaged from safetensors"):
        weight_files(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(SoupError, match=r"pytorch_model.bin, and loading those can run code"), opened(tmp_path):
        pass
    sharded(tmp_path / "model")
    (tmp_path / "model" / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(SoupError, match=r"model-00002-of-00003\.safetensors is missing"), opened(tmp_path / "model"):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.update(c=said["a0"]), "says that c is in model-00001.* but it is in none of them"),
        (lambda said: said.pop("a0"), "says that a0 is in no file, but it is in model-00001"),
        (lambda said: said.update(a0=said["a2"]), "says that a0 is in model-00003.* but it is in model-00001"),
        (lambda said: said.update(a0="../model.safetensors"), "does not name files of its own folder"),
        (lambda said: said.update(a0=7), "does not name files of its own folder"),
        (lambda said: said.clear(), "does not name files of its own folder"),
    ],
)
def test_an_index_that_disagrees_with_the_files_is_refused(tmp_path, change, message):
    edit_index(sharded(tmp_path / "model"), change)
    with pytest.raises(SoupError, match=message), opened(tmp_path / "model"):
        pass


def test_a_single_file_beside_shards_is_refused_unless_the_index_means_it(tmp_path):
    folder = sharded(tmp_path / "model")
    toy(folder, a0=torch.ones(1))
    with (
        pytest.raises(SoupError, match=r"says that a0 is in model-00001.* but it is in model.safetensors"),
        opened(folder),
    ):
        pass
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a0": SINGLE}}))
    with opened(folder) as model:
        assert list(model.entries) == ["a0"]


@pytest.mark.parametrize("content", ["", "[]", '{"weight_map": 3}', '{"weight_map": {"a": []}}'])
def test_what_is_no_index_is_said(tmp_path, content):
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(SoupError, match="is not an index of weights"):
        weight_files(tmp_path)


def test_two_files_with_one_tensor_are_refused(tmp_path):
    folder = sharded(tmp_path / "model")
    first, second, _ = sorted(folder.glob("*.safetensors"))
    shutil.copyfile(first, second)
    with pytest.raises(SoupError, match="both hold a0"), opened(folder):
        pass


def test_files_of_any_name_are_opened_as_one(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "adapter_model.safetensors")
    with opened_files(tmp_path, [tmp_path / "adapter_model.safetensors"]) as model:
        assert model.read("w").tolist() == [1, 1]
