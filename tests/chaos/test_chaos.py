"""A short chaos test of the real command; `python -m tests.chaos` is the long one."""

from pathlib import Path

import pytest

from tests.chaos.account import account, markdown, write
from tests.chaos.harness import Chaos

KILLS, PROCESSES = 10, 2

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the processes there are from /proc"),
]


def test_kills_at_points_and_at_random_times_change_no_bit_and_cost_no_more_than_since_the_last_checkpoint(
    tmp_path: Path,
) -> None:
    chaos = Chaos(
        folder=tmp_path,
        arguments=("policy.steps=6",),
        processes=PROCESSES,
        kills=KILLS,
        seed=0,
        checkpoint_seconds=0.2,
        time_out=300,
    )
    done = chaos.run(0)
    result = account([done], KILLS, PROCESSES, "pytest")
    write(result, tmp_path / "report.json")
    assert not any(done.findings.values()), markdown(result)
    assert {kill["source"] for kill in done.kills} == {"named", "random"}
    # Few kills may find the work done before all of them have hit it.
    assert KILLS * 2 // 3 <= len(done.kills) <= KILLS
    assert done.stages == len(list((tmp_path / "round_0/reference/store").glob("*/*")))
