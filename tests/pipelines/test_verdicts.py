"""The stage that asks judges, by itself: what is asked, what is kept, what a stop costs."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.failure import Unfinished, hopeless, unfinished
from pipelines.identity import of_file
from pipelines.judges import log_path
from pipelines.stages import verdicts
from pipelines.tracking import TrackedRun
from pipelines.work import Work
from salsa.data.rows import DataError
from salsa.data.zoo.source import ZooSource
from salsa.judging.log import VerdictLog
from salsa.judging.verdict import Verdict, lines
from salsa.store.artifact import Artifact, Store
from salsa.store.fingerprint import file_digest
from tests.judging.panel import Temper, judgment, script
from tests.judging.server import Exchange, Server, serving
from tests.pipelines.executions import execution
from tests.pipelines.stage_work import planned

FIRST, SECOND = "a" * 64, "b" * 64
QUESTIONS = 6


def responses(store: Store, model: str, text: str, turns: int = 1) -> Artifact:
    """A model's replies to questions that each have one before them."""
    folder = store.temporary("respond", model)
    with (folder / "responses.jsonl").open("w") as file:
        for number in range(QUESTIONS):
            prompt = {
                "id": f"q{number}",
                "questions": [f"and what is {number} ?"] * turns,
                "context": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}],
                "cluster": f"c{number // 2}",
                "category": "sums",
                "query": None,
            }
            file.write(json.dumps({"prompt": prompt, "replies": [text * (number + 1)] * turns}) + "\n")
    return store.publish("respond", model, folder, {"inputs": {"model": model}})


def work(folder: Path, kind: str, *overrides: str, turns: int = 1) -> Work:
    """The work of judging SALSA, alone or beside PPO."""
    name = "verdicts SALSA (scores): single" if kind == "single" else "verdicts SALSA against PPO: single"
    stage = planned(name, "judge=openai", "judge.model=panel", "suite=single", f"judge.kinds=[{kind}]", *overrides)
    store = Store(folder)
    inputs = {"responses": responses(store, FIRST, "one two three ", turns)}
    if kind == "pair":
        inputs["opponent"] = responses(store, SECOND, "four ", turns)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return Work(stage, inputs, out, folder / "unfinished", execution(folder), TrackedRun(), lambda *_: None)


@contextmanager
def panel(**temper: Any) -> Iterator[Server]:
    with serving(script(Temper(noise=0.0, **temper))) as server:
        yield server


def found(work_: Work) -> list[Verdict]:
    return list(lines(work_.folder / verdicts.VERDICTS))


def test_pairs_are_judged_in_both_orders_and_every_turn(tmp_path: Path) -> None:
    with panel() as server:
        done = work(tmp_path, "pair", f"judge.url={server.url}", turns=2)
        says, metrics = verdicts.run(done)
    assert [(each.question, each.turn, each.order) for each in found(done)] == [
        (f"q{number}", turn, order) for number in range(QUESTIONS) for turn in (1, 2) for order in (0, 1)
    ]
    assert {each.label for each in found(done) if each.order == 0} == {"A>B"}  # more different words
    assert {each.label for each in found(done) if each.order == 1} == {"B>A"}
    assert {(each.model_a, each.model_b) for each in found(done) if each.order == 0} == {(FIRST[:12], SECOND[:12])}
    assert {each.cluster for each in found(done)} == {"c0", "c1", "c2"}
    calls = QUESTIONS * 2 * 2
    expected = {"requests": calls, "judged": calls, "unparsed": 0, "failed": 0, "calls": calls, "price": None}
    assert expected.items() <= metrics.items()
    assert metrics["tokens_in"] == sum(each.tokens_in or 0 for each in found(done)) > 0
    assert says == f"{calls} verdicts (0 unparsed, 0 failed), {calls} calls now"


def test_single_replies_get_the_judges_score(tmp_path: Path) -> None:
    with panel() as server:
        done = work(tmp_path, "single", f"judge.url={server.url}")
        verdicts.run(done)
        said = [judgment(body["messages"], Temper(noise=0.0))[1] for body in server.bodies]
    scores = sorted(float(text.rsplit(" ", 1)[1]) for text in said)
    assert sorted(each.score or 0.0 for each in found(done)) == scores
    assert len(scores) == QUESTIONS


def test_what_was_said_before_is_shown_to_the_judge(tmp_path: Path) -> None:
    with panel() as server:
        verdicts.run(work(tmp_path, "pair", f"judge.url={server.url}", "judge.concurrency=1"))
        asked = server.bodies[0]["messages"][-1]["content"]
    said = [ZooSource().display(text) for text in ("hello", "hi", "and what is 0 ?")]
    assert "user: {}\nassistant: {}\nuser: {}".format(*said) in asked


