"""What a benchmark's protocol asks of its questions is missed before anything is trained."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipelines import judges, protocol
from pipelines.configuration import ConfigurationError
from pipelines.preflight import problems
from tests.data.files import write_lines
from tests.pipelines.compose import config

MATH = {"question_id": 1, "category": "math", "turns": ["One and one?", "Twice that?"]}
POEM = {"question_id": 2, "category": "writing", "turns": ["A poem."]}
RIGHT = {"question_id": 1, "model_id": "gpt", "choices": [{"turns": ["2", "4"]}]}
PAIR = {"name": "p", "type": "pairwise", "system_prompt": "", "output_format": "[[A]]"}
SINGLE = {"name": "s", "type": "single", "system_prompt": "", "output_format": "[[rating]]"}
FIRST, SECOND = "{question} {answer_a} {answer_b}", "{question_1} {question_2} {answer_a_1} {answer_b_2}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of a benchmark of two questions."""
    pairs = [{"prompt": f"Why {n}?", "chosen": "Because.", "rejected": "No."} for n in range(30)]
    write_lines(tmp_path / "pairs.jsonl", pairs)
    write_lines(tmp_path / "question.jsonl", [MATH, POEM])
    write_lines(tmp_path / "right.jsonl", [RIGHT])
    return tmp_path


def said(folder: Path, values: Mapping[str, Any], *more: str) -> list[str]:
    """Return what preflight says of an experiment with the benchmark `mine`."""
    given = {"questions": f"{folder}/question.jsonl", **values}
    plain = {key: json.dumps(value).replace('"', "") for key, value in given.items()}  # Hydra's keys have no quotes
    named = [f"suite.benchmarks.mine.{key}={value}" for key, value in plain.items()]
    judge = ("judge=openai", "judge.model=judge-1", "judge.url=http://localhost:1/v1", "logger=none")
    data = ("data=files", f"data.preferences=[{folder}/pairs.jsonl]", "suite=files", "suite.names=[mine]")
    return problems(config(*data, *judge, *named, *more))


def test_a_protocol_that_its_questions_bear_is_not_complained_about(folder: Path) -> None:
    references = {"references": f"{folder}/right.jsonl", "reference_categories": ["math"]}
    assert not said(folder, {})
    assert not said(folder, references | {"kinds": ["single", "pair"], "temperatures": {"math": 0, "writing": 0.7}})
    # MT-Bench's own categories, of which a selection of questions may lack some
    assert not said(folder, references | {"temperatures": {"stem": 0.1}})


def test_a_category_that_no_question_has_is_named(folder: Path) -> None:
    wrong = {"references": f"{folder}/right.jsonl", "reference_categories": ["maths"], "temperatures": {"wriitng": 1}}
    first, second = said(folder, wrong)
    assert first.startswith("suite.benchmarks.mine.reference_categories: no question is of category 'maths'; their")
    assert "categories are math, writing" in first
    assert second.startswith("suite.benchmarks.mine.temperatures: no question is of category 'wriitng'")


def test_a_question_without_its_right_answer_is_named(folder: Path) -> None:
    (found,) = said(folder, {"references": f"{folder}/right.jsonl", "reference_categories": ["math", "writing"]})
    assert found.startswith("suite.benchmarks.mine.references: ")
    assert "no reference for all turns of 1 question (2)" in found


def test_a_baseline_must_have_a_category_and_answers(folder: Path) -> None:
    other = write_lines(folder / "other.jsonl", [RIGHT | {"question_id": "u1"}])
    (unknown,) = said(folder, {"baselines": {"maths": f"{folder}/right.jsonl"}})
    assert unknown.startswith("suite.benchmarks.mine.baselines.maths: none of the 2 questions is of category 'maths'")
    (foreign,) = said(folder, {"baselines": {"all": str(other)}})
    assert foreign == (
        f"suite.benchmarks.mine.baselines.all={other}: answers none of the 2 questions; is it of another benchmark?"
    )
    assert not said(folder, {"baselines": {"math": f"{folder}/right.jsonl"}})
    write_lines(folder / "question.jsonl", [MATH, MATH | {"question_id": 3}, POEM])
    (left_out,) = said(folder, {"baselines": {"writing": f"{folder}/right.jsonl"}, "prompts": 2})
    assert "none of the 2 questions is of category 'writing'" in left_out


