"""Rounds go on until there were enough kills and every point had one; kills are spread over the work."""

from pathlib import Path
from typing import Any

import pytest

from tests.chaos.comparison import Lost
from tests.chaos.harness import Chaos, Round, rounds
from tests.chaos.ledger import RANDOM, Budget
from tests.chaos.points import POINTS


def kills_at(*points: str) -> list[dict[str, Any]]:
    return [{"point": point, "kind": "align", "scope": "one process"} for point in points]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Chaos]:
    """What rounds were asked for; the first misses the last two points, later ones do as asked."""
    asked: list[Chaos] = []

    def run(chaos: Chaos, number: int) -> Round:
        asked.append(chaos)
        points = POINTS[:-2] if number == 0 else tuple(set(POINTS) - set(chaos.hit))
        kills = kills_at(*points, *[RANDOM] * (chaos.kills - len(points)))
        return Round(str(chaos.folder), 1, kills, [], {}, Lost(0, 0, 0, 0.0, []), 0.2, 0, 1.0, {})

    monkeypatch.setattr(Chaos, "run", run)
    return asked


def test_another_round_asks_only_for_what_is_missing(asked: list[Chaos], tmp_path: Path) -> None:
    done = rounds(Chaos(tmp_path, (), 4, 40, 7, 0.2, 60.0), most=5, keep=True)
    assert [(chaos.kills, chaos.seed) for chaos in asked] == [(40, 7), (2, 8)]
    assert set(POINTS) - set(asked[1].hit) == set(POINTS[-2:])
    assert {kill["point"] for round_ in done for kill in round_.kills} == {*POINTS, RANDOM}


def test_there_are_no_more_rounds_than_allowed(asked: list[Chaos], tmp_path: Path) -> None:
    assert len(rounds(Chaos(tmp_path, (), 4, 40, 0, 0.2, 60.0), most=1, keep=True)) == 1


def test_kills_are_allowed_as_the_work_is_done(tmp_path: Path) -> None:
    budget = Budget(str(tmp_path), named=60, random=40, weights={"align": 5.0}, total=10.0, slack=4)
    assert (budget.allowed("named"), budget.allowed("random")) == (4, 4)
    (tmp_path / "store/align/one").mkdir(parents=True)
    assert budget.allowed("named") == 4 + int(60 * 5 / 8.5)
    for number in range(5):
        (tmp_path / f"store/judge/{number}").mkdir(parents=True)
    assert (budget.allowed("named"), budget.allowed("random")) == (60, 40)
