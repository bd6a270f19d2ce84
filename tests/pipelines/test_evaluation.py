"""Which comparisons a judge that reads is asked for, what they are known by, and what they will cost."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipelines.configuration import ConfigurationError
from pipelines.expense import expenses
from pipelines.experiment import Experiment
from pipelines.plan import Stage
from pipelines.preflight import problems
from salsa.store.artifact import Store
from tests.data.files import write_lines
from tests.pipelines.compose import config, experiment

OPENAI = ("judge=openai", "judge.model=judge-1", "suite=single", "logger=none")
FEW = ("~controls.other", "~controls.soup_start")


def verdicts(found: Experiment) -> dict[str, Stage]:
    return {stage.name: stage for stage in found.plan if stage.kind == "verdicts"}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """Overrides of an experiment on files with a benchmark of three questions, five turns."""
    pairs = [{"prompt": f"Why {n}?", "chosen": "Because.", "rejected": "No."} for n in range(30)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    rows: list[dict[str, Any]] = [
        {"question_id": 1, "category": "math", "turns": ["One and one?", "Twice that?"]},
        {"question_id": 2, "category": "math", "turns": ["Two and two?", "Twice that?"]},
        {"question_id": 3, "category": "writing", "turns": ["A poem."]},
    ]
    (tmp_path / "question.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [{"question_id": n, "model_id": "gpt", "choices": [{"turns": ["2", "4"]}]} for n in (1, 2, 3)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    return (
        "data=files",
        f"data.preferences=[{tmp_path}/pairs.jsonl]",
        "judge=openai",
        "judge.model=judge-1",
        "judge.url=http://localhost:1/v1",
        "logger=none",
        *FEW,
    )


def mine(files: tuple[str, ...], **values: str) -> tuple[str, ...]:
    folder = Path(files[1].removeprefix("data.preferences=[").removesuffix("]")).parent
    settings = {"questions": f"{folder}/question.jsonl"} | values
    named = [f"suite.benchmarks.mine.{key}={value.format(folder=folder)}" for key, value in settings.items()]
    return (*files, "suite=files", "suite.names=[mine]", *named)


def test_each_pair_of_models_is_compared_once_and_none_with_itself() -> None:
    names = list(verdicts(experiment(*OPENAI, *FEW)))
    assert names == [
        "verdicts PPO against SFT1: single",
        "verdicts SALSA against PPO: single",
        "verdicts SALSA against SFT1: single",
    ]
    everything = "judge.rows=[ingredient,soup,opponent,policy,control]"
    pairs = Counter(
        frozenset(name.removeprefix("verdicts ").removesuffix(": single").split(" against "))
        for name in verdicts(experiment(*OPENAI, everything))
    )
    assert set(pairs.values()) == {1}
    assert len(pairs) == 11  # six rows against PPO, and five of them against SFT1, which is the sixth
    plain = verdicts(experiment(*OPENAI, *FEW, "soup.alpha=0"))
    assert list(plain) == ["verdicts PPO against SFT1: single"]  # SALSA is PPO then
    alike = "judge.rows=[ingredient,soup,opponent,policy]"
    names = list(verdicts(experiment(*OPENAI, *FEW, alike, "soup.alpha=0")))
    # The soup is SFT1 then, and a pair of models is asked about once, in one direction.
    met = [("SFT1", "PPO"), ("SFT2", "PPO"), ("SFT2", "SFT1")]
    assert names == [f"verdicts {row} against {opponent}: single" for row, opponent in met]


def test_a_judge_that_scores_is_asked_for_no_verdicts() -> None:
    assert not verdicts(experiment("suite=single"))
    assert "verdicts" not in experiment("suite=single").report.config


def test_verdicts_are_known_by_what_can_change_them() -> None:
    def of(*overrides: str) -> str:
        return verdicts(experiment(*OPENAI, *FEW, *overrides))["verdicts SALSA against PPO: single"].fingerprint

    known = of()
    for same in (
        "judge.url=http://elsewhere:8000/v1",
        "judge.concurrency=2",
        "judge.max_calls=7",
        "judge.price_in=1 judge.price_out=2",
        "judge.timeout=1",
        "judge.rows=[policy]",
        "judge.key_variable=OTHER",
        "judge.rounds=500",
    ):
        assert of(*same.split()) == known, same
    for other in ("judge.model=judge-2", "judge.temperature=1", "judge.body={seed: 1}", "judge.levels=5"):
        assert of(other) != known, other


def test_scores_are_known_by_the_prompts_of_scores_alone(tmp_path: Path) -> None:
    single = {"name": "s", "type": "single", "system_prompt": "", "output_format": "[[rating]]"}
    pair = {"name": "p", "type": "pairwise", "system_prompt": "", "output_format": "[[A]]"}
    rows = [single | {"prompt_template": "{question} {answer}"}]

    def of(*templates: str) -> tuple[str, str]:
        pairs = [pair | {"prompt_template": text} for text in templates]
        path = write_lines(tmp_path / f"{len(templates)}{len(templates[0])}.jsonl", rows + pairs)
        found = verdicts(experiment(*OPENAI, *FEW, "judge.kinds=[single,pair]", f"judge.prompts={path}"))
        names = ("verdicts SALSA (scores): single", "verdicts SALSA against PPO: single")
        return found[names[0]].fingerprint, found[names[1]].fingerprint

    scores, pairs = of("{question} {answer_a} {answer_b}")
    changed = of("{question} {answer_a} or {answer_b}")
    assert changed[0] == scores
    assert changed[1] != pairs


def test_what_is_right_changes_verdicts_and_no_reply(files: tuple[str, ...]) -> None:
    answers = "'{folder}/answers.jsonl'"
    plain = experiment(*mine(files))
    right = experiment(*mine(files, references=answers, reference_categories="[math]"))
    more = experiment(*mine(files, references=answers, reference_categories="[math,writing]"))
    kinds = [Counter(stage.kind for stage in found.plan) for found in (plain, right)]
    assert kinds[0] == kinds[1]
    for one, other in ((plain, right), (right, more)):
        known = {stage.fingerprint for stage in one.plan}
        assert {stage.kind for stage in other.plan if stage.fingerprint not in known} == {"verdicts", "report"}


def test_a_judge_is_asked_by_one_stage_at_a_time() -> None:
    locks = {stage.execution["alone"] for stage in verdicts(experiment(*OPENAI, *FEW)).values()}
    assert locks == {"verdicts/.judge-1.jsonl.lock"}


def test_official_prompts_are_known_by_their_content(tmp_path: Path) -> None:
    row = {"name": "p", "type": "pairwise", "system_prompt": "", "output_format": "[[A]]"}
    text = "{question} {answer_a} {answer_b}"
    (tmp_path / "prompts.jsonl").write_text(json.dumps(row | {"prompt_template": text}) + "\n")
    (tmp_path / "same.jsonl").write_text(json.dumps(row | {"prompt_template": text}) + "\n")
    (tmp_path / "other.jsonl").write_text(json.dumps(row | {"prompt_template": text + "!"}) + "\n")

    def of(name: str) -> set[str]:
        plan = experiment(*OPENAI, *FEW, f"judge.prompts={tmp_path}/{name}.jsonl")
        return {stage.fingerprint for stage in verdicts(plan).values()}

    assert of("prompts") == of("same")
    assert of("prompts").isdisjoint(of("other"))
    with pytest.raises(ConfigurationError, match=r"judge.prompts=.*none.jsonl: .*give a file of FastChat's form"):
        of("none")


def test_a_benchmark_does_not_touch_the_training(files: tuple[str, ...]) -> None:
    plain = {stage.fingerprint for stage in experiment(*files, "suite=files").plan}
    with_it = experiment(*mine(files, kinds="[single,pair]"))
    new = Counter(stage.kind for stage in with_it.plan if stage.fingerprint not in plain)
    assert set(new) == {"questions", "respond", "judge", "verdicts", "report"}
    assert new["questions"] == 1
    assert new["verdicts"] == 3 + 3  # three pairs, three models scored


def test_baselines_are_compared_within_their_category(files: tuple[str, ...]) -> None:
    found = verdicts(experiment(*mine(files, baselines="{{math: '{folder}/answers.jsonl'}}")))
    stage = found["verdicts SALSA against the baseline: mine (math)"]
    assert stage.config["category"] == "math"
    assert stage.execution["expected"] == {
        "questions": 2,
        "turns": 4,
        "bytes": 2 * 12 + 2 * 11,
        "baseline": 4,
        "reply": 64,
    }
    assert "opponent" not in stage.inputs
    whole = verdicts(experiment(*mine(files, baselines="{{all: '{folder}/answers.jsonl'}}")))
    assert whole["verdicts SALSA against the baseline: mine"].config["category"] == ""


def test_temperatures_of_categories_are_part_of_the_replies_identity(files: tuple[str, ...]) -> None:
    def generation(**values: str) -> Any:
        plan = experiment(*mine(files, **values)).plan
        return next(stage for stage in plan if stage.name == "respond SALSA: mine").config["generation"]

    assert "temperatures" not in generation()
    found = generation(temperatures="{{math: 0, writing: .7}}", temperature=".3", max_new_tokens="12")
    assert found == {
        "temperature": 0.3,
        "temperatures": {"math": 0.0, "writing": 0.7},
        "max_new_tokens": 12,
        "context": 512,
    }


def test_the_cost_is_known_before_anything_is_asked(files: tuple[str, ...], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    prices = ("judge.price_in=2", "judge.price_out=8", "judge.max_tokens=100")
    (found,) = expenses(experiment(*mine(files, kinds="[single,pair]"), *prices).plan, store)
    known = found.tokens
    assert known.calls == 3 * 2 * 5 + 3 * 5  # three pairs in two orders, three models' scores; five turns
    assert known.most_out == known.out == 100 * known.calls
    assert found.counted
    assert found.price(known.out) == pytest.approx((2 * known.read + 8 * known.out) / 1e6)
    (unpriced,) = expenses(experiment(*mine(files, kinds="[single,pair]")).plan, store)
    assert "no price list (judge.price_in)" in str(unpriced)
    assert not expenses(experiment("suite=single").plan, store)


def test_what_a_judge_needs_is_missed_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (missing,) = problems(config(*OPENAI))
    assert missing.startswith("judge.key_variable=OPENAI_API_KEY: there is no key for https://api.openai.com/v1")
    assert not problems(config(*OPENAI, "judge.key_variable=null"))
    assert not problems(config(*OPENAI, "judge.url=http://localhost:8000/v1"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret of mine")
    (bad,) = problems(config(*OPENAI))
    assert "secret" not in bad
    (tmp_path / "judge_that_breaks.py").write_text("raise RuntimeError('broken')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    function = ("judge=function", "suite=single", "logger=none")
    (broken,) = problems(config(*function, "judge.function={_target_: judge_that_breaks.any}"))
    assert "judge_that_breaks cannot be imported: RuntimeError: broken" in broken


def test_missing_files_of_benchmarks_are_named(files: tuple[str, ...]) -> None:
    with pytest.raises(FileNotFoundError, match=r"suite.benchmarks.mine.references: no file /nowhere.jsonl"):
        experiment(*mine(files, references="/nowhere.jsonl"))
    found = problems(config(*mine(files, references="/nowhere.jsonl", baselines="{{all: /none.jsonl}}")))
    assert [each.split(":")[0] for each in found] == [
        "suite.benchmarks.mine.references",
        "suite.benchmarks.mine.baselines.all",
    ]


def test_the_key_is_nowhere_in_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    assert "sk-very-secret" in os.environ["OPENAI_API_KEY"]
    assert "sk-very-secret" not in json.dumps(experiment(*OPENAI).plan.to_json())
