"""`salsa judge` and `salsa judge-agreement`: what they ask, say, write and answer with."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from salsa.cli import main
from salsa.judging import verdict as verdicts
from tests.judging.server import Exchange, Server, serving

Say = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]


def judge_by_length(exchange: Exchange) -> None:
    """Answer for the longer reply, or with a score; not to what speaks of bananas."""
    text = exchange.prompt
    if "bananas" in text:
        exchange.say("I would rather not.")
    elif "<<<reply A" in text:
        first, second = (text.partition(f"<<<reply {letter} ")[2].partition("<<<end")[0] for letter in "AB")
        exchange.say(f"Because.\nVerdict: {'A>B' if len(first) > len(second) else 'B>A'}")
    else:
        exchange.say("Because.\nVerdict: 7")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(judge_by_length) as server:
        yield server


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with three questions and the answers of two models."""
    rows = {
        "questions": [
            {"id": 1, "question": "What is 1?"},
            {"id": 2, "question": "And 2?"},
            {"id": 3, "question": "3?"},
        ],
        "tuned": [{"id": 1, "reply": "It is one."}, {"id": 2, "reply": "It is two."}, {"id": 3, "reply": "bananas"}],
        "base": [{"id": 1, "reply": "one"}, {"id": 2, "reply": "two"}, {"id": 3, "reply": "three"}],
    }
    for name, values in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    return tmp_path


