"""Where `salsa soup` puts a soup: nothing half-written, nothing lost, nobody else's work touched."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from salsa.cli import main
from salsa.soup import merge
from salsa.soup.draft import Draft
from tests.cli.runs import files_of, held, model, salsa, weights_of


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    return [model(place / name, seed) for seed, name in enumerate(("one", "two"))]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "soup"


@pytest.fixture
def say(models, capsys):
    """Return what runs `salsa soup` on two models: its exit code, and its error without the name of the command."""

    def run(*words):
        code = main(["soup", *map(str, [*models, *words]), "--quiet"])
        captured = capsys.readouterr()
        assert captured.out == ""
        return code, captured.err.removeprefix("salsa soup: ")

    return run


def old_model(folder: Path) -> dict[str, bytes]:
    """Make a folder that looks like a model of before; return its files."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "notes").mkdir()
    (folder / "notes" / "why.txt").write_text("because")
    return files_of(folder)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_folders_above_are_made_and_an_empty_one_is_filled(say, tmp_path):
    assert say("--out", tmp_path / "a" / "b" / "soup") == (0, "")
    (tmp_path / "empty").mkdir()
    assert say("--out", tmp_path / "empty") == (0, "")
    assert weights_of(tmp_path / "empty")
    assert (names(tmp_path), names(tmp_path / "a" / "b")) == (["a", "empty"], ["soup"])


def test_a_link_leads_to_its_place(say, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "soup").symlink_to(tmp_path / "disk" / "soup")
    assert say("--out", tmp_path / "soup") == (0, "")
    assert (names(tmp_path), names(tmp_path / "disk")) == (["disk", "soup"], ["soup"])
    assert (tmp_path / "soup").is_symlink()


def test_what_is_there_stays_without_force(say, tmp_path, out):
    old = old_model(out)
    code, error = say("--out", out)
    assert (code, error) == (1, f"--out {out} is not empty; give another folder, or --force to replace it\n")
    (tmp_path / "file").write_text("x")
    assert "is a file" in say("--out", tmp_path / "file", "--force")[1]
    assert (files_of(out), names(tmp_path)) == (old, ["file", "soup"])


def test_force_replaces_a_model_as_a_whole(say, tmp_path, out):
    old_model(out)
    assert say("--out", out, "--force") == (0, "")
    assert "notes" not in names(out)
    assert weights_of(out)
    assert names(tmp_path) == ["soup"]


def test_force_replaces_nothing_but_models(say, tmp_path, out):
    out.mkdir()
    (out / "config.json").write_text("{}")
    (out / "thesis.tex").write_text("years of work")
    code, error = say("--out", out, "--force")
    assert code == 1
    assert "holds no model" in error
    assert files_of(out) == {"config.json": b"{}", "thesis.tex": b"years of work"}


@pytest.mark.parametrize(("place", "verb"), [("one", "lies in"), ("one/soup", "lies in"), (".", "holds")])
def test_a_place_in_or_around_a_model_is_refused(tmp_path, capsys, place, verb):
    folders = [model(tmp_path / name, seed) for seed, name in enumerate(("one", "two"))]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = files_of(tmp_path)
    code = main(["soup", *map(str, folders), "--out", str(tmp_path / place), "--force"])
    assert code == 1
    assert f"{verb} the folder of {folders[0]}; give a folder elsewhere" in capsys.readouterr().err
    assert files_of(tmp_path) == before