def test_prompts_must_be_there_for_all_that_is_asked(folder: Path) -> None:
    rows = [PAIR | {"prompt_template": FIRST}, PAIR | {"name": "q", "prompt_template": SECOND}]
    path = str(write_lines(folder / "prompts.jsonl", rows))
    assert not said(folder, {"judge_prompts": path})
    (kind,) = said(folder, {"judge_prompts": path, "kinds": ["single", "pair"]})
    assert kind.startswith(f"suite.benchmarks.mine.judge_prompts={path}: {path} has no prompt of kind single")
    assert "--prompts" not in kind
    references = {"references": f"{folder}/right.jsonl", "reference_categories": ["math"]}
    (form,) = said(folder, {"judge_prompts": path} | references)
    assert "has no prompt for pair, turn 1, with a reference" in form
    first = str(write_lines(folder / "first.jsonl", rows[:1]))
    (turn,) = said(folder, {}, f"judge.prompts={first}")
    assert turn.startswith(f"judge.prompts={first}: ")
    assert "pair, turn 2, without a reference" in turn
    (plain,) = said(folder, {}, f"judge.prompts={first}", "judge.kinds=[single]", "suite.names=[heldout]")
    assert "no prompt of kind single" in plain


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", ""),
        (", margin: 3", ""),
        (", margn: 3", r"judge.function=my_judges.shorter: got an unexpected keyword argument 'margn'"),
        (", requests: 3", r"judge.function=my_judges.shorter: multiple values for argument 'requests'"),
    ],
)
def test_arguments_that_a_function_does_not_take_are_named(
    arguments: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_judges.py").write_text("def shorter(requests, margin=1):\n    return []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    function = f"judge.function={{_target_: my_judges.shorter{arguments}}}"
    found = problems(config("judge=function", "suite=single", "logger=none", function))
    assert len(found) == (says != "")
    assert all(each.startswith(says) for each in found)


def test_no_object_is_made_of_a_class_that_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take minutes and a GPU, and preflight answers within a second."""
    (tmp_path / "heavy_judges.py").write_text(
        "class Heavy:\n"
        "    def __init__(self, size):\n"
        "        raise RuntimeError('made')\n"
        "    def __call__(self, requests):\n"
        "        return []\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    judge = ("judge=function", "suite=single", "logger=none")
    assert not problems(config(*judge, "judge.function={_target_: heavy_judges.Heavy, size: 3}"))
    (missing,) = problems(config(*judge, "judge.function={_target_: heavy_judges.Heavy}"))
    assert "missing a required argument: 'size'" in missing


def test_prompts_may_lie_on_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(folder / "prompts.jsonl", [PAIR | {"prompt_template": FIRST}])
    address = "hf://spaces/lmsys/mt-bench/data/judge_prompts.jsonl"
    with pytest.raises(ConfigurationError, match=r"judge\.prompts=hf://spaces/.*is not in the local cache"):
        judges.prompts_digest("judge.prompts", address, 3)
    monkeypatch.setattr("salsa.data.address.fetch", lambda asked: path if asked == address else Path(asked))
    assert judges.prompts_digest("judge.prompts", address, 3) == judges.prompts_digest("judge.prompts", str(path), 3)
    assert judges.absolute(address) == address
    assert judges.absolute(str(path)) == str(path)


def test_a_protocol_is_told_in_plain_values(folder: Path) -> None:
    parsed = config("judge=openai", "judge.model=x", "suite=single", "logger=none", "judge.kinds=[single]")
    made = protocol.of(parsed, "single", None)
    assert protocol.Protocol(**json.loads(json.dumps(made.to_json()))) == made
    assert (made.kinds, made.prompts_key) == (["single"], "judge.prompts")


def test_judges_of_names_alike_have_logs_of_their_own() -> None:
    names = ("a/b", "a_b", "a:b", "gpt-4.1-2025-04-14", "/models/" + "x" * 300, "/models/" + "x" * 301, "..")
    assert len({judges.log_path(name) for name in names}) == len(names)
    assert judges.log_path("gpt-4.1-2025-04-14") == Path("verdicts/gpt-4.1-2025-04-14.jsonl")
    assert all(len(judges.log_path(name).name) < 150 for name in names)
