import json
import subprocess
import sys

import pytest
import torch

from benchmarks import memory
from salsa.models import head


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    """Measuring changes the bound of the head and the number of threads of its process."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(head, "MAX_LOGITS", head.MAX_LOGITS)
    yield
    torch.set_num_threads(threads)


def test_both_heads_give_the_same_log_probabilities():
    whole, parts = (memory.measure(300, 3, 8, max_logits) for max_logits in (memory.WHOLE, 500))
    assert parts["logps"] == pytest.approx(whole["logps"], rel=1e-6)
    assert whole["logps"] < -3 * 8 * 4
    assert whole["cpu_seconds"] > 0


def test_a_head_that_does_not_fit_is_skipped_and_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(memory, "_available", lambda: 100.0)
    found = memory.cell(256_000, 64, 128, chunked=False)
    assert found["skipped"] == "needs about 6 GiB, 0 are free"


def test_the_table_has_a_line_for_each_cell():
    text = memory.table(
        [
            {"vocabulary": 9, "head": "whole", "skipped": "needs about 6 GiB"},
            {"vocabulary": 9, "head": "chunked", "mebibytes": 12.3, "cpu_seconds": 4.56, "logps": -1.0},
        ]
    )
    assert text.splitlines()[2:] == ["| 9 | whole | needs about 6 GiB | – |", "| 9 | chunked | 12 | 4.6 |"]


@pytest.mark.slow
def test_the_command_measures_less_memory_for_the_chunked_head():
    command = ["--vocabulary", "32000", "--rows", "6", "--reply", "128", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *command], cwd=memory.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    whole, chunked = json.loads(done.stdout)
    assert (whole["head"], chunked["head"]) == ("whole", "chunked")
    assert chunked["logps"] == pytest.approx(whole["logps"], rel=1e-6)
    assert chunked["mebibytes"] < whole["mebibytes"] / 2
