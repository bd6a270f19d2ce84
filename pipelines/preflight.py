"""What must be at hand before anything starts: weights, data, a GPU. Answers within a second; imports no torch."""

import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlparse

from pipelines.configuration import Accelerator, Config, Origin
from pipelines.sources import UltraData

HUB = "https://huggingface.co"
CONNECT_SECONDS = 0.5


class Missing(RuntimeError):
    """Something the experiment needs is not there; the message says what it is and what to do."""


def check(config: Config) -> None:
    """Raise `Missing`, with everything that is missing at once, or return."""
    problems = _gpu(config) + _weights(config) + _sets(config)
    if problems:
        raise Missing("\n".join(problems))


def hub_reachable() -> bool:
    """Return whether the model hub answers; HF_HUB_OFFLINE says no at once."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    address = urlparse(os.environ.get("HF_ENDPOINT", HUB))
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False


def hub_cache() -> Path:
    """Return the folder in which the hub's client keeps what it has downloaded."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def _cached(kind: str, name: str) -> bool:
    snapshots = hub_cache() / f"{kind}s--{name.replace('/', '--')}" / "snapshots"
    return snapshots.is_dir() and any(snapshots.iterdir())


def _looks_local(name: str) -> bool:
    return name.startswith((".", "/", "~")) or Path(name).expanduser().exists()


def _gpu(config: Config) -> list[str]:
    present = Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
    if config.compute.accelerator is Accelerator.gpu and not present:
        return ["compute.accelerator=gpu: this machine has no NVIDIA GPU; use compute.accelerator=cpu, or another machine"]
    needs = config.scale.source is Origin.hub and config.compute.accelerator is Accelerator.auto
    if needs and not present and not _looks_local(config.model.name):
        return [
            f"scale={config.scale.name}: {config.model.name} needs a GPU and this machine has none; use scale=tiny, "
            "or say compute.accelerator=cpu if you mean it"
        ]
    return []


def _weights(config: Config) -> list[str]:
    if config.scale.source is not Origin.hub:
        return []
    name = config.model.name
    if _looks_local(name):
        folder = Path(name).expanduser()
        if not (folder / "config.json").is_file():
            return [f"model.name={name}: no model folder there (no config.json); give a folder in Hugging Face format"]
        if not any(folder.glob("*.safetensors")):
            return [f"model.name={name}: no .safetensors weights in that folder; other formats are not loaded"]
        return []
    if _cached("model", name) or hub_reachable():
        return []
    return [
        f"model.name={name}: the hub cannot be reached and the model is not in the local cache {hub_cache()}; connect, "
        "download it first, or give a local folder: model.name=/path/to/folder"
    ]


def _sets(config: Config) -> list[str]:
    data = config.data
    if not isinstance(data, UltraData):
        return []
    problems = []
    for key, name in (("demonstrations_set", data.demonstrations_set), ("preferences_set", data.preferences_set)):
        if _looks_local(name):
            if not any(Path(name).expanduser().rglob("*.parquet")):
                problems.append(f"data.{key}={name}: no Parquet files there; give a folder of them, or a hub name")
        elif not (_cached("dataset", name) or hub_reachable()):
            problems.append(
                f"data.{key}={name}: the hub cannot be reached and the set is not in the local cache {hub_cache()}; "
                f"connect, download it first, or give a local folder of Parquet files"
            )
    return problems
