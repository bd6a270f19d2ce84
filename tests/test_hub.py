"""What is known of the hub without its client, and what its answers mean."""

import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from salsa import hub
from salsa.hub import HubError, Repository, ask, cached, commit, explain, is_local, obstacle
from tests.hub_cache import COMMIT, put_into_cache, without_network

MODEL = Repository("model", "owner/model")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_network(monkeypatch, tmp_path / "home")


class Described:
    sha = COMMIT
    siblings: list[Any] = []

    def __init__(self, gated: str | bool = False) -> None:
        self.gated = gated


@pytest.mark.parametrize(
    ("name", "local"),
    [("owner/model", False), ("./x", True), ("/x/y", True), ("~/x", True), ("gpt2", True), ("a/b/c", True)],
)
def test_what_looks_like_a_path_is_one(name: str, local: bool) -> None:
    assert is_local(name) is local


def test_an_existing_folder_comes_before_a_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert is_local("owner/model")


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_environment_can_forbid_to_ask(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "true")
    assert "forbids" in obstacle()


def test_a_name_server_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any, **__: Any) -> None:
        time.sleep(2)
        raise OSError

    monkeypatch.setattr(hub.socket, "create_connection", slow)
    started = time.perf_counter()
    assert "does not answer within 0.5 s" in obstacle()
    assert time.perf_counter() - started < 1


def test_a_proxy_is_what_must_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:2")
    assert obstacle().startswith("127.0.0.1 cannot be reached")
    monkeypatch.setenv("no_proxy", "hub.invalid")
    assert obstacle().startswith("hub.invalid")


def test_a_commit_is_pinned_or_cached_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def model_info(self: HfApi, name: str, **options: Any) -> Described:
        asked.append((name, options["revision"]))
        return Described()

    monkeypatch.setattr(HfApi, "model_info", model_info)
    pinned = "f" * 40
    assert commit(Repository("model", "owner/model", pinned)) == pinned
    assert commit(MODEL) is None
    monkeypatch.setattr(hub, "obstacle", lambda: "")
    assert [commit(MODEL), commit(MODEL)] == [COMMIT, COMMIT]
    assert asked == [("owner/model", None)]
    (tmp_path / "files").mkdir()
    snapshot = put_into_cache(tmp_path / "home", "model", "owner/other", tmp_path / "files", "v1")
    assert commit(Repository("model", "owner/other", "v1")) == COMMIT
    assert cached(Repository("model", "owner/other", "v1")) == snapshot
    assert cached(Repository("model", "owner/other", COMMIT)) == snapshot
    assert cached(Repository("model", "owner/other")) is None
    assert asked == [("owner/model", None)]


def test_a_gated_repository_is_found_out_before_it_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: HfApi, name: str, *, repo_type: str) -> None:
        raise GatedRepoError.__new__(GatedRepoError, "refused")

    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: Described("manual"))
    monkeypatch.setattr(HfApi, "auth_check", refuse)
    with pytest.raises(
        HubError, match=r"gated: accept its licence on https://huggingface\.co/owner/model, then log in"
    ):
        ask(MODEL)
    monkeypatch.setattr(HfApi, "auth_check", lambda *_, **__: None)
    assert ask(MODEL).commit == COMMIT


def test_answers_of_the_hub_become_advice() -> None:
    pinned = Repository("dataset", "a/b", "r")
    for kind, advice in (
        (GatedRepoError, "accept its licence on https://huggingface.co/datasets/a/b"),
        (RepositoryNotFoundError, "the hub has no data set a/b that you may read"),
        (RevisionNotFoundError, "has no revision r; null takes the newest"),
        (HfHubHTTPError, "did not hand out the data set a/b at revision r"),
        (TimeoutError, "could not be had from the hub (TimeoutError: refused)"),
    ):
        # The constructors want a response of whichever HTTP library the hub's client uses at the moment.
        error = kind("refused") if kind is TimeoutError else kind.__new__(kind, "refused")
        assert advice in explain(pinned, error)