def test_a_budget_stops_cleanly_and_the_rest_is_asked_later(tmp_path: Path) -> None:
    with panel() as server:
        url = f"judge.url={server.url}"
        with pytest.raises(Unfinished, match=r"the limit of 5 calls is reached; 5 of 12 verdicts are there and kept"):
            verdicts.run(work(tmp_path, "pair", url, "judge.max_calls=5", "judge.concurrency=1"))
        assert server.calls == 5
        resumed = work(tmp_path, "pair", url)
        assert verdicts.run(resumed)[0].endswith("7 calls now")
        assert server.calls == 12
        whole = work(tmp_path / "other", "pair", url)
        verdicts.run(whole)
    said = [[(each.key, each.label, each.completion) for each in found(each)] for each in (resumed, whole)]
    assert said[0] == said[1]


def test_what_another_stage_was_told_is_not_asked_again(tmp_path: Path) -> None:
    """Another comparison shows the judge the same replies the other way round, of other models."""
    third, fourth = "c" * 64, "d" * 64
    with panel() as server:
        first = work(tmp_path, "pair", f"judge.url={server.url}")
        verdicts.run(first)
        before = server.calls
        store = Store(tmp_path)
        inputs = {"responses": responses(store, third, "four "), "opponent": responses(store, fourth, "one two three ")}
        other = replace(first, stage=replace(first.stage, name="verdicts other"), inputs=inputs)
        assert verdicts.run(other)[0].endswith("all asked before")
        assert server.calls == before
    assert {(each.model_a, each.order, each.label) for each in found(other)} == {
        (third[:12], 0, "B>A"),
        (fourth[:12], 1, "A>B"),
    }


def test_money_is_counted_over_all_comparisons(tmp_path: Path) -> None:
    with panel() as server:
        prices = (f"judge.url={server.url}", "judge.price_in=1000", "judge.price_out=1000", "judge.max_tokens=50")
        _, first = verdicts.run(work(tmp_path, "pair", *prices))
        spent = (first["tokens_in"] + first["tokens_out"]) / 1000
        assert first["price"] == pytest.approx(spent)
        with pytest.raises(Unfinished, match="is spent, and the next call may cost more than what is left"):
            verdicts.run(work(tmp_path, "single", *prices, f"judge.max_cost={spent}"))
        says, _ = verdicts.run(work(tmp_path, "single", *prices, f"judge.max_cost={spent * 10}"))
    assert "(estimated " in says


def test_too_many_failures_are_no_result_and_few_are_counted(tmp_path: Path) -> None:
    def play(exchange: Exchange) -> None:
        if "what is 5" in exchange.prompt:
            exchange.fail(400, "context_length_exceeded")
        else:
            exchange.say("Verdict: A=B")

    with serving(play) as server:
        url = f"judge.url={server.url}"
        with pytest.raises(
            Unfinished, match=r"2 requests failed, more than judge.max_failed=0.1 allows; one of them: "
        ):
            verdicts.run(work(tmp_path, "pair", url, "judge.max_failed=.1"))
        done = work(tmp_path, "pair", url, "judge.max_failed=.2")
        _, metrics = verdicts.run(done)
    assert (metrics["judged"], metrics["failed"], metrics["requests"]) == (10, 2, 12)
    assert [each.status for each in found(done)].count("failed") == 2


def test_a_judge_that_cannot_be_asked_ends_the_stage_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-mine")
    with serving(lambda exchange: exchange.fail(401, "bad key sk-of-mine")) as server:
        with pytest.raises(Unfinished, match=r"the endpoint refuses the key in \$OPENAI_API_KEY") as error:
            verdicts.run(work(tmp_path, "pair", f"judge.url={server.url}", "judge.concurrency=1"))
        assert server.calls == 1
        assert server.keys == ["Bearer sk-of-mine"]
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "sk-of-mine" not in written + str(error.value)


def test_what_is_unfinished_is_tried_again_by_the_next_command() -> None:
    assert unfinished(Unfinished("no money"))
    assert not unfinished(ValueError("a defect"))
    assert not hopeless({"times": 9, "code_digest": "x", "passing": True}, "x")


def test_it_waits_while_another_process_asks_the_judge(tmp_path: Path) -> None:
    said: list[str] = []
    with panel() as server:
        waiting = replace(
            work(tmp_path, "pair", f"judge.url={server.url}"), progress=lambda done, total, text: said.append(text)
        )
        with VerdictLog(tmp_path / log_path("panel")):
            thread = threading.Thread(target=verdicts.run, args=(waiting,))
            thread.start()
            while not said:
                time.sleep(0.01)
            assert server.calls == 0
        thread.join(timeout=30)
    assert said[0].startswith("waits for the judge")
    assert len(found(waiting)) == 2 * QUESTIONS


def test_a_function_of_ones_own_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_judges.py").write_text(
        "def shorter(requests, margin):\n"
        "    assert margin == 3\n"
        "    longer = [len(each.replies_a[-1]) > len(each.replies_b[-1]) for each in requests]\n"
        "    return ['Verdict: B>A' if first else 'Verdict: A>B' for first in longer]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = ("judge=function", "judge.function={_target_: my_judges.shorter, margin: 3}", "suite=single")
    stage = planned("verdicts SALSA against PPO: single", *overrides)
    done = replace(work(tmp_path, "pair"), stage=stage)
    verdicts.run(done)
    assert {(each.order, each.label) for each in found(done)} == {(0, "B>A"), (1, "A>B")}
    assert {each.judge for each in found(done)} == {"my_judges.shorter"}


