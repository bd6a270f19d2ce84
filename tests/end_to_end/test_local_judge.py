"""`salsa judge` with a language model on this machine: the real command, asking the real `transformers serve`."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from salsa.judging import verdict as verdicts
from salsa.judging.matches import Asked, pairs
from salsa.judging.prompts import own
from salsa.judging.questions import read_answers, read_questions
from tests.cli.runs import ROOT, model
from tests.models.tiny import tokenizer

MISSING = [name for name in ("fastapi", "openai", "pydantic", "uvicorn") if find_spec(name) is None]
ADDRESS = re.compile(r"running on (http://\S+)")
QUESTIONS, LONGEST, START_SECONDS = 4, 16, 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"transformers serve needs {', '.join(MISSING)}: pip install 'transformers[serving]'"
    ),
]


def judge_model(folder: Path) -> Path:
    """Save a model with random weights that always says as many words as it may."""
    model(folder, seed=0)
    path = folder / "generation_config.json"
    special = tokenizer().all_special_ids
    path.write_text(json.dumps(json.loads(path.read_text()) | {"suppress_tokens": special}))
    return folder


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[str]:
    """Run `transformers serve` on a model, offline, and give its URL; what it says goes into the log."""
    words = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    words += ["--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(log.parent / "hub"), "OMP_NUM_THREADS": "1"}
    with (
        log.open("w") as file,
        subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=log.parent) as process,
    ):
        try:
            yield f"{_address(process, log)}/v1"
        finally:
            process.terminate()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        found = ADDRESS.search(log.read_text())
        if found:
            return found.group(1)
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"transformers serve did not start: {log.read_text()[-2000:]}")


def files(folder: Path) -> list[str]:
    """Write four questions and the answers of two models, and return the arguments that name them."""
    rows = {
        "questions": [{"id": n, "question": f"What is w{n}?"} for n in range(QUESTIONS)],
        "tuned": [{"id": n, "reply": f"It is w{n} and w{n + 1}."} for n in range(QUESTIONS)],
        "base": [{"id": n, "reply": f"w{n}"} for n in range(QUESTIONS)],
    }
    for name, values in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    return [str(folder / "tuned.jsonl"), str(folder / "base.jsonl"), "--questions", str(folder / "questions.jsonl")]


def judge(folder: Path, url: str, name: str, out: str) -> "subprocess.CompletedProcess[str]":
    """Run the command."""
    command = [sys.executable, "-m", "salsa.cli", "judge", *files(folder), "--judge-url", url, "--judge-model", name]
    command += ["--max-tokens", str(LONGEST), "--wait", "0.01", "--out", str(folder / out), "--json"]
    environment = {key: value for key, value in os.environ.items() if key != "OPENAI_API_KEY"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_model_that_transformers_serves_is_a_judge(tmp_path: Path) -> None:
    """It judges nothing, as its weights are random; all that it says is kept and counted, and never asked again."""
    folder, log = judge_model(tmp_path / "judge"), tmp_path / "serve.log"
    with serving(folder, log) as url:
        first, second = (judge(tmp_path, url, str(folder), "v.jsonl") for _ in range(2))
        other = judge(tmp_path, url, "another", "other.jsonl")
        asked = log.read_text().count('"POST /v1/chat/completions')
    assert (first.returncode, second.returncode, first.stderr, second.stderr) == (0, 0, "", "")
    told, again = json.loads(first.stdout), json.loads(second.stdout)
    for outcome in (told, again):
        counts = {name: outcome[name] for name in ("sent", "judged", "unparsed", "failed", "left")}
        assert counts == {"sent": 8, "judged": 0, "unparsed": 8, "failed": 0, "left": 0}
    found = {each.key: each for each in verdicts.read(tmp_path / "v.jsonl")}
    assert (told["calls"], again["calls"], len(found)) == (8, 0, 8)
    assert told["cost"] is None  # no prices are known

    questions = read_questions(tmp_path / "questions.jsonl")
    both = [read_answers(tmp_path / f"{name}.jsonl", questions.questions) for name in ("tuned", "base")]
    words = tokenizer()
    words.chat_template = (folder / "chat_template.jinja").read_text()
    for request in pairs(questions, both[0], both[1], Asked(str(folder), own(), {"temperature": 0.0})):
        verdict = found[request.key]
        prompt = words.apply_chat_template(list(request.messages), add_generation_prompt=True, return_dict=True)
        assert (verdict.tokens_in, verdict.tokens_out) == (len(prompt["input_ids"]), LONGEST)
        assert (verdict.finish, verdict.price) == ("length", None)
        assert re.fullmatch(rf"(w\d+ ?){{{LONGEST}}}", verdict.completion)
        assert verdict.snapshot.startswith(str(folder))

    # It serves one model only, and says so for a request of another one: that is no reason to ask on.
    assert other.returncode == 1
    assert "wrong address or model" in other.stderr
    assert asked <= 8 + 8  # what was under way at once
