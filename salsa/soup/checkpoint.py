"""Reading safetensors weights piece by piece, whether in one file or in shards, without torch and without mapping.

Files are read into buffers rather than mapped into memory: a file that shrinks while it is read is an error with a
message and not the death of the process, and how much memory is used does not depend on what the system keeps mapped.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from salsa.soup import formats
from salsa.soup.formats import Array

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PIECE = 2**16
"""Elements that are read at once: few enough to stay in a core's cache."""

_LONGEST_HEADER = 100_000_000
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class SoupError(ValueError):
    """Models that cannot be averaged, or weights that make no average; the message names the first difference."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tensor lies: `begin` is the place of its first byte in `file`, `bytes` its size there."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    bytes: int

    @property
    def count(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def floating(self) -> bool:
        """Whether its numbers can be averaged."""
        return self.dtype in formats.FLOATING


class Checkpoint:
    """The open weights of one model folder; any number of threads may read at once."""

    def __init__(self, folder: Path, entries: Mapping[str, Entry], descriptors: Mapping[Path, int]) -> None:
        self.folder = folder
        self.entries = entries
        self.bytes = sum(entry.bytes for entry in entries.values())
        self._descriptors = descriptors

    def values(self, name: str, start: int, stop: int, out: Array | None = None) -> Array:
        """Return the flat elements [start, stop) of a floating tensor in float64, in `out` if given.

        Raises:
            SoupError: if the tensor is of a format that has no averages, or the file has become shorter.
        """
        entry = self._averageable(name)
        numbers = np.empty(stop - start, formats.STORED[entry.dtype])
        self.fill(name, start, numbers)
        return formats.widen(entry.dtype, numbers, np.empty(stop - start) if out is None else out[: stop - start])

    def pieces(self, name: str, size: int = PIECE) -> Iterator[Array]:
        """Yield a floating tensor in float64 and in order, at most `size` elements at once.

        Each array is overwritten by the next one. Raises what `values` raises.
        """
        entry = self._averageable(name)
        numbers = np.empty(min(size, entry.count), formats.STORED[entry.dtype])
        wide = np.empty(len(numbers))
        for start in range(0, entry.count, size):
            length = min(size, entry.count - start)
            self.fill(name, start, numbers[:length])
            yield formats.widen(entry.dtype, numbers[:length], wide[:length])

    def read(self, name: str) -> Array:
        """Return a whole tensor in its own format; BF16, which numpy does not have, as float32.

        Raises:
            SoupError: if numpy has nothing like its format, or the file has become shorter.
        """
        entry = self.entries[name]
        if entry.dtype not in formats.STORED:
            raise SoupError(
                f"the tensor {name} of {self.folder} has the number format {entry.dtype}, which is not read"
            )
        numbers = np.empty(entry.count, formats.STORED[entry.dtype])
        self.fill(name, 0, numbers)
        if entry.dtype == "BF16":
            numbers = np.left_shift(numbers, 16, dtype=np.uint32).view(np.float32)
        return numbers.reshape(entry.shape)

    def raw(self, name: str, start: int, stop: int) -> bytes:
        """Return the bytes of the flat elements [start, stop) of a tensor of any format."""
        entry = self.entries[name]
        content = np.empty(formats.size(entry.dtype, stop) - formats.size(entry.dtype, start), np.uint8)
        self.fill(name, start, content)
        return content.tobytes()

    def fill(self, name: str, start: int, buffer: Array) -> None:
        """Read the bytes of a tensor from the flat element `start` on, as many as `buffer` takes.

        Raises:
            SoupError: if the file has become shorter.
        """
        entry = self.entries[name]
        view = buffer.data.cast("B") if len(buffer) else memoryview(b"")
        place = entry.begin + formats.size(entry.dtype, start)
        while view:
            done = os.preadv(self._descriptors[entry.file], [view], place)
            if done == 0:
                raise SoupError(f"{entry.file} has become shorter while it was read; run again when it is complete")
            view, place = view[done:], place + done

    def _averageable(self, name: str) -> Entry:
        entry = self.entries[name]
        if not entry.floating:
            raise SoupError(
                f"the tensor {name} of {self.folder} has the number format {entry.dtype}; only "
                f"{', '.join(formats.FLOATING)} have averages: save the model in one of them"
            )
        return entry


@contextmanager
def opened(folder: Path) -> Iterator[Checkpoint]:
    """Open the weights of a model folder for reading.

    Raises:
        SoupError: if files are missing, incomplete or not safetensors, or disagree with their index.
    """
    with opened_files(folder, weight_files(folder)) as checkpoint:
        _check_index(checkpoint)
        yield checkpoint


@contextmanager
def opened_files(folder: Path, files: Sequence[Path]) -> Iterator[Checkpoint]:
    """Open given safetensors files of a folder as one checkpoint.

    Raises:
        SoupError: if they are incomplete or not safetensors, or two of them hold a tensor of one name.
    """
    entries: dict[str, Entry] = {}
    descriptors: dict[Path, int] = {}
    try:
        for file in files:
            descriptors[file] = os.open(file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            for entry in _entries(file, descriptors[file]):
                if entry.name in entries:
                    raise SoupError(
                        f"{entries[entry.name].file} and {file} both hold {entry.name}; save the model again"
                    )
                entries[entry.name] = entry
        yield Checkpoint(folder, entries, descriptors)
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a model folder, without their index; those that the library loads.

    Raises:
        SoupError: if there are none, or the index is not one or names a file that is missing.
    """
    files = [folder / SINGLE]
    if not files[0].is_file() and (folder / INDEX).is_file():
        files = [folder / name for name in sorted(set(_weight_map(folder).values()))]
    for file in files:
        if not file.is_file():
            raise SoupError(f"{file} is missing; {_instead(folder)}")
    return files


