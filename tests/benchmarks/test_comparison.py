import json

import pytest

from benchmarks.peers.comparison import Comparison, in_turns, rate, report, screen, table


def run(seconds, units=10, peak=100.0, **more):
    return {"seconds": [seconds] * 3, "units": [units] * 3, "peak_mib": peak, "loaded_mib": 50.0, **more}


def compare(ours, peer, least=2.0):
    return Comparison("a task", "episodes", least, 3.0, ours, peer)


def test_a_rate_is_units_per_cpu_second_over_all_steps():
    assert rate({"seconds": [1.0, 3.0], "units": [10, 30]}) == 10.0


def test_the_ratio_is_the_median_of_the_rounds():
    comparison = compare([run(1.0), run(1.0), run(1.0)], [run(2.0), run(9.0), run(3.0)])
    assert comparison.ratios == pytest.approx([2.0, 9.0, 3.0])
    assert comparison.ratio == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("ours", "peer", "says"),
    [
        (run(1.0), run(1.9), "1.90 times the peer's episodes, wanted 2"),
        (run(1.0, peak=101.0), run(5.0), "peak memory 101 MiB, the peer's 100"),
        (run(1.0, losses=[1.0, 2.0]), run(5.0, losses=[1.0, 2.0001]), "a loss differs from the peer's by 1.0e-04"),
        (run(1.0, losses=[float("nan")]), run(5.0, losses=[1.0]), "a loss differs from the peer's by nan"),
    ],
)
def test_what_does_not_hold_is_named_with_its_figures(ours, peer, says):
    (failure,) = compare([ours], [peer]).failures
    assert failure == f"a task: {says}"


def test_memory_counts_only_where_it_is_said_to():
    comparison = Comparison("a task", "tokens", 2.0, 2.0, [run(1.0, peak=101.0)], [run(5.0)], memory_counts=False)
    assert comparison.failures == []


def test_nothing_fails_where_everything_holds():
    comparison = compare([run(1.0, losses=[1.0])], [run(2.0, losses=[1.0 + 1e-6])])
    assert comparison.failures == []


def test_the_share_of_the_floor_is_taken_at_each_rate():
    ours = run(2.0, operations=100, rates={"large": 100.0, "model": 50.0})
    assert compare([ours], [run(4.0)]).shares == {"large": pytest.approx(0.5), "model": pytest.approx(1.0)}


def test_programs_run_in_turns_and_take_turns_to_be_first():
    order = []

    def program(name):
        def call():
            order.append(name)
            return {"name": name, "number": len(order)}

        return call

    ours, peer = in_turns(program("ours"), program("peer"), 3)
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert [each["name"] for each in ours] == ["ours"] * 3
    assert [each["number"] for each in peer] == [2, 3, 6]


def test_the_table_has_a_line_a_task():
    ours = run(1.0, operations=1_000_000, rates={"large": 1e9, "model": 1e8})
    found = table([compare([ours], [run(2.0)]), compare([run(1.0)], [run(2.0)])], "title")
    assert found.row_count == 2


@pytest.mark.parametrize(("check", "code"), [(False, 0), (True, 1)])
def test_a_failure_ends_the_command_only_if_asked(check, code, tmp_path, capsys):
    file = tmp_path / "figures.json"
    assert report([compare([run(1.0)], [run(1.0)])], "title", screen(), file, check) == code
    assert "does not hold: a task" in capsys.readouterr().out
    (figures,) = json.loads(file.read_text())
    assert figures["ratio"] == 1.0
    assert figures["peer"][0]["seconds"] == [1.0] * 3