def test_a_place_that_cannot_be_written_is_refused_before_the_work(models, say, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    assert "file is a file, not a folder" in say("--out", tmp_path / "file" / "soup")[1]
    monkeypatch.setattr(os, "access", lambda *_: False)
    code, error = say("--out", tmp_path / "a" / "soup", "--dry-run")
    assert (code, error) == (
        1,
        f"--out {tmp_path / 'a' / 'soup'}: nothing can be written to {tmp_path}; give another folder\n",
    )


def test_too_little_room_is_told_before_the_work(say, tmp_path, out, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
    for extra in ([], ["--dry-run"]):
        code, error = say("--out", out, *extra)
        assert code == 1
        assert "the soup takes 20.7 kB, and 1.0 kB are free on that disk; make room for 19.7 kB more" in error
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_leaves_nothing(say, tmp_path, out, monkeypatch):
    old = old_model(out)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors")

    monkeypatch.setattr(merge, "average", full)
    assert say("--out", out, "--force") == (1, "model.safetensors: No space left on device\n")
    assert (files_of(out), names(tmp_path)) == (old, ["soup"])


def test_a_folder_that_appears_meanwhile_is_not_overwritten(say, tmp_path, out, monkeypatch):
    real = merge.average

    def slow(*arguments, **options):
        real(*arguments, **options)
        old_model(out)

    monkeypatch.setattr(merge, "average", slow)
    code, error = say("--out", out)
    assert code == 1
    assert "is not empty" in error
    assert "notes/why.txt" in files_of(out)
    assert names(tmp_path) == ["soup"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interruption_leaves_nothing(models, tmp_path, out, number, code):
    old = old_model(out)
    with held(*models, "--out", out, "--force") as process:
        assert names(tmp_path) == [".soup.unfinished", "soup"]
        process.send_signal(number)
        assert process.wait(60) == code
    assert (files_of(out), names(tmp_path)) == (old, ["soup"])


def test_a_kill_touches_nothing_and_the_next_run_tidies_up(models, say, tmp_path, out):
    old = old_model(out)
    with held(*models, "--out", out, "--force") as process:
        process.kill()
        process.wait(60)
    assert files_of(out) == old
    assert names(tmp_path) == [".soup.unfinished", "soup"]
    assert say("--out", out, "--force") == (0, "")
    assert weights_of(out)
    assert names(tmp_path) == ["soup"]


def test_of_two_at_once_the_first_wins_and_the_second_says_so(models, say, tmp_path, out):
    with held(*models, "--out", out) as process:
        before = set(files_of(tmp_path))
        code, error = say("--out", out)
        assert code == 1
        assert f"is just being made by process {process.pid} on {os.uname().nodename}" in error
        assert set(files_of(tmp_path)) == before
        assert say("--out", tmp_path / "other") == (0, "")
        process.terminate()
    assert names(tmp_path) == ["other"]


@pytest.mark.parametrize("force", [False, True])
def test_a_kill_between_two_renames_is_mended(say, tmp_path, out, force):
    # What a process leaves that is killed after it has moved the old model aside.
    place = tmp_path / ".soup.unfinished"
    old = old_model(place / "replaced")
    old_model(place / "made")
    (place / "lock").touch()
    code, _ = say("--out", out, *(["--force"] if force else []))
    assert names(tmp_path) == ["soup"]
    if force:
        assert (code, "notes/why.txt" in files_of(out)) == (0, False)
    else:
        assert (code, files_of(out)) == (1, old)


def test_an_error_after_the_old_model_is_aside_puts_it_back(tmp_path, out, monkeypatch):
    old = old_model(out)
    draft = Draft(out, replace=True)
    real = Path.rename

    def failing(self, target):
        if self == draft.folder:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match=r"Input/output"), draft.making() as folder:
        (folder / "config.json").write_text("new")
    assert (files_of(out), names(tmp_path)) == (old, ["soup"])


@pytest.mark.slow
def test_kills_at_any_moment_leave_a_whole_model(models, tmp_path, out):
    assert salsa(*models, "--out", out).returncode == 0
    wholes = [files_of(out), None]
    other = ["--weights", ".25,.75", "--force"]
    for delay in [0.15 + 0.01 * step for step in range(25)]:
        command = [sys.executable, "-m", "salsa.cli", "soup", *map(str, models), "--out", str(out), *other]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path.cwd()) as process:
            time.sleep(delay)
            process.kill()
        if not out.exists():  # between the two renames: the next run puts the old one back
            assert (tmp_path / ".soup.unfinished" / "replaced").is_dir()
        assert json.loads(salsa(*models, "--out", out, "--dry-run", "--force", "--json").stdout)["tensors"] == 20
        if out.exists():
            found = files_of(out)
            if found != wholes[0]:
                wholes[1] = wholes[1] or found
                assert found == wholes[1]
    assert salsa(*models, "--out", out, *other).returncode == 0
    assert wholes[1] in (None, files_of(out))
    assert names(tmp_path) == ["soup"]
