"""W&B offline: what is sent is read back from the files of the runs. What needs a server is sent to a recorded run."""

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
import wandb

from pipelines import tracking
from pipelines.configuration import ConfigurationError
from pipelines.plan import Stage
from pipelines.preflight import problems
from pipelines.tracking import TrackedRun, logged_in, mode_of, track, track_sweep
from salsa.report.sweep import folder as sweeps
from salsa.report.sweep.table import rows
from salsa.store.artifact import Artifact, Store
from salsa.training.interruption import Interrupted
from salsa.training.loop import fit
from tests.pipelines.compose import config
from tests.pipelines.offline_runs import OfflineRun, read_runs
from tests.report.sweep import factory
from tests.training.toys import Automatic, batch

SECRET = "0123456789abcdef0123456789abcdef01234567"
AUTO = {"name": "wandb", "mode": "auto", "project": "salsa", "entity": None}
OFFLINE = AUTO | {"mode": "offline"}
GROUP = "e" * 64


@pytest.fixture(autouse=True)
def nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No credentials, no settings and no files of this machine's user; what W&B sets itself is taken back."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    yield
    for name in [name for name in os.environ if name.startswith("WANDB_") and name not in before]:
        del os.environ[name]


def stage(name: str = "sft_1", kind: str = "sft", settings: dict[str, Any] | None = None) -> Stage:
    execution = {"settings": settings} if settings else {}
    return Stage(
        kind, name, {"steps": 4, "optimiser": {"betas": [0.9, 0.95]}}, {"base": "b" * 64}, execution
    ).identified()


def write_netrc(path: Path, host: str) -> None:
    path.write_text(f"machine {host}\n  login user\n  password {SECRET}\n")
    path.chmod(0o600)


def test_without_credentials_automatic_is_offline() -> None:
    assert not logged_in()
    assert mode_of(AUTO) == "offline"
    assert mode_of(AUTO | {"mode": "online"}) == "online"


def test_credentials_are_found_where_the_client_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_netrc(tmp_path / "netrc", "api.wandb.ai")
    assert mode_of(AUTO) == "online"
    assert mode_of(OFFLINE) == "offline"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example:8080")
    assert mode_of(AUTO) == "offline"
    write_netrc(tmp_path / "netrc", "wandb.example:8080")
    assert mode_of(AUTO) == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://api.wandb.ai")
    assert mode_of(AUTO) == "offline"
    write_netrc(tmp_path / "netrc", "api.forge.coreweave.com")
    assert mode_of(AUTO) == "online"
    write_netrc(tmp_path / "netrc", "wandb.example:8080")
    monkeypatch.delenv("WANDB_BASE_URL")
    assert mode_of(AUTO) == "offline"
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings").write_text("[default]\nbase_url = https://wandb.example:8080\n")
    assert mode_of(AUTO) == "online"
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    assert mode_of(AUTO) == "online"


