import csv
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.report.sweep.cells import Cell
from salsa.report.sweep.table import column, columns, rows, to_csv, to_parquet
from tests.report import factory
from tests.report.sweep.factory import cell, experiment, fingerprint, sweep

TEXT = st.text(st.characters())  # control characters and halves of surrogate pairs included
ALPHAS = {"soup.alpha": [0.0, 0.5, 1.0]}


def test_there_is_a_row_for_each_experiment_and_suite_and_one_for_the_mean() -> None:
    table = rows(sweep(ALPHAS))
    suites = [*factory.SUITES, "mean"]
    assert [(row["soup.alpha"], row["suite"]) for row in table] == [
        (a, s) for a in ALPHAS["soup.alpha"] for s in suites
    ]


def test_the_figures_are_those_of_the_experiment() -> None:
    keys = {"soup.alpha": 0.5}
    made = experiment(keys, 1.25)
    *_, hard, _, mean = rows([cell(0, keys, 1.25)])
    policy = next(row for row in made["rows"] if row["name"] == "SALSA")
    opponent = next(row for row in made["rows"] if row["name"] == "PPO")
    assert (mean["policy"], mean["opponent"], mean["level"]) == ("SALSA", "PPO", 0.95)
    assert [mean[f"judge{end}"] for end in ("", "_low", "_high")] == [1.25, 1.15, 1.35]
    assert [hard[f"judge{end}"] for end in ("", "_low", "_high")] == ends(policy["suites"]["hard"]["judge"])
    assert ends(opponent["suites"]["hard"]["judge"])[0] == hard["opponent_judge"]
    rates = policy["suites"]["hard"]["win_rate"]
    assert [hard[f"win_rate_vs_opponent{end}"] for end in ("", "_low", "_high")] == ends(rates["PPO"])
    assert [hard[f"win_rate_vs_SFT1{end}"] for end in ("", "_low", "_high")] == ends(rates["SFT1"])
    for anchor in factory.ANCHORS:
        for kind in ("k1", "k3"):
            found = [hard[f"kl_{kind}_to_{anchor}{end}"] for end in ("", "_low", "_high")]
            assert found == ends(policy["kl"][anchor][kind])
    assert (hard["recall"], hard["perplexity"]) == (policy["tax"]["recall"], policy["tax"]["perplexity"])
    assert hard["judge_fingerprint"] == "judge-SALSA-hard"
    assert mean["judge_fingerprint"].split() == [f"judge-SALSA-{suite}" for suite in factory.SUITES]
    assert (mean["fingerprint"], mean["policy_fingerprint"]) == (fingerprint(keys), policy["fingerprint"])


def ends(estimate: dict[str, Any]) -> list[float]:
    return [estimate["value"], estimate["low"], estimate["high"]]


def test_a_missing_experiment_has_a_row_a_suite_without_figures_but_with_its_reason() -> None:
    table = rows(sweep(ALPHAS, missing=[1]))
    missing = [row for row in table if row["soup.alpha"] == 0.5]
    assert [row["suite"] for row in missing] == [*factory.SUITES, "mean"]
    known = {"job", "jobs", "soup.alpha", "state", "suite", "fingerprint", "reason"}
    for row in missing:
        assert {name for name, value in row.items() if value is not None} == known
        assert (row["state"], row["reason"]) == ("missing", "job 1 was killed")


def test_a_sweep_without_any_result_has_a_row_a_cell() -> None:
    table = rows(sweep(ALPHAS, missing=[0, 1, 2]))
    assert [(row["soup.alpha"], row["suite"], row["judge"]) for row in table] == [
        (0.0, "mean", None),
        (0.5, "mean", None),
        (1.0, "mean", None),
    ]


def test_what_an_experiment_lacks_is_empty() -> None:
    made = experiment({}, 1.0)
    policy = next(row for row in made["rows"] if row["role"] == "policy")
    del policy["suites"]["hard"]
    policy["pooled"], policy["tax"], policy["kl"] = None, None, {}
    table = {row["suite"]: row for row in rows([Cell(0, {}, "f" * 64, made, "done")])}
    for suite in ("hard", "mean"):
        assert [table[suite][name] for name in ("judge", "win_rate_vs_opponent", "recall", "kl_k1_to_SFT1")] == [
            None
        ] * 4
    assert table["single"]["judge"] is not None