def _instead(folder: Path) -> str:
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled:
        return (
            f"the folder holds {', '.join(pickled)}, and loading those can run code from the file: "
            "save the model as safetensors"
        )
    return "models are averaged from safetensors weights: copy or download the model again"


def _weight_map(folder: Path) -> dict[str, str]:
    """Return which file the index says each tensor is in."""
    path = folder / INDEX
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = set(found.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SoupError(f"{path} is not an index of weights; copy or download the model again") from error
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise SoupError(f"{path} does not name files of its own folder; copy or download the model again")
    return found


def _check_index(checkpoint: Checkpoint) -> None:
    """Refuse an index that says something else than the files: a part of the model may be of another one."""
    path = checkpoint.folder / INDEX
    if not path.is_file():
        return
    said = _weight_map(checkpoint.folder)
    for name in [*said, *checkpoint.entries]:
        holder = checkpoint.entries[name].file.name if name in checkpoint.entries else None
        if said.get(name) != holder:
            raise SoupError(
                f"{path} says that {name} is in {said.get(name, 'no file')}, but it is in {holder or 'none of them'}; "
                "copy or download the model again"
            )


def _entries(file: Path, descriptor: int) -> list[Entry]:
    """Return the tensors of one file by name, each of them checked to lie within it."""
    length = os.fstat(descriptor).st_size
    header, begin = _header(file, descriptor, length)
    entries = []
    for name, value in sorted(header.items()):
        if name == "__metadata__":
            continue
        try:
            entries.append(_entry(name, file, begin, value))
        except (KeyError, TypeError, ValueError) as error:
            raise SoupError(f"{file} describes its tensor {name} as {_short(value)}; {_again(file)}") from error
    end = begin
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.bytes)):
        if entry.begin != end:
            raise SoupError(f"the tensors of {file} overlap or leave a hole before {entry.name}; {_again(file)}")
        end = entry.begin + entry.bytes
    if end != length:
        kind = "truncated" if length < end else "too long"
        raise SoupError(f"{file} is {kind}: {length:,} bytes, its header describes {end:,}; {_again(file)}")
    return entries


def _header(file: Path, descriptor: int, length: int) -> tuple[dict[str, Any], int]:
    """Return the description of the tensors, and where the first one begins."""
    start = os.pread(descriptor, 64, 0)
    size = int.from_bytes(start[:8], "little")
    if start.startswith(b"version https://git-lfs"):
        raise SoupError(f"{file} is a git-lfs pointer and not the file itself; run `git lfs pull` in its repository")
    if start[8:9] != b"{" and start.startswith((b"PK", b"\x80")):
        raise SoupError(f"{file} is a pickle in spite of its name; save the model as safetensors")
    if start[8:9] not in (b"{", b"") or size > _LONGEST_HEADER:
        raise SoupError(f"{file} is not a safetensors file; {_again(file)}")
    if 8 + size > length:
        raise SoupError(f"{file} is truncated: {length:,} bytes, its header alone takes {8 + size:,}; {_again(file)}")
    try:
        header = json.loads(os.pread(descriptor, size, 8).decode("utf-8"))
    except ValueError as error:
        raise SoupError(f"{file} has a header that is not JSON ({error}); {_again(file)}") from error
    if not isinstance(header, dict):
        raise SoupError(f"{file} is not a safetensors file; {_again(file)}")
    return header, 8 + size


def _entry(name: str, file: Path, begin: int, value: Any) -> Entry:
    dtype, shape, (start, stop) = value["dtype"], value["shape"], value["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
        raise ValueError("a size that is not a whole number")
    if stop - start != formats.size(dtype, prod(shape)):
        raise ValueError("offsets that do not fit the shape")
    # Many models have the same names, and some of them tens of thousands.
    return Entry(sys.intern(name), file, dtype, tuple(shape), begin + start, stop - start)


def _again(file: Path) -> str:
    return f"copy or download {file.name} again"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
