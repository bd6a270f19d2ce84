"""Models for tests of soups: toys of one tensor, and what is in a folder."""

import torch

from tests.soup.toys import toy


def random_tensors(seed, count, dtype, size=40):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count)]


def toys(folder, tensors):
    """Write one toy for each tensor, which is its `w`."""
    return [toy(folder / f"{index}", w=tensor) for index, tensor in enumerate(tensors)]


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def weights_bytes(folder):
    return (folder / "model.safetensors").read_bytes()
