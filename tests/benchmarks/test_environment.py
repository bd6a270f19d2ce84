import sys
from pathlib import Path

import pytest

from benchmarks.peers import environment
from benchmarks.peers.environment import PeerError, call, interpreter, versions

PYTHON = Path(sys.executable)


def program(folder, code):
    path = folder / "program.py"
    path.write_text(code)
    return path


def test_the_last_line_of_a_program_is_its_answer(tmp_path):
    code = "import json, os, sys; print('noise'); print(json.dumps([sys.argv[1:], os.environ['OMP_NUM_THREADS']]))"
    assert call(PYTHON, program(tmp_path, code), 3, "x") == [["3", "x"], "1"]


def test_a_program_finds_this_repository(tmp_path):
    code = "import benchmarks.peers.environment as e, json; print(json.dumps(e.PPO))"
    assert call(PYTHON, program(tmp_path, code)) == environment.PPO


@pytest.mark.parametrize(
    ("code", "says"),
    [("raise SystemExit('this is why')", "(?s)ended with code 1.*this is why"), ("print('no')", "printed no JSON")],
)
def test_a_program_that_fails_says_why(code, says, tmp_path):
    with pytest.raises(PeerError, match=says):
        call(PYTHON, program(tmp_path, code))


def test_a_complete_environment_is_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_make", lambda *_: pytest.fail("made again"))
    target = tmp_path / "trl-1.2.3"
    target.mkdir()
    (target / "complete.json").write_text('{"trl": "1.2.3"}')
    assert interpreter(tmp_path, "1.2.3") == target / "bin" / "python"
    assert versions(tmp_path, "1.2.3") == {"trl": "1.2.3"}


def test_an_environment_whose_making_was_killed_is_made_anew(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(environment, "_make", lambda target, release: made.append((target.name, release)))
    (tmp_path / "trl-1.2.3" / "bin").mkdir(parents=True)
    interpreter(tmp_path, "1.2.3")
    assert made == [("trl-1.2.3", "1.2.3")]


def test_the_folder_follows_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert environment.default_folder() == tmp_path / "salsa" / "peers"


def test_mergekit_has_an_environment_of_its_own(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(environment, "_make_merging", made.append)
    python = environment.merging(tmp_path)
    assert python == tmp_path / "mergekit-0.1.5" / "bin" / "python"
    assert made == [tmp_path / "mergekit-0.1.5"]