def test_an_opponent_of_any_name_has_one_column() -> None:
    first, second = experiment({"a": 1}, 1.0), experiment({"a": 2}, 1.0)
    for row in second["rows"]:
        for results in [*row["suites"].values(), row["pooled"]]:
            if "PPO" in results["win_rate"]:
                results["win_rate"]["PPO, 2 epochs"] = results["win_rate"].pop("PPO")
        row["name"] = "PPO, 2 epochs" if row["name"] == "PPO" else row["name"]
    second["opponents"] = ["PPO, 2 epochs", "SFT1"]
    cells = [Cell(0, {"a": 1}, "1" * 64, first, "done"), Cell(1, {"a": 2}, "2" * 64, second, "done")]
    assert {
        name for name in columns(cells) if name.startswith("win_rate") and not name.endswith(("_low", "_high"))
    } == {
        "win_rate_vs_opponent",
        "win_rate_vs_SFT1",
    }
    means = [row for row in rows(cells) if row["suite"] == "mean"]
    assert means[0]["win_rate_vs_opponent"] == means[1]["win_rate_vs_opponent"]
    assert [row["opponent"] for row in means] == ["PPO", "PPO, 2 epochs"]


@pytest.mark.parametrize("key", ["judge", "suite", "reward", "level", "kl_k1_to_SFT1", "judge_name", "jobs"])
def test_a_key_named_like_a_column_of_results_keeps_a_column_of_its_own(key: str) -> None:
    table = rows(sweep({key: ["first", "second"]}))
    assert column(key) == f"swept.{key}"
    assert {row[f"swept.{key}"] for row in table} == {"first", "second"}
    assert [row["suite"] for row in table[:5]] == [*factory.SUITES, "mean"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1], "int"),
        ([0, 0.5], "float"),
        ([None, 8], "int"),
        ([True, False], "bool"),
        ([True, 1], "str"),
        ([1, "auto"], "str"),
        (["llama2", None], "str"),
        ([None, None], "str"),
        ([2**63, 1], "float"),
    ],
)
def test_a_key_has_the_narrowest_type_that_holds_its_values(values: list[Any], kind: str) -> None:
    cells = [Cell(job, {"key": value}, str(job), None, "missing") for job, value in enumerate(values)]
    assert columns(cells)["key"] == kind
    read = pq.read_table(pa.BufferReader(to_parquet(cells, "title")))
    assert len(read.column("key")) == len(values)
    assert [value is None for value in read.column("key").to_pylist()] == [value is None for value in values]


def test_parquet_and_csv_hold_the_same_rows() -> None:
    cells = sweep({**ALPHAS, "model": ["llama2", "gemma"]}, missing=[2])
    expected = rows(cells)
    table = pq.read_table(pa.BufferReader(to_parquet(cells, "a title, “quoted”")))
    assert table.to_pylist() == expected
    assert table.schema.metadata[b"title"].decode() == "a title, “quoted”"
    assert str(table.schema.field("soup.alpha").type) == "double"
    assert str(table.schema.field("judge_n").type) == "int64"
    assert str(table.schema.field("reason").type) == "string"
    read = list(csv.DictReader(io.StringIO(to_csv(cells))))
    assert [list(row) for row in read] == [list(row) for row in expected]
    assert [row["judge"] for row in read] == ["" if row["judge"] is None else repr(row["judge"]) for row in expected]


@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT), min_size=1))
def test_any_values_of_a_key_can_be_written(values: list[Any]) -> None:
    cells = [Cell(job, {"key": value}, str(job), None, "missing") for job, value in enumerate(values)]
    assert len(list(csv.DictReader(io.StringIO(to_csv(cells))))) == len(values)
    assert pq.read_table(pa.BufferReader(to_parquet(cells, "title"))).num_rows == len(values)


def test_equal_cells_give_equal_bytes() -> None:
    first, second = sweep(ALPHAS, missing=[1]), sweep(ALPHAS, missing=[1])
    assert to_parquet(first, "title") == to_parquet(second, "title")
    assert to_csv(first) == to_csv(second)