@pytest.mark.parametrize(("asked", "mode"), [("offline", "offline"), ("disabled", "disabled"), ("dryrun", "offline")])
def test_the_environment_has_the_last_word(asked: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", asked)
    assert mode_of(AUTO | {"mode": "online"}) == mode
    assert mode_of({"name": "none"}) == "disabled"


def test_what_cannot_work_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = problems(config("logger.mode=online"))
    assert problem.startswith("logger.mode=online: not logged in to W&B; run `wandb login`")
    monkeypatch.setenv("WANDB_MODE", "ofline")
    assert problems(config()) == [f"WANDB_MODE=ofline: must be one of {', '.join(tracking.MODES)}, or unset"]
    with pytest.raises(ConfigurationError, match="WANDB_MODE=ofline"):
        mode_of(AUTO)
    assert problems(config("logger=none")) == []


@pytest.mark.parametrize("asked", [None, "disabled"])
def test_no_tracker_writes_nothing(asked: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if asked:
        monkeypatch.setenv("WANDB_MODE", asked)
    tracker = AUTO if asked else {"name": "none", "mode": "offline"}
    with track(stage(), tracker, GROUP, tmp_path / "outputs") as run:
        run.summary({"loss": 1.0})
        run.table("results", ["model"], [["PPO"]])
        run.curves({"PPO": [{"step": 0, "judge": 1.0}]})
        run.images([tmp_path / "nowhere.png"])
        assert list(run.loggers) == []
    assert not (tmp_path / "outputs").exists()


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[OfflineRun]]:
    """A stage that trains and the report of its experiment, one after the other in one process; a key is about."""
    outputs = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", SECRET)
        with track(stage(), OFFLINE, GROUP, outputs) as run:
            for step in range(3):
                run.loggers[0].log_metrics({"loss": 3.0 - step}, step=step)
            run.summary({"loss": 1.0, "demonstrations": 200})
        with track(stage("report", "report", {"policy": {"kl_coef": 0.4}}), OFFLINE, GROUP, outputs) as run:
            run.table("samples", ["question", "PPO"], [["What is a fox?", "a fox is small ."], ["Why?", None]])
            run.table("results", ["model", "value"], [["PPO", 1], ["SALSA", 1.5]])
            run.curves(
                {
                    "PPO": [{"step": 0, "judge": 1.0, "judge_se": 0.1}, {"step": 8, "judge": 2.0}],
                    "SALSA": [{"step": 8, "judge": 3.0, "reward": None, "kl": {"soup": {"k1": 0.5}}}],
                }
            )
            run.summary({"judge/PPO": 2.5})
    return outputs, read_runs(outputs)


def test_each_stage_has_a_finished_run_of_its_own_in_the_experiments_group(
    two_runs: tuple[Path, list[OfflineRun]],
) -> None:
    _, runs = two_runs
    assert [(run.name, run.job_type, run.exit_code) for run in runs] == [("sft_1", "sft", 0), ("report", "report", 0)]
    assert {run.group for run in runs} == {GROUP[:32]}
    assert {run.project for run in runs} == {"salsa"}
    assert runs[0].id == stage().fingerprint[:32] != runs[1].id


def test_a_run_holds_its_resolved_configuration(two_runs: tuple[Path, list[OfflineRun]]) -> None:
    trained, report = two_runs[1]
    assert trained.config["optimiser"] == {"betas": [0.9, 0.95]}
    assert trained.config["inputs"] == {"base": "b" * 64}
    assert trained.config["fingerprint"] == stage().fingerprint
    assert "settings" not in trained.config
    assert report.config["settings"] == {"policy": {"kl_coef": 0.4}}


def test_nothing_bleeds_from_one_run_into_the_next(two_runs: tuple[Path, list[OfflineRun]]) -> None:
    trained, report = two_runs[1]
    assert [(row["trainer/global_step"], row["loss"]) for row in trained.history] == [(0, 3), (1, 2), (2, 1)]
    assert trained.summary["loss"] == 1
    assert trained.summary["demonstrations"] == 200
    assert not any("loss" in row for row in report.history)
    assert "loss" not in report.summary
    assert report.summary["judge/PPO"] == 2.5


def test_tables_can_be_read_back(two_runs: tuple[Path, list[OfflineRun]]) -> None:
    report = two_runs[1][1]
    samples = report.table("samples")
    assert samples["columns"] == ["question", "PPO"]
    assert samples["data"] == [["What is a fox?", "a fox is small ."], ["Why?", None]]
    assert report.table("results")["data"] == [["PPO", 1], ["SALSA", 1.5]]


def test_curves_go_over_the_step_of_training(two_runs: tuple[Path, list[OfflineRun]]) -> None:
    report = two_runs[1][1]
    own = ("_", "trainer/")
    points = [{k: v for k, v in row.items() if not k.startswith(own)} for row in report.history if "step" in row]
    assert points == [
        {"step": 0, "curves/judge/PPO": 1},
        {"step": 8, "curves/judge/PPO": 2, "curves/judge/SALSA": 3, "curves/kl/soup/k1/SALSA": 0.5},
    ]
    assert report.axes["curves/judge/PPO"] == report.axes["curves/kl/soup/k1/SALSA"] == "step"
    assert two_runs[1][0].axes["*"] == "trainer/global_step"


def test_the_key_is_in_no_file(two_runs: tuple[Path, list[OfflineRun]]) -> None:
    files = [path for path in two_runs[0].rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_failed_stage_finishes_its_run_as_failed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), track(stage(), OFFLINE, GROUP, tmp_path):
        raise ValueError("broken")
    with track(stage("sft_2"), OFFLINE, GROUP, tmp_path):
        pass
    assert sorted((run.name, run.exit_code) for run in read_runs(tmp_path)) == [("sft_1", 1), ("sft_2", 0)]


def test_a_failed_stage_sends_an_alert_without_secrets_or_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("HOME", "/home/somebody")
    error = ValueError(f"GET /home/somebody/x?token={SECRET}\nsecond line")
    with pytest.raises(ValueError, match="GET"), track(stage("a" * 80), OFFLINE, GROUP, tmp_path):
        raise error
    (run,) = read_runs(tmp_path)
    ((title, text, level),) = run.alerts
    assert title.startswith("stage failed: aaa")
    assert len(title) < 64
    assert text == f"{'a' * 80} {stage('a' * 80).fingerprint}\nValueError: GET ~/x?token=$HF_TOKEN"
    assert level == "ERROR"


@pytest.mark.parametrize(
    ("error", "levels"),
    [(OSError(errno.EIO, "the disk hiccups"), ["WARN"]), (SystemExit(0), ["ERROR"]), (Interrupted("SIGTERM"), [])],
)
def test_what_may_pass_is_a_warning_and_an_interruption_is_no_failure(
    error: BaseException, levels: list[str], tmp_path: Path
) -> None:
    with pytest.raises(type(error)), track(stage(), OFFLINE, GROUP, tmp_path):
        raise error
    (run,) = read_runs(tmp_path)
    assert [level for _, _, level in run.alerts] == levels
    assert run.exit_code == 1


def test_a_resumed_stage_continues_its_curve_at_the_right_step(tmp_path: Path) -> None:
    def killed(step: int) -> Any:
        if step == 3:
            raise Interrupted("killed")
        return batch(step)

    with pytest.raises(Interrupted), track(stage(), OFFLINE, GROUP, tmp_path) as run:
        fit(Automatic(), killed, 5, tmp_path / "unfinished", checkpoint_steps=1, loggers=run.loggers)
    with track(stage(), OFFLINE, GROUP, tmp_path) as run:
        fit(Automatic(), batch, 5, tmp_path / "unfinished", checkpoint_steps=1, loggers=run.loggers)
    with track(stage("whole", "reward"), OFFLINE, GROUP, tmp_path) as run:
        fit(Automatic(), batch, 5, tmp_path / "whole", checkpoint_steps=1, loggers=run.loggers)
    curves: dict[str, list[list[tuple[int, float]]]] = {}
    for fragment in read_runs(tmp_path):
        points = [(row["trainer/global_step"], row["loss"]) for row in fragment.history if "loss" in row]
        curves.setdefault(fragment.job_type, []).append(points)
        assert fragment.axes["*"] == "trainer/global_step"
    first, second = sorted(curves["sft"])
    assert [[step for step, _ in fragment] for fragment in (first, second)] == [[0, 1, 2], [3, 4]]
    assert [first + second] == curves["reward"]


def published(store: Store, kind: str, digit: str) -> Artifact:
    folder = store.temporary(kind, digit * 64)
    (folder / "model").mkdir()
    (folder / "model" / "model 1.safetensors").write_bytes(b"weights" * 1000)
    return store.publish(kind, digit * 64, folder, {"inputs": {}})


def recorded_run(offline: bool = False) -> Mock:
    """Return a run that takes the calls that a real one takes, and remembers them."""
    run: Mock = create_autospec(wandb.Run, instance=True)
    run.offline = offline
    return run


def test_lineage_is_inputs_by_name_and_references_to_the_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    base, result = published(store, "base", "a"), published(store, "sft", "b")
    run = recorded_run()
    TrackedRun(run).published(result, [base, base])
    run.use_artifact.assert_called_once_with(f"base-{'a' * 32}:{'a' * 64}", type="base")
    ((artifact,), options) = run.log_artifact.call_args
    assert (artifact.name, artifact.type, options) == (f"sft-{'b' * 32}", "sft", {"aliases": ["b" * 64]})
    entries = artifact.manifest.entries
    assert sorted(entries) == ["manifest.json", "model/model 1.safetensors"]
    weights = entries["model/model 1.safetensors"]
    assert weights.ref == result.file("model/model 1.safetensors").as_uri()
    assert (weights.size, weights.local_path) == (7000, None), "referred to, neither copied nor uploaded"
    assert artifact.metadata["digest"] == result.manifest["digest"]


def test_an_input_that_the_server_does_not_know_is_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    inputs = [published(store, "base", "a"), published(store, "soup", "c")]
    run = recorded_run()
    run.use_artifact.side_effect = ValueError("artifact membership not found")
    TrackedRun(run).published(published(store, "sft", "b"), inputs)
    assert run.use_artifact.call_count == 2
    assert run.log_artifact.call_count == 1


def test_a_server_that_is_gone_costs_a_warning_and_one_question(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    inputs = [published(store, "base", "a"), published(store, "soup", "c")]
    run = recorded_run()
    run.use_artifact.side_effect = wandb.errors.CommError("timed out")
    run.log_artifact.side_effect = RuntimeError("no service")
    with caplog.at_level(logging.WARNING):
        TrackedRun(run).published(published(store, "sft", "b"), inputs)
    assert run.use_artifact.call_count == 1
    assert "CommError: timed out" in caplog.text
    assert "RuntimeError: no service" in caplog.text


def test_offline_and_without_a_tracker_there_is_no_lineage_but_the_manifest(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    base, result = published(store, "base", "a"), published(store, "sft", "b")
    TrackedRun().published(result, [base])
    with track(stage(), OFFLINE, GROUP, tmp_path) as run:
        run.published(result, [base])
    (kept,) = read_runs(tmp_path)
    assert kept.exit_code == 0
    assert b"weights" not in kept.file.read_bytes()
    assert f"sft-{'b' * 32}".encode() not in kept.file.read_bytes()


def test_a_sweep_has_one_summary_run(tmp_path: Path) -> None:
    cells = factory.sweep({"soup.alpha": [0.0, 1.0], "model": ["llama2", "gemma"]}, missing=[3])
    sweeps.write(cells, tmp_path / "sweep", "two by two")
    with track(stage(), OFFLINE, GROUP, tmp_path):
        pass
    track_sweep(GROUP, "two by two", cells, tmp_path / "sweep", OFFLINE, tmp_path)
    first, run = read_runs(tmp_path)
    assert (run.id, run.group, run.job_type, run.name) == (GROUP[:32], first.group, "sweep", "two by two")
    assert run.config["swept"] == {"soup.alpha": [0.0, 1.0], "model": ["llama2", "gemma"]}
    table = run.table("sweep")
    assert [dict(zip(table["columns"], row, strict=True)) for row in table["data"]] == rows(cells)
    assert {key.split("/")[1] for row in run.history for key in row if key.startswith("figures/")} == {
        "over_soup.alpha"
    }
    assert [run.summary[name] for name in ("experiments", "done", "failed", "missing")] == [4, 3, 0, 1]
    text = "two by two\nmissing soup.alpha=1 model=gemma: job 3 was killed"
    assert run.alerts == [("sweep ended: 3 of 4 experiments, 1 missing", text, "WARN")]
    assert run.exit_code == 0


def test_a_sweep_that_cannot_be_sent_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cells = factory.sweep({"soup.alpha": [0.0, 1.0]})
    track_sweep(GROUP, "title", cells, tmp_path, {"name": "none", "mode": "offline"}, tmp_path / "outputs")
    assert not (tmp_path / "outputs").exists()

    def broken(self: TrackedRun, *_: Any) -> None:
        raise RuntimeError("no service")

    monkeypatch.setattr(TrackedRun, "table", broken)
    with caplog.at_level(logging.WARNING):
        track_sweep(GROUP, "title", cells, tmp_path, OFFLINE, tmp_path)
    assert "RuntimeError: no service" in caplog.text
    assert [run.exit_code for run in read_runs(tmp_path)] == [1]


def test_work_goes_on_offline_where_the_server_is_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(tracking, "ONLINE_SECONDS", 1.0)
    wandb.teardown()  # the client reads the environment once
    assert mode_of(AUTO) == "online"
    started = Mock(wraps=wandb.init)
    monkeypatch.setattr(wandb, "init", started)
    with track(stage(), AUTO, GROUP, tmp_path) as run:
        run.summary({"loss": 1.0})
    with track(stage("sft_2"), AUTO, GROUP, tmp_path) as run:
        run.summary({"loss": 2.0})
    modes = [call.kwargs["mode"] for call in started.call_args_list]
    assert modes == ["online", "offline", "offline"], "the server is asked once a process"
    offline = [path.parent for path in tmp_path.rglob("offline-run-*/run-*.wandb")]
    assert len(offline) == 2
    kept = sorted((run for folder in offline for run in read_runs(folder)), key=lambda run: run.name)
    assert [(run.name, run.summary["loss"], run.exit_code) for run in kept] == [("sft_1", 1, 0), ("sft_2", 2, 0)]
    wandb.teardown()
