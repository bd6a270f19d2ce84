"""Reading and writing safetensors weights tensor by tensor, whether in one file or in shards."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class SoupError(ValueError):
    """Models that cannot be averaged, or weights that make no average; the message names the first difference."""


@dataclass(frozen=True)
class Tensors:
    """The open weights of one model folder: names in the order of the files, read one by one."""

    folder: Path
    files: Mapping[str, Any]

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor (on the CPU)."""
        return self.files[name].get_tensor(name)

    def form(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Return number format (as safetensors names it) and shape of a tensor without reading it."""
        piece = self.files[name].get_slice(name)
        return piece.get_dtype(), tuple(piece.get_shape())


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a model folder, without their index.

    Raises:
        SoupError: if there are none, or the index names one that is missing.
    """
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        files = [folder / name for name in sorted(set(index["weight_map"].values()))]
    else:
        files = [folder / SINGLE]
    for file in files:
        if not file.is_file():
            raise SoupError(f"{file} is missing; models are averaged from safetensors weights")
    return files


@contextmanager
def opened(folder: Path) -> Iterator[Tensors]:
    """Open the weights of a model folder for reading.

    Raises:
        SoupError: if files are missing.
    """
    with ExitStack() as stack:
        files = {}
        for path in weight_files(folder):
            file = stack.enter_context(safe_open(path, framework="pt", device="cpu"))
            files.update(dict.fromkeys(file.keys(), file))
        yield Tensors(folder, files)


class Writer:
    """Collects tensors into safetensors files of at most `shard_bytes` each; one file where they all fit into one."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self.folder = folder
        self.shard_bytes = shard_bytes
        self.total = 0
        self._pending: dict[str, torch.Tensor] = {}
        self._pending_bytes = 0
        self._shards: list[tuple[Path, list[str]]] = []

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Take the next tensor."""
        size = tensor.numel() * tensor.element_size()
        if self._pending and self._pending_bytes + size > self.shard_bytes:
            self._flush()
        self._pending[name] = tensor.contiguous()
        self._pending_bytes += size
        self.total += size

    def close(self) -> None:
        """Write what is left, and give the files the names by which the library looks for them."""
        self._flush()
        if len(self._shards) == 1:
            self._shards[0][0].replace(self.folder / SINGLE)
            return
        weight_map = {}
        for number, (path, names) in enumerate(self._shards, start=1):
            final = self.folder / f"model-{number:05d}-of-{len(self._shards):05d}.safetensors"
            path.replace(final)
            weight_map.update(dict.fromkeys(names, final.name))
        index = {"metadata": {"total_size": self.total}, "weight_map": dict(sorted(weight_map.items()))}
        (self.folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def discard(self) -> None:
        """Remove the files written so far."""
        for path, _ in self._shards:
            path.unlink(missing_ok=True)

    def _flush(self) -> None:
        path = self.folder / f"unfinished-{len(self._shards):05d}.safetensors"
        save_file(self._pending, path, metadata={"format": "pt"})
        self._shards.append((path, list(self._pending)))
        self._pending, self._pending_bytes = {}, 0
