"""Where a result was made and with what: for the manifest, never for identity."""

import hashlib
import os
import platform
import resource
import socket
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pipelines.work import Execution

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "lightning", "transformers", "peft", "numpy", "safetensors", "tokenizers")


def provenance(execution: Execution) -> dict[str, Any]:
    """Return host, process, versions and settings of the execution."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": _versions(),
        "git_commit": _git_commit(),
        "code_digest": code_digest(),
        "threads": execution.threads,
        "accelerator": execution.accelerator,
        "micro_batch_tokens": execution.micro_batch_tokens,
    }


def cpu_seconds() -> float:
    """Return the CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_memory_mib() -> float:
    """Return the most memory that this process has held, in whatever stage; macOS counts bytes, others KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


@cache
def code_digest() -> str:
    """Return one SHA-256 over the names and contents of all Python files of the two packages."""
    digest = hashlib.sha256()
    for path in sorted(path for package in ("pipelines", "salsa") for path in (ROOT / package).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@cache
def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


@cache
def _git_commit() -> str | None:
    if not (ROOT / ".git").exists():
        return None
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=5, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
