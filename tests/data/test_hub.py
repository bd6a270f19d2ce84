"""Hub sets from local folders, from the cache, through `datasets`, and out of reach."""

import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RevisionNotFoundError

from salsa.data.hub import ingest_hub, open_set
from salsa.data.ingestion import IngestSettings
from salsa.data.rows import DataError
from salsa.data.sets import HubSet, check_sets, ultra_sets
from tests import hub_cache
from tests.data.files import read_lines, ultra_chat, ultra_pair, write_lines, write_parquet
from tests.hub_cache import COMMIT

ASKED = frozenset({"prompt", "messages"})


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub_cache.without_network(monkeypatch, tmp_path / "hub_home")


def write_ultra(folder: Path) -> tuple[str, str]:
    """Write both sets as their hub repositories have them, UltraChat in two files."""
    chat, feedback = folder / "ultrachat" / "data", folder / "ultrafeedback" / "data"
    rows = [ultra_chat(f"Chat about {n}?") for n in range(60)]
    write_parquet(chat / "train_sft-00000-of-00002-a3ecf92756993583.parquet", rows[:40])
    write_parquet(chat / "train_sft-00001-of-00002-0a1804bcb6ae68c6.parquet", rows[40:])
    write_parquet(chat / "test_sft-00000-of-00001.parquet", [ultra_chat(f"Test chat {n}?") for n in range(5)])
    write_parquet(feedback / "train_prefs-00000-of-00001.parquet", [ultra_pair(f"Prefer {n}?") for n in range(120)])
    write_parquet(feedback / "test_prefs-00000-of-00001.parquet", [ultra_pair(f"Test pair {n}?") for n in range(6)])
    return str(chat.parent), str(feedback.parent)


def test_local_folders_take_the_place_of_hub_names(tmp_path: Path) -> None:
    chat, feedback = write_ultra(tmp_path)
    suite = write_lines(tmp_path / "more.jsonl", [{"instruction": "More?"}])
    sets = ultra_sets(demonstrations=chat, preferences=feedback)
    report = ingest_hub(sets, tmp_path / "out", IngestSettings(), prompts={"more": suite})
    assert report["counts"]["demonstrations"] == 60
    assert report["tables"][-1]["name"] == f"{chat} (split train_sft)"
    assert {name: report["suites"][name] for name in ("ultrachat", "ultrafeedback", "more")} == {
        "ultrachat": 5,
        "ultrafeedback": 6,
        "more": 1,
    }
    # The pinned columns of the test split are the prompt's: the first question and not the last one of `messages`.
    first = read_lines(tmp_path / "out" / "suites" / "ultrachat.jsonl")[0]
    assert (first["id"], first["questions"], first["context"]) == ("id of Test chat 0?", ["Test chat 0?"], [])


def test_a_suite_cannot_have_two_sources(tmp_path: Path) -> None:
    chat, feedback = write_ultra(tmp_path)
    suite = write_lines(tmp_path / "more.jsonl", [{"instruction": "More?"}])
    with pytest.raises(DataError, match="'ultrachat' is made of a hub set already"):
        ingest_hub(ultra_sets(chat, None, feedback, None), tmp_path, IngestSettings(), prompts={"ultrachat": suite})


def test_columns_are_pinned(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "train.parquet", [{"question": "x"}])
    with pytest.raises(DataError, match="lacks the columns messages; found: question"):
        open_set(HubSet(str(tmp_path / "set"), "train", ("messages",)))


def test_a_folder_without_the_split_or_with_a_part_of_it_says_so(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test_sft-00000-of-00001.parquet", [{"messages": "x"}])
    with pytest.raises(DataError, match=r"no Parquet files of the split train_sft .*found: test_sft-00000"):
        check_sets(ultra_sets(demonstrations=str(tmp_path)))
    write_parquet(tmp_path / "train_sft-00001-of-00003.parquet", [{"messages": "x"}])
    with pytest.raises(DataError, match="1 of the 3 Parquet files"):
        check_sets(ultra_sets(demonstrations=str(tmp_path)))


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "only_one_name"])
def test_a_missing_folder_is_not_taken_for_a_hub_name(name: str) -> None:
    with pytest.raises(DataError, match=f"the folder {name} does not exist"):
        check_sets(ultra_sets(demonstrations=name))


@pytest.mark.parametrize(("offline", "reason"), [("1", "HF_HUB_OFFLINE forbids"), ("", "127.0.0.1 cannot be reached")])
def test_without_network_the_user_hears_within_a_second(
    offline: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    started = time.perf_counter()
    with pytest.raises(DataError, match=reason) as raised:
        ingest_hub(ultra_sets(), tmp_path, IngestSettings())
    assert time.perf_counter() - started < 1
    assert "HuggingFaceH4/ultrachat_200k (split train_sft)" in str(raised.value)
    assert "HuggingFaceH4/ultrafeedback_binarized (split test_prefs)" in str(raised.value)
    assert "Give a local folder" in str(raised.value)


def test_what_the_hub_does_not_have_is_said_before_it_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: HfApi, name: str, **_: Any) -> None:
        raise RevisionNotFoundError.__new__(RevisionNotFoundError, "refused")

    monkeypatch.setattr("salsa.data.sets.obstacle", lambda: "")
    monkeypatch.setattr(HfApi, "dataset_info", refuse)
    with pytest.raises(DataError, match="data set owner/set has no revision v9; null takes the newest"):
        check_sets([HubSet("owner/set", "train", ("prompt",), "v9")])


@pytest.mark.parametrize(
    ("revision", "reference", "found"),
    [(COMMIT, None, True), (None, "main", True), ("v2", "v2", True), (None, None, False), ("f" * 40, "main", False)],
)
def test_the_cache_serves_the_pinned_commit(
    revision: str | None, reference: str | None, found: bool, tmp_path: Path
) -> None:
    write_parquet(tmp_path / "set" / "data" / "train-00000-of-00001.parquet", [ultra_chat("Cached?")])
    hub_cache.put_into_cache(tmp_path / "hub_home", "dataset", "owner/set", tmp_path / "set", reference)
    wanted = HubSet("owner/set", "train", ("prompt",), revision)
    if not found:
        with pytest.raises(DataError, match="not in the local cache"):
            check_sets([wanted])
        return
    check_sets([wanted])
    table = open_set(wanted)
    assert COMMIT in table.name
    assert [row.values for row in table.rows(ASKED)] == [{"prompt": "Cached?"}]


def test_the_rest_goes_through_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[Any] = []

    def load_dataset(name: str, **options: Any) -> Any:
        asked.append((name, options))
        dataset = datasets.Dataset.from_list([ultra_chat("Fetched?")])
        dataset.info.download_checksums = {f"hf://datasets/owner/set@{COMMIT}/data/train.parquet": {}}
        return dataset

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    table = open_set(HubSet("owner/set", "train", ("prompt",)))
    assert asked == [("owner/set", {"split": "train", "revision": None})]
    assert table.name == f"owner/set@{COMMIT} (split train)"
    assert [(row.place, row.values) for row in table.rows(ASKED)] == [(f"{table.name}, row 1", {"prompt": "Fetched?"})]
    with pytest.raises(DataError, match="lacks the columns chosen; found: prompt, prompt_id, messages"):
        open_set(HubSet("owner/set", "train", ("prompt", "chosen")))


def test_what_datasets_refuses_is_told_with_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def load_dataset(name: str, **options: Any) -> Any:
        raise FileNotFoundError("gated")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"owner/set \(split train\) at v1 could not be read: gated"):
        open_set(HubSet("owner/set", "train", ("prompt",), "v1"))
