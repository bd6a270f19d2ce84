"""Model folders that hold nothing but tensors, and what is in one."""

import torch
from safetensors.torch import load_file, save_file


def toy(folder, **tensors):
    """Write tensors as a model without an architecture; "." in a name is written "__"."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    named = {name.replace("__", "."): torch.as_tensor(tensor).contiguous() for name, tensor in tensors.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def weights_of(folder):
    """Return the tensors of a model folder of one file by name."""
    return load_file(folder / "model.safetensors")