def test_what_is_asked_in_another_suite_is_of_that_suite_and_costs_nothing(tmp_path: Path) -> None:
    with panel() as server:
        prices = (f"judge.url={server.url}", "judge.price_in=1000", "judge.price_out=1000")
        first = work(tmp_path, "pair", *prices)
        _, paid = verdicts.run(first)
        again = work(tmp_path, "pair", *prices)
        again = replace(again, stage=replace(again.stage, config=dict(again.stage.config) | {"suite": "other"}))
        says, metrics = verdicts.run(again)
    assert {each.suite for each in found(again)} == {"other"}
    assert says.endswith("all asked before")
    assert (metrics["judged"], metrics["calls"], metrics["tokens_in"], metrics["price"]) == (2 * QUESTIONS, 0, 0, 0.0)
    assert (paid["calls"], paid["priced"]) == (2 * QUESTIONS, 2 * QUESTIONS)


def test_calls_that_failed_before_are_counted_too(tmp_path: Path) -> None:
    with panel() as server:
        url = f"judge.url={server.url}"
        with serving(lambda exchange: exchange.fail(400, "no")) as broken, pytest.raises(Unfinished):
            verdicts.run(work(tmp_path, "pair", f"judge.url={broken.url}"))
        done = work(tmp_path, "pair", url)
        says, metrics = verdicts.run(done)
    assert says.endswith(f"{2 * QUESTIONS} calls now")
    assert metrics["calls"] == 2 * QUESTIONS + broken.calls > 2 * QUESTIONS
    assert metrics["requests"] == metrics["judged"] == 2 * QUESTIONS


def test_calls_from_before_there_was_a_price_list_have_no_price(tmp_path: Path) -> None:
    prices = ("judge.price_in=1000", "judge.price_out=1000")
    with panel() as server:
        url = f"judge.url={server.url}"
        with pytest.raises(Unfinished):
            verdicts.run(work(tmp_path, "pair", url, "judge.max_calls=5", "judge.concurrency=1"))
        _, metrics = verdicts.run(work(tmp_path, "pair", url, *prices))
    assert (metrics["calls"], metrics["priced"]) == (2 * QUESTIONS, 2 * QUESTIONS - 5)
    assert 0 < metrics["price"] < (metrics["tokens_in"] + metrics["tokens_out"]) / 1000


def test_questions_that_a_baseline_does_not_answer_whole_are_counted(tmp_path: Path) -> None:
    rows = [{"question_id": f"q{n}", "model_id": "gpt-4-0314", "choices": [{"turns": ["A b c."] * 2}]} for n in (0, 1)]
    rows.append(rows[0] | {"question_id": "q2", "choices": [{"turns": ["Only one."]}]})
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with panel() as server:
        plain = work(tmp_path, "pair", f"judge.url={server.url}", turns=2)
        config, place = dict(plain.stage.config), dict(plain.stage.execution)
        config["category"] = ""
        config["baseline"], place["baseline"] = of_file("key", str(tmp_path / "answers.jsonl"), file_digest)
        inputs = {"responses": plain.inputs["responses"]}
        done = replace(plain, stage=replace(plain.stage, config=config, execution=place), inputs=inputs)
        says, metrics = verdicts.run(done)
    assert (metrics["requests"], metrics["unanswered"]) == (2 * (2 + 2 + 1), QUESTIONS - 2)
    assert says.endswith("; 4 questions that gpt-4-0314 has no whole answer to are left out")
    assert (tmp_path / "out" / verdicts.BASELINE).is_file()
    (tmp_path / "answers.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(DataError, match=r"suite\.benchmarks\.single\.baselines\.all=.*: edited since"):
        verdicts.run(done)


def test_a_class_that_judges_is_made_once_and_only_to_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_judge.py").write_text(
        "made = []\n"
        "class Heavy:\n"
        "    def __init__(self):\n"
        "        made.append(self)\n"
        "    def __call__(self, requests):\n"
        "        return ['Verdict: A=B' if each.replies_b else 'Verdict: 3' for each in requests]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    judge = (
        "judge=function",
        "judge.function={_target_: heavy_judge.Heavy}",
        "suite=single",
        "judge.kinds=[pair,single]",
    )
    names = ("verdicts SALSA against PPO: single", "verdicts SALSA (scores): single")
    done = [replace(work(tmp_path, "pair"), stage=planned(name, *judge, "suite=single")) for name in names]
    for each in (*done, *done):
        verdicts.run(each)
    import heavy_judge  # type: ignore[import-not-found]

    assert len(heavy_judge.made) == 1
    monkeypatch.setattr(verdicts, "_LOADED", {})
    assert verdicts.run(done[0])[0].endswith("all asked before")
    assert len(heavy_judge.made) == 1
