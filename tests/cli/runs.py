"""Small models for `salsa soup`, and ways to run it in a process of its own, also one that is held in the middle."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from salsa.models.families import save
from tests.models.tiny import causal, tokenizer

ROOT = Path(__file__).parents[2]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ ' ' + message.content + ' ' }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
_HELD = """
import signal, sys, time
from salsa.soup import merge

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
real = merge.average

def patient(*arguments, progress=None, **options):
    def wait(done, total):
        print("held", flush=True)
        time.sleep(600)

    real(*arguments, progress=wait, **options)

merge.average = patient
from salsa.cli import main
sys.exit(main(sys.argv[1:]))
"""


def model(folder: Path, seed: int, **changes: object) -> Path:
    """Save a small language model whose chat template can be learned from."""
    words = tokenizer()
    words.chat_template = TEMPLATE
    save(causal(seed=seed, **changes), words, folder)
    return folder


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a model, whatever the number of its files."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in a folder and below."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def salsa(*words: object) -> subprocess.CompletedProcess[str]:
    """Run `salsa soup` in a process of its own."""
    command = [sys.executable, "-m", "salsa.cli", "soup", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=_environment())


@contextmanager
def held(*words: object) -> Iterator[subprocess.Popen[str]]:
    """Start `salsa soup` in a process that waits in the middle of writing, and give it when it does."""
    command = [sys.executable, "-c", _HELD, "soup", *map(str, words)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=_environment()) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n", process.communicate()
            yield process
        except BaseException:
            process.kill()  # else the end of this block waits for it
            raise


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}
