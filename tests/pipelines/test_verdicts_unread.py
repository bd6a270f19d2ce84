"""The stage that asks judges, where what they say cannot be read, is read by other rules, or nobody answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.failure import Unfinished
from pipelines.ranges import ConfigurationError
from pipelines.stages import verdicts
from salsa.store.artifact import Store
from tests.judging.server import Exchange, serving
from tests.pipelines.stage_work import planned
from tests.pipelines.test_verdicts import QUESTIONS, found, panel, responses, work


def prompts(path: Path, grammar: str, text: str = "{question} {answer_a} {answer_b}") -> str:
    row = {"name": "p", "type": "pairwise", "system_prompt": "", "grammar": grammar, "prompt_template": text}
    path.write_text(json.dumps(row) + "\n")
    return f"judge.prompts={path}"


def test_what_was_said_before_is_read_by_the_rules_that_are_asked_for(tmp_path: Path) -> None:
    with serving(lambda exchange: exchange.say("Verdict: A>B or [[B]]")) as server:
        own = (f"judge.url={server.url}", prompts(tmp_path / "own.jsonl", "own_pair_3"))
        chat = (f"judge.url={server.url}", prompts(tmp_path / "chat.jsonl", "fastchat_pair"))
        first = work(tmp_path, "pair", *own, "judge.max_unparsed=1")
        verdicts.run(first)
        told = [(each.label, each.grammar) for each in found(first)]
        second = work(tmp_path, "pair", *chat, "judge.max_unparsed=1")
        assert second.stage.fingerprint != first.stage.fingerprint
        _, metrics = verdicts.run(second)
        assert server.calls == 2 * QUESTIONS
    assert set(told) == {(None, "own_pair_3")}
    assert {(each.label, each.grammar) for each in found(second)} == {("B>A", "fastchat_pair")}
    assert (metrics["judged"], metrics["unparsed"]) == (2 * QUESTIONS, 0)


def test_prompts_that_were_edited_since_the_plan_are_not_taken_for_the_planned_ones(tmp_path: Path) -> None:
    named = prompts(tmp_path / "p.jsonl", "fastchat_pair")
    planned_with = work(tmp_path, "pair", "judge.url=http://localhost:1/v1", named)
    assert Path(planned_with.stage.execution["prompts"]).is_absolute()
    prompts(tmp_path / "p.jsonl", "fastchat_pair", "{question} {answer_b} {answer_a}")
    with pytest.raises(ConfigurationError, match=r"judge\.prompts=.*p\.jsonl: edited since .*the same command again"):
        verdicts.run(planned_with)


def test_a_judge_whose_words_cannot_be_read_is_no_result_and_is_asked_again(tmp_path: Path) -> None:
    sense = False

    def play(exchange: Exchange) -> None:
        exchange.say("Verdict: A=B" if sense else "I would rather not", finish="stop" if sense else "length")

    with serving(play) as server:
        url = f"judge.url={server.url}"
        with pytest.raises(
            Unfinished,
            match=r"no verdict could be read in 12 of 12 completions, more than judge.max_unparsed=0.5 allows; "
            r"one says 'I would rather not' and was cut off \(judge.max_tokens\); .* judge.max_unparsed=1",
        ):
            verdicts.run(work(tmp_path, "pair", url))
        assert verdicts.run(work(tmp_path, "pair", url, "judge.max_unparsed=1"))[1]["unparsed"] == 12
        assert server.calls == 12
        sense = True
        _, metrics = verdicts.run(work(tmp_path, "pair", url, "judge.max_tokens=999"))
        assert server.calls == 24
    assert (metrics["judged"], metrics["unparsed"], metrics["calls"]) == (12, 0, 24)


def test_nobody_pays_again_for_answers_that_cannot_be_read(tmp_path: Path) -> None:
    with serving(lambda exchange: exchange.say("I would rather not")) as server:
        first = work(tmp_path, "pair", f"judge.url={server.url}")
        with pytest.raises(Unfinished, match="no verdict could be read"):
            verdicts.run(first)
        models = {"responses": responses(Store(tmp_path), "c" * 64, "five "), "opponent": first.inputs["opponent"]}
        with pytest.raises(Unfinished, match=r"not asked, .* panel gives no verdict .*\(see verdicts SALSA"):
            verdicts.run(replace(first, inputs=models))
        assert server.calls == 12


def test_what_is_asked_again_is_so_to_its_end(tmp_path: Path) -> None:
    """Also where it was ended at a time when few were left."""
    sense = False
    with serving(lambda exchange: exchange.say("Verdict: A=B" if sense else "no")) as server:
        url = (f"judge.url={server.url}", "judge.concurrency=1")
        with pytest.raises(Unfinished, match="no verdict could be read"):
            verdicts.run(work(tmp_path, "pair", *url))
        sense = True
        with pytest.raises(Unfinished, match="the limit of 22 calls"):
            verdicts.run(work(tmp_path, "pair", *url, "judge.max_calls=22"))
        _, metrics = verdicts.run(work(tmp_path, "pair", *url))
        assert server.calls == 24
    assert (metrics["judged"], metrics["unparsed"]) == (12, 0)


def test_a_lower_limit_asks_again_where_verdicts_are_stored() -> None:
    usual, strict = (
        planned(
            "verdicts SALSA against PPO: single", "judge=openai", "judge.model=m", "suite=single", *changes
        ).fingerprint
        for changes in ((), ("judge.max_unparsed=.1",))
    )
    assert usual != strict


def test_a_judge_that_answers_nobody_is_found_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    with serving(lambda exchange: exchange.fail(401, "bad key")) as server:
        url = (f"judge.url={server.url}", "judge.concurrency=1")
        first = work(tmp_path, "pair", *url)
        second = replace(work(tmp_path, "single", *url), execution=first.execution)
        with pytest.raises(Unfinished, match="refuses the key"):
            verdicts.run(first)
        with pytest.raises(Unfinished, match=r"not asked, .* panel stopped answering \(see verdicts SALSA against"):
            verdicts.run(second)
        assert server.calls == 1
        with pytest.raises(Unfinished, match="refuses the key"):
            verdicts.run(work(tmp_path, "single", *url))  # another command
        assert server.calls == 2


def test_an_end_of_the_budget_is_no_end_of_the_judge(tmp_path: Path) -> None:
    with panel() as server:
        url = f"judge.url={server.url}"
        first = work(tmp_path, "pair", url, "judge.max_calls=0")
        with pytest.raises(Unfinished, match="the limit of 0 calls is reached"):
            verdicts.run(first)
        verdicts.run(replace(work(tmp_path, "single", url), execution=first.execution))
