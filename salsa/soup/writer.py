"""Writing safetensors weights in pieces and in any order, with the layout that safetensors' own writer would give."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from salsa.soup import formats
from salsa.soup.checkpoint import INDEX, SINGLE, Checkpoint
from salsa.soup.formats import Array

UNFINISHED = "unfinished-*.safetensors"
"""The names of files that are being written."""

Form = tuple[str, str, tuple[int, ...]]
"""Name, number format and shape of a tensor."""

_RANKS = {dtype: rank for rank, dtype in enumerate(formats.BITS)}


@dataclass(frozen=True)
class Shard:
    """One file: its name, what stands before the tensors, and where each tensor begins; `bytes` is its length."""

    name: str
    header: bytes
    begins: Mapping[str, int]
    bytes: int


@dataclass(frozen=True)
class Layout:
    """The files of a model's weights; `index` is the content of the file that says which tensor is where."""

    shards: Sequence[Shard]
    index: bytes | None


def planned(forms: Iterable[Form], shard_bytes: int) -> Layout:
    """Return the layout of tensors in files of at most `shard_bytes` each, a single file where they all fit into one.

    Files are filled in the given order; within a file tensors lie as safetensors' own writer puts them.
    """
    parts: list[list[Form]] = [[]]
    filled = total = 0
    for form in forms:
        size = _size(form)
        if parts[-1] and filled + size > shard_bytes:
            parts.append([])
            filled = 0
        parts[-1].append(form)
        filled += size
        total += size
    if len(parts) == 1:
        return Layout([_shard(SINGLE, parts[0])], None)
    names = [f"model-{number:05d}-of-{len(parts):05d}.safetensors" for number in range(1, len(parts) + 1)]
    weight_map = {form[0]: name for name, part in zip(names, parts, strict=True) for form in part}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    shards = [_shard(name, part) for name, part in zip(names, parts, strict=True)]
    return Layout(shards, (json.dumps(index, indent=2) + "\n").encode())


def copied(model: Checkpoint) -> Layout:
    """Return the layout of an open model's own files, byte for byte."""
    shards = []
    for file in dict.fromkeys(entry.file for entry in model.entries.values()):
        entries = [entry for entry in model.entries.values() if entry.file == file]
        with file.open("rb") as stream:
            header = stream.read(min(entry.begin for entry in entries))
        begins = {entry.name: entry.begin for entry in entries}
        shards.append(Shard(file.name, header, begins, file.stat().st_size))
    index = model.folder / INDEX
    return Layout(shards, index.read_bytes() if index.is_file() else None)


class Writer:
    """The files of a layout, filled in any order and from any thread, under other names until they are complete."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder = folder
        self._layout = layout
        self._places: dict[str, tuple[int, int]] = {}
        self._descriptors: list[int] = []
        self._paths: list[Path] = []
        try:
            for number, shard in enumerate(layout.shards):
                self._begin(folder / UNFINISHED.replace("*", f"{number:05d}"), shard)
        except BaseException:
            self.discard()
            raise

    def write(self, name: str, start: int, elements: Array) -> None:
        """Write elements, as they are stored, from a place in a tensor on: `start` in bytes from its beginning."""
        descriptor, begin = self._places[name]
        _write(descriptor, elements.data.cast("B") if len(elements) else memoryview(b""), begin + start)

    def close(self) -> None:
        """Give the files the names by which the library looks for them."""
        self._release()
        for shard, path in zip(self._layout.shards, list(self._paths), strict=True):
            self._paths.append(self._folder / shard.name)
            path.replace(self._paths[-1])
        if self._layout.index is not None:
            self._paths.append(self._folder / INDEX)
            self._paths[-1].write_bytes(self._layout.index)

    def discard(self) -> None:
        """Remove all that was written."""
        self._release()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _begin(self, path: Path, shard: Shard) -> None:
        self._paths.append(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._descriptors.append(descriptor)
        os.ftruncate(descriptor, shard.bytes)
        _write(descriptor, memoryview(shard.header), 0)
        self._places.update({name: (descriptor, begin) for name, begin in shard.begins.items()})

    def _release(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())


def _shard(name: str, forms: Iterable[Form]) -> Shard:
    """Return a file with safetensors' header: large formats first, then by name; padded to whole words."""
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    end = 0
    for form in sorted(forms, key=lambda form: (-_RANKS[form[1]], form[0])):
        tensor, dtype, shape = form
        offsets[tensor], end = end, end + _size(form)
        described[tensor] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offsets[tensor], end]}
    text = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return Shard(name, header, {tensor: len(header) + offset for tensor, offset in offsets.items()}, len(header) + end)


def _size(form: Form) -> int:
    return formats.size(form[1], prod(form[2]))


def _write(descriptor: int, view: memoryview, place: int) -> None:
    while view:
        done = os.pwrite(descriptor, view, place)
        view, place = view[done:], place + done