@pytest.fixture
def say(files: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Return what runs `salsa` in that folder's files: the exit code, and what it wrote to the two streams."""

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = main([word.replace("@", f"{files}/") for word in words])
        except SystemExit as ending:
            code = int(str(ending.code))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


PAIR = ("judge", "@tuned.jsonl", "@base.jsonl", "--questions", "@questions.jsonl", "--out", "@v.jsonl")
PRICES = ("--price-in", "2", "--price-out", "8")


def at(server: Server) -> tuple[str, ...]:
    return ("--judge-url", server.url, "--judge-model", "m", "--wait", "0.001")


def test_two_models_are_compared_in_both_orders(say: Say, server: Server, files: Path) -> None:
    code, out, err = say(*PAIR, *at(server), *PRICES)
    assert (code, err, server.calls) == (0, "", 6)
    assert "6 requests; 6 to ask" in out
    assert "6 sent, 4 judged, 2 unparsed, 0 failed of 6 requests (0 answered before)" in out
    assert "6 calls in" in out
    assert "cost 0.0017, estimated 0." in out
    assert f"read it: salsa winrate --format verdicts {files / 'v.jsonl'}" in out
    found = verdicts.read(files / "v.jsonl")
    assert {(each.question, each.order): each.label for each in found} == {
        ("1", 0): "A>B",
        ("1", 1): "B>A",
        ("2", 0): "A>B",
        ("2", 1): "B>A",
        ("3", 0): None,
        ("3", 1): None,
    }
    assert {each.price for each in found} == {(100 * 2 + 10 * 8) / 1e6}
    assert {(each.model_a, each.order) for each in found} == {("tuned", 0), ("base", 1)}


def test_nothing_is_asked_twice(say: Say, server: Server, files: Path) -> None:
    assert say(*PAIR, *at(server), "--max-calls", "2")[0] == 1
    code, out, _ = say(*PAIR, *at(server))
    assert (code, server.calls) == (0, 6)
    assert "(2 answered before)" in out
    before = (files / "v.jsonl").read_bytes()
    assert say(*PAIR, *at(server))[0] == 0
    assert (server.calls, (files / "v.jsonl").read_bytes()) == (6, before)
    assert say(*PAIR, *at(server), "--ask-again")[0] == 0
    assert server.calls == 8  # those that could not be parsed
    code, out, _ = say(*PAIR, *at(server), "--levels", "5")
    assert server.calls == 14
    assert "also holds 6 verdicts on other questions, replies or prompts" in out


def test_a_budget_stops_cleanly_and_says_so(say: Say, server: Server) -> None:
    code, out, _ = say(*PAIR, *at(server), "--max-calls", "4", "--concurrency", "1")
    assert (code, server.calls) == (1, 4)
    assert "stopped: the limit of 4 calls is reached" in out
    assert "2 left of 6 requests" in out
    assert "the same command asks for the rest" in out
    code, out, err = say(*PAIR, *at(server), *PRICES, "--max-cost", "0.001", "--json")
    assert (code, server.calls) == (1, 4)  # 2048 tokens more may cost 0.016
    assert "may cost more than what is left" in json.loads(out)["stopped"]
    assert "stopped: " in err


def test_a_dry_run_asks_nothing_and_writes_nothing(say: Say, server: Server, files: Path) -> None:
    code, out, _ = say(*PAIR, *at(server), *PRICES, "--dry-run")
    assert (code, server.calls, (files / "v.jsonl").exists()) == (0, 0, False)
    assert "6 requests; 6 to ask" in out
    assert "if every verdict is as long as it may" in out
    _, out, _ = say(*PAIR, *at(server), *PRICES, "--dry-run", "--body", '{"max_tokens": null}')
    assert "estimated cost 0." in out
    assert "nothing limits the length" in out
    code, out, _ = say(*PAIR, *at(server), "--dry-run", "--json")
    found = json.loads(out)
    assert (found["requests"], found["before"], found["estimate"]["cost"]) == (6, 0, None)


def test_programs_are_given_json(say: Say, server: Server) -> None:
    code, out, err = say(*PAIR, *at(server), *PRICES, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    counts = {name: found[name] for name in ("requests", "sent", "judged", "unparsed", "failed", "left", "calls")}
    assert counts == {"requests": 6, "sent": 6, "judged": 4, "unparsed": 2, "failed": 0, "left": 0, "calls": 6}
    assert found["cost"] == pytest.approx(6 * 280 / 1e6)
    assert say(*PAIR, *at(server), "--quiet") == (0, "", "")


def test_one_model_is_scored(say: Say, server: Server, files: Path) -> None:
    code, _, _ = say("judge", "@base.jsonl", "--questions", "@questions.jsonl", "--out", "@v.jsonl", *at(server))
    assert (code, server.calls) == (0, 3)
    assert [each.score for each in verdicts.read(files / "v.jsonl")] == [7.0, 7.0, 7.0]


def test_completions_are_read_anew_without_a_call(say: Say, server: Server, files: Path) -> None:
    say(*PAIR, *at(server))
    labels = [each.label for each in verdicts.read(files / "v.jsonl")]
    code, out, _ = say("judge", "--reparse", "fastchat_pair", "--out", "@v.jsonl")
    assert (code, out) == (0, "6 sent, 0 judged, 6 unparsed, 0 failed, 6 changed\n")
    code, out, _ = say("judge", "--reparse", "own_pair_3", "--out", "@v.jsonl", "--json")
    assert (json.loads(out)["judged"], server.calls) == (4, 6)
    assert [each.label for each in verdicts.read(files / "v.jsonl")] == labels


def test_reading_anew_keeps_every_completion_that_was_paid_for(say: Say, server: Server, files: Path) -> None:
    say(*PAIR, *at(server))
    say(*PAIR, *at(server), "--ask-again")
    before = list(verdicts.lines(files / "v.jsonl"))
    assert (len(before), server.calls) == (8, 8)
    code, out, _ = say("judge", "--reparse", "fastchat_pair", "--out", "@v.jsonl")
    assert (code, out) == (0, "6 sent, 0 judged, 6 unparsed, 0 failed, 6 changed\n")
    after = list(verdicts.lines(files / "v.jsonl"))
    assert [(each.key, each.completion, each.time) for each in after] == [
        (each.key, each.completion, each.time) for each in before
    ]
    say(*PAIR, *at(server), "--ask-again", "--max-calls", "8")
    assert server.calls == 8  # the limit counts all of them


def test_a_failure_when_asked_again_hides_no_completion(say: Say, server: Server, files: Path) -> None:
    say(*PAIR, *at(server))
    with serving(lambda exchange: exchange.fail(400, "maximum context length is 10")) as other:
        say(*PAIR, *at(other), "--ask-again")
        assert other.calls == 2
    assert verdicts.counts(verdicts.read(files / "v.jsonl")) == {"sent": 6, "judged": 4, "unparsed": 2, "failed": 0}


def test_missing_answers_are_named_and_may_be_left_out(say: Say, server: Server, files: Path) -> None:
    (files / "base.jsonl").write_text('{"id": 1, "reply": "one"}\n')
    code, _, err = say(*PAIR, *at(server))
    assert code == 1
    assert "base.jsonl has no answer to all turns of 2 questions (2, 3); answer them, or judge the others with" in err
    code, _, err = say(*PAIR, *at(server), "--partial")
    assert (code, server.calls) == (0, 2)
    assert "they are not judged" in err


def test_what_failed_is_said_at_once_and_asked_again_next_time(say: Say, files: Path) -> None:
    def script(exchange: Exchange) -> None:
        if "bananas" in exchange.prompt:
            exchange.fail(400, "maximum context length is 10")
        else:
            judge_by_length(exchange)

    with serving(script) as server:
        code, out, err = say(*PAIR, *at(server))
        assert (code, server.calls) == (1, 6)
    assert "failed: question 3: longer than the judge's context" in err
    assert "4 judged, 0 unparsed, 2 failed" in out
    assert "failed, 2 times: longer than the judge's context" in out
    with serving(judge_by_length) as server:
        assert say(*PAIR, *at(server))[0] == 0
        assert server.calls == 2


def test_a_bad_key_is_said_at_once(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with serving(lambda exchange: exchange.fail(401, f"wrong: {exchange.key}")) as server:
        code, out, err = say(*PAIR, *at(server), "--concurrency", "1")
    assert (code, server.calls) == (1, 1)
    assert "stopped: the endpoint refuses the key in $OPENAI_API_KEY" in out
    assert "sk-very-secret" not in out + err


def test_nothing_that_a_terminal_obeys_is_shown(say: Say, files: Path) -> None:
    """Not from the server, and not from the names of questions."""
    for name in ("questions", "tuned", "base"):
        rows = [json.loads(line) for line in (files / f"{name}.jsonl").read_text().splitlines()]
        text = "".join(json.dumps(row | {"id": f"\x1b[2J{row['id']}"}) + "\n" for row in rows)
        (files / f"{name}.jsonl").write_text(text)
    with serving(lambda exchange: exchange.fail(400, "\x1b]0;mine\x07 no")) as server:
        _, out, err = say(*PAIR, *at(server))
        (files / "base.jsonl").write_text('{"id": "\\u001b[2J1", "reply": "one"}\n')
        _, _, missing = say(*PAIR, *at(server))
    assert re.search(r"failed: question \\x1b\[2J\d: HTTP 400", err)
    assert "]0;mine no" in out
    assert "\\x1b[2J2" in missing
    assert all(character.isprintable() or character == "\n" for character in out + err + missing)


def test_a_function_may_judge(say: Say, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "judge_of_my_own.py").write_text("def ties(requests):\n    return ['Verdict: A=B' for _ in requests]\n")
    monkeypatch.chdir(files)
    code, out, _ = say(*PAIR, "--judge", "judge_of_my_own:ties")
    assert code == 0
    assert "6 judged" in out
    assert {each.judge for each in verdicts.read(files / "v.jsonl")} == {"judge_of_my_own:ties"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("judge",), "0 files of answers"),
        (("judge", "@a", "@b", "@c", "--questions", "@q"), "3 files of answers"),
        (("judge", "@a"), "--questions is missing"),
        (PAIR, "name the judge: --judge-url and --judge-model"),
        ((*PAIR, "--judge-url", "localhost", "--judge-model", "m"), "write it as http://localhost:8000/v1"),
        ((*PAIR, "--judge-url", "http://x", "--judge-model", "m", "--judge", "a:b"), "two judges"),
        ((*PAIR, "--judge-url", "http://x", "--judge-model", "m", "--max-cost", "1"), "needs the prices"),
        ((*PAIR, "--judge-url", "http://x", "--judge-model", "m", "--price-in", "1"), "go together"),
        (
            (*PAIR, *PRICES, "--judge-url=http://x", "--judge-model=m", "--max-cost=1", '--body={"max_tokens": null}'),
            "--max-cost needs a limit of the length",
        ),
        ((*PAIR, "--judge-url", "http://x", "--judge-model", "m", "--concurrency", "0"), "--concurrency is 0"),
        ((*PAIR, "--judge-url", "http://x", "--judge-model", "m", "--max-tokens", "0"), "max_tokens is 0"),
        ((*PAIR, "--judge-url", "http://x", "--judge-model", "m", "--body", "{"), "--body is no JSON"),
        ((*PAIR, "--judge-url", "http://x", "--judge-model", "m", "--body", '{"model": 1}'), "cannot set model"),
        ((*PAIR, "--judge-url", "http://x", "--judge-model", "m", "--names", "a"), "1 names for 2"),
        ((*PAIR, "--judge-url", "http://x", "--judge-model", "m", "--names", "a", "a"), "both models are called a"),
        (
            (*PAIR, "--judge-url", "http://x", "--judge-model", "m", "--prompts", "@p", "--levels", "5"),
            "--levels is for",
        ),
        ((*PAIR[:-2], "--judge-url", "http://x", "--judge-model", "m"), "--out is missing"),
        (("judge", "--reparse"), "--reparse reads the file of --out alone"),
        (("judge", "--reparse", "mine", "--out", "@v.jsonl"), "expected one of fastchat_score"),
        (("judge", "--reparse", "--out", "@v.jsonl"), "there is no"),
    ],
)
def test_wrong_usage_is_code_2_and_named(words: tuple[str, ...], message: str, say: Say) -> None:
    code, out, err = say(*words)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--questions", "@nothing.jsonl"), "nothing.jsonl does not exist"),
        (("--prompts", "@questions.jsonl"), "name is missing; a prompt has the form"),
        (("--references", "@nothing.jsonl"), "nothing.jsonl does not exist"),
        (("--out", "@questions.jsonl"), "questions.jsonl:1 is no verdict"),
        (("--out", "@questions.jsonl/v.jsonl"), "questions.jsonl"),
    ],
)
def test_files_that_cannot_be_used_are_code_1_and_named(words: tuple[str, ...], message: str, say: Say) -> None:
    code, _, err = say(*PAIR, "--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m", *words)
    assert code == 1
    assert message in err


