"""Files by path and by their address on the hub, which is not there: what is cached, asked for, fetched and missing."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError
from hypothesis import given
from hypothesis import strategies as st

from salsa import hub
from salsa.data.address import HubFile, check, fetch, parse
from salsa.data.rows import DataError
from salsa.hub import Repository
from tests.hub_cache import COMMIT, put_into_cache, without_network

MT_BENCH = "hf://spaces/lmsys/mt-bench/data/mt_bench/question.jsonl"
STEPS = st.text(st.characters(codec="utf-8", exclude_characters="/@"), min_size=1).filter(
    lambda s: s not in (".", "..")
)
NAMES = STEPS.filter(lambda name: name not in ("datasets", "spaces"))


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    without_network(monkeypatch, tmp_path / "home")
    return tmp_path / "home"


def questions(folder: Path) -> Path:
    path = folder / "data" / "mt_bench" / "question.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"question_id": 81, "turns": ["a"]}\n')
    return folder


@pytest.mark.parametrize(
    ("address", "repository", "path"),
    [
        (MT_BENCH, Repository("space", "lmsys/mt-bench"), "data/mt_bench/question.jsonl"),
        ("hf://datasets/o/n@v2/q.jsonl", Repository("dataset", "o/n", "v2"), "q.jsonl"),
        ("hf://datasets/o/n@refs%2Fpr%2F1/q.jsonl", Repository("dataset", "o/n", "refs/pr/1"), "q.jsonl"),
        ("hf://o/n/a@b/q.jsonl", Repository("model", "o/n"), "a@b/q.jsonl"),
    ],
)
def test_an_address_names_a_file_of_a_repository(address: str, repository: Repository, path: str) -> None:
    assert parse(address) == HubFile(repository, path)
    assert str(parse(address)) == address


@given(
    st.sampled_from(("model", "dataset", "space")),
    NAMES,
    STEPS,
    st.none() | st.text(st.characters(codec="utf-8"), min_size=1),
    st.lists(STEPS, min_size=1),
)
def test_what_is_written_as_an_address_is_read_again(
    kind: Any, owner: str, name: str, revision: str | None, steps: list[str]
) -> None:
    file = HubFile(Repository(kind, f"{owner}/{name}", revision), "/".join(steps))
    assert parse(str(file)) == file


@pytest.mark.parametrize(
    "address",
    ["hf://", "hf://datasets/o/n", "hf://datasets/o/n/", "hf://o/n@/q", "hf://o/n/../q", "hf://o//q", "hf://o@v/n/q"],
)
def test_what_is_no_address_of_a_file_is_refused_with_the_form_of_one(address: str) -> None:
    with pytest.raises(DataError, match=r"is not the address of a file; write hf://datasets/OWNER/NAME/PATH"):
        parse(address)


def test_everything_else_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("{}\n")
    path = str(tmp_path / "q.jsonl")
    check(path)
    assert parse(path) == fetch(path) == tmp_path / "q.jsonl"
    for act in (check, fetch):
        with pytest.raises(DataError, match="does not exist"):
            act(str(tmp_path / "other.jsonl"))


@pytest.mark.parametrize("revision", ["", f"@{COMMIT}", "@main"])
def test_a_cached_file_needs_no_hub(home: Path, tmp_path: Path, revision: str) -> None:
    snapshot = put_into_cache(home, "space", "lmsys/mt-bench", questions(tmp_path / "files"))
    address = MT_BENCH.replace("mt-bench/data", f"mt-bench{revision}/data")
    check(address)
    assert fetch(address) == snapshot / "data" / "mt_bench" / "question.jsonl"


@pytest.mark.usefixtures("home")
def test_a_hub_out_of_reach_is_said_with_what_to_do() -> None:
    for act in (check, fetch):
        with pytest.raises(DataError, match=rf"{MT_BENCH} is not in the local cache .* cannot be reached .* a copy"):
            act(MT_BENCH)


class Described:
    sha = COMMIT
    gated = False

    def __init__(self, *names: str) -> None:
        self.siblings = [type("Sibling", (), {"rfilename": name}) for name in names]


@pytest.mark.usefixtures("home")
def test_the_hub_is_asked_for_the_file_and_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salsa.data.address.obstacle", lambda: "")
    there = Described("data/mt_bench/question.jsonl")
    monkeypatch.setattr(HfApi, "space_info", lambda self, name, **options: there)
    check(MT_BENCH)
    with pytest.raises(DataError, match=r"the hub's space lmsys/mt-bench has no file .*questions.jsonl; names like it"):
        check(MT_BENCH.replace("question.jsonl", "questions.jsonl"))


@pytest.mark.usefixtures("home")
def test_a_repository_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salsa.data.address.obstacle", lambda: "")

    def info(self: HfApi, name: str, **options: Any) -> Described:
        raise huggingface_hub.errors.RepositoryNotFoundError("404", response=response())

    monkeypatch.setattr(HfApi, "dataset_info", info)
    with pytest.raises(DataError, match="the hub has no data set o/n that you may read"):
        check("hf://datasets/o/n/q.jsonl")


def response() -> Any:
    import httpx

    return httpx.Response(404, request=httpx.Request("GET", "https://hub.invalid"))


def test_a_file_that_is_not_cached_is_fetched_at_its_commit(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def download(name: str, path: str, **options: Any) -> str:
        asked.append((name, path, options))
        return str(put_into_cache(home, "space", name, questions(tmp_path / "files")) / path)

    monkeypatch.setattr("salsa.data.address.obstacle", lambda: "")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    address = MT_BENCH.replace("mt-bench/data", f"mt-bench@{COMMIT}/data")
    first, again = fetch(address), fetch(address)
    assert first == again
    assert first.read_text() == '{"question_id": 81, "turns": ["a"]}\n'
    options = {"repo_type": "space", "revision": COMMIT}
    assert asked == [("lmsys/mt-bench", "data/mt_bench/question.jsonl", options)]


@pytest.mark.usefixtures("home")
def test_a_file_that_the_hub_does_not_have_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise RemoteEntryNotFoundError("404", response=response())

    monkeypatch.setattr("salsa.data.address.obstacle", lambda: "")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(DataError, match=r"the hub's space lmsys/mt-bench has no file data/mt_bench/question.jsonl"):
        fetch(MT_BENCH)


def test_a_space_is_called_so(home: Path) -> None:
    error = huggingface_hub.errors.GatedRepoError("401", response=response())
    assert "huggingface.co/spaces/o/n" in hub.explain(Repository("space", "o/n"), error)