def test_sigterm_ends_it_and_what_was_written_stays(files: Path) -> None:
    def script(exchange: Exchange) -> None:
        time.sleep(0.0 if exchange.number < 2 else 5.0)
        judge_by_length(exchange)

    with serving(script) as server:
        words = [word.replace("@", f"{files}/") for word in (*PAIR, *at(server), "--concurrency", "1")]
        command = [sys.executable, "-m", "salsa.cli", *words]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while server.calls < 3 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in err
    assert len(verdicts.read(files / "v.jsonl")) == 2


def test_agreement_with_people_is_measured(say: Say, server: Server, files: Path) -> None:
    rows = [
        {"input": "a", "output_1": "long and good", "output_2": "short", "label": 1},
        {"input": "b", "output_1": "long and bad", "output_2": "short", "label": 2},
        {"input": "c", "output_1": "bananas", "output_2": "short", "label": 2},
    ]
    (files / "Natural.json").write_text(json.dumps(rows))
    (files / "Other.json").write_text(json.dumps(rows[:1]))
    words = ("judge-agreement", "--pairs", "@Natural.json", "@Other.json", "--out", "@v.jsonl", *at(server))
    code, out, _ = say(*words)
    assert code == 0
    assert "Natural" in out
    assert "50.0 (9.5 to 90.5), 1 of 2" in out
    code, out, _ = say(*words, "--json")
    found = json.loads(out)
    assert (found["calls"], found["complete"]) == (0, True)
    natural = found["suites"]["Natural"]
    assert (natural["first_order"]["value"], natural["second_order"]["value"]) == (0.5, 0.5)
    assert (natural["both_right"]["value"], natural["consistent"]["value"], natural["unparsed"]) == (0.5, 1.0, 2)
    assert found["suites"]["Other"]["both_orders"]["value"] == 1.0
