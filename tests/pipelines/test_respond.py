"""A model answers a benchmark: what decides its replies is told, and a kill loses no more than a batch."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.plan import Stage
from pipelines.replies import BATCH_PASSES, ReplyLog, Turn
from pipelines.stages import respond
from pipelines.work import Work
from salsa.data.chat import encode_prompts, set_chat_template, train_bpe
from salsa.data.conversation import Message
from salsa.judging.questions import Question, read_answers, read_questions, write_questions
from salsa.models.families import build, load_causal, load_tokenizer, save
from salsa.rl.responder import Reply, Responder
from salsa.rl.responder import respond as replies_of
from salsa.training.interruption import Interrupted
from tests.data.files import read_lines
from tests.models.tiny import ARCHITECTURES
from tests.pipelines.stage_work import language_model, planned, work

CATEGORIES = ("writing", "math", "stem")
TEMPERATURES = {"writing": 0.7, "math": 0.0}
GENERATION = {"temperature": 1.0, "temperatures": TEMPERATURES, "max_new_tokens": 12, "context": 192}
SUITE = [
    Question(str(81 + index), (f"Why is {'very ' * (index % 4)}{index} odd?", "And then?"), CATEGORIES[index % 3])
    for index in range(9)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes bytes, which are often no text."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_bpe([question.turns[0] for question in SUITE] * 3, 300)
    set_chat_template(tokenizer, "plain")
    save(build(replace(ARCHITECTURES["llama2"], context=256, init_std=0.3), tokenizer, 1), tokenizer, folder)
    return folder


def responding(
    folder: Path,
    model: Path,
    suite: list[Question] = SUITE,
    passes: int = 10_000,
    progress: Callable[[int, int, str], None] = lambda *_: None,
    **generation: Any,
) -> Work:
    """Return the work of answering a benchmark; the key-value cache of a batch has room for `passes` tokens."""
    asked = folder / "asked"
    asked.mkdir(parents=True, exist_ok=True)
    write_questions(asked / "questions.jsonl", suite)
    (asked / "manifest.json").write_text(json.dumps({"files": {}, "metrics": {"contaminated": 2}}))
    config = {"suite": "bench", "prompts": None, "generation": GENERATION | generation, "seed": 0, "replicate": 0}
    stage = Stage("respond", "respond", config, {"model": "ab" * 32, "questions": "c" * 64})
    done = work(stage, {"model": model, "questions": asked}, folder)
    execution = replace(done.execution, micro_batch_tokens=-(-passes // BATCH_PASSES))
    return replace(done, execution=execution, progress=progress)


def texts(done: Work) -> dict[str, list[str]]:
    return {row["prompt"]["id"]: row["replies"] for row in read_lines(done.folder / respond.RESPONSES)}


def files(done: Work) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(done.folder.iterdir())}


def answered(folder: Path, model: Path, **how: Any) -> dict[str, list[str]]:
    done = responding(folder, model, **how)
    respond.run(done)
    return texts(done)


# --- what decides a reply -------------------------------------------------------------------------------------------


def test_without_temperatures_a_suite_of_the_data_is_answered_as_ever(tmp_path: Path) -> None:
    """The noise is that of the prompt's index, the seed that of suite and turn, the batches those of the responder."""
    folder = language_model(tmp_path / "model", 1)
    stage = planned("respond SFT1: single", "suite.prompts=7", "suite.names=[single]")
    done = work(stage, {"model": folder}, tmp_path)
    respond.run(done)
    generation = stage.config["generation"]
    tokenizer = load_tokenizer(folder)
    prompts = encode_prompts(tokenizer, [prompt.conversation() for prompt in done.source.suite("single", 7)])
    responder = Responder(
        load_causal(folder),
        prompts,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        max_new_tokens=generation["max_new_tokens"],
        temperature=generation["temperature"],
        seed=done.seed("respond single"),
    )
    rows = read_lines(done.folder / respond.RESPONSES)
    assert [row["reply_ids"] for row in rows] == [[reply.ids] for reply in replies_of(responder, accelerator="cpu")]
    assert not (done.folder / respond.ANSWERS).exists()


def test_each_category_is_answered_at_its_temperature_with_the_noise_of_the_place(model: Path, tmp_path: Path) -> None:
    mixed = answered(tmp_path / "mixed", model)
    alone = {
        category: answered(
            tmp_path / category,
            model,
            temperatures={},
            temperature=TEMPERATURES.get(category, GENERATION["temperature"]),
        )
        for category in CATEGORIES
    }
    assert mixed == {question.id: alone[question.category][question.id] for question in SUITE}
    assert len({json.dumps(replies) for replies in alone.values()}) == 3
    other = answered(tmp_path / "seed", model, temperatures={}, temperature=0.0)
    assert other == alone["math"]


def test_a_question_that_one_model_cannot_read_leaves_the_noise_of_the_others_as_it_is(
    model: Path, tmp_path: Path
) -> None:
    long = Question("long", ("very " * 200, "And?"), "stem")
    done = responding(tmp_path / "long", model, [*SUITE[:4], long, *SUITE[4:]])
    says, metrics = respond.run(done)
    short = Question("short", ("Why?", "And?"), "stem")
    expected = answered(tmp_path / "short", model, suite=[*SUITE[:4], short, *SUITE[4:]])
    del expected["short"]
    assert texts(done) == expected
    assert (metrics["prompts"], metrics["too_long"]) == (9, 1)
    assert "1 of 10 prompts are longer than the context of 192 tokens" in says


def test_a_second_turn_ends_where_the_context_does(model: Path, tmp_path: Path) -> None:
    """Bytes that are no text come back as odd characters of several tokens each: more than the reply they were."""
    tokenizer = load_tokenizer(model)
    asked = max(len(ids) for ids in encode_prompts(tokenizer, [_whole(question) for question in SUITE]))
    context, longest = asked + 2 * 40, 40
    done = responding(tmp_path, model, context=context, max_new_tokens=longest, temperatures={})
    says, metrics = respond.run(done)
    rows = read_lines(done.folder / respond.RESPONSES)
    inflated = [row for row in rows if len(row["prompt_ids"][1]) + longest > context]
    assert inflated
    for row in rows:
        for prompt, reply, ended in zip(row["prompt_ids"], row["reply_ids"], row["ended"], strict=True):
            assert len(reply) == 1 or len(prompt) + len(reply) <= context
            assert ended == (reply[-1] == tokenizer.eos_token_id)
    cut = [row for row in inflated if not row["ended"][1]]
    assert metrics["cut"] == len(cut) > 0
    assert metrics["contaminated"] == 2  # for the report, which does not read the questions
    assert f"; {len(cut)} replies cut where the context ends" in says


def _whole(question: Question) -> tuple[Message, ...]:
    first, second = question.turns
    return (Message("user", first), Message("assistant", ""), Message("user", second))


# --- what is left ---------------------------------------------------------------------------------------------------


def test_every_setting_is_told(model: Path, tmp_path: Path) -> None:
    done = responding(tmp_path, model)
    respond.run(done)
    told = json.loads((done.folder / respond.GENERATION).read_text())
    tokenizer = load_tokenizer(model)
    assert GENERATION.items() <= told.items()
    assert (told["suite"], told["seed"], told["replicate"], told["model"]) == ("bench", 0, 0, "ab" * 32)
    assert told["turn_seeds"] == [done.seed("respond bench", turn) for turn in range(2)]
    assert told["chat_template"] == tokenizer.chat_template
    assert told["special_tokens"]["eos_token"] == {"text": "<eos>", "id": tokenizer.eos_token_id}
    assert (told["engine"], told["dtype"]) == ("salsa.rl.rollout", "float32")


def test_answers_are_left_as_fastchat_reads_them(model: Path, tmp_path: Path) -> None:
    suite = [*SUITE[:2], Question("007", ("Why?", "And?"), "stem"), Question("2edb", ("How?", "And?"))]
    done = responding(tmp_path, model, suite)
    respond.run(done)
    rows = read_lines(done.folder / respond.ANSWERS)
    assert [row["question_id"] for row in rows] == [81, 82, "007", "2edb"]
    assert {row["model_id"] for row in rows} == {("ab" * 32)[:12]}
    assert all(row["choices"] == [{"index": 0, "turns": texts(done)[str(row["question_id"])]}] for row in rows)
    asked = read_questions(tmp_path / "asked" / "questions.jsonl").questions
    found = read_answers(done.folder / respond.ANSWERS, asked)
    assert {name: list(replies) for name, replies in found.replies.items()} == texts(done)


# --- kills ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[int]]:
    """The files of a run that nothing disturbs, and how far it was after each of its batches."""
    counts: list[int] = []
    folder = tmp_path_factory.mktemp("undisturbed")
    done = responding(folder, model, passes=100, progress=lambda count, *_: counts.append(count))
    respond.run(done)
    return files(done), counts


@contextmanager
def batches_made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Collect the sizes of the batches that are answered."""
    sizes: list[int] = []
    predict = Responder.predict_step

    def spy(self: Responder, indices: torch.Tensor, batch_idx: int = 0) -> list[Reply]:
        sizes.append(len(indices))
        return predict(self, indices, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(Responder, "predict_step", spy)
        yield sizes


def test_there_are_batches_to_be_interrupted_between(undisturbed: tuple[dict[str, bytes], list[int]]) -> None:
    assert len(undisturbed[1]) > 6
    assert undisturbed[1] == sorted(set(undisturbed[1]))
    assert undisturbed[1][-1] == 2 * len(SUITE)


@pytest.mark.parametrize("ending", [Interrupted, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("batches", [1, 4, 6])
def test_an_interrupted_run_goes_on_and_leaves_the_same_files(
    ending: type[BaseException],
    batches: int,
    model: Path,
    tmp_path: Path,
    undisturbed: tuple[dict[str, bytes], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, counts = undisturbed
    seen: list[int] = []

    def progress(done: int, *_: Any) -> None:
        seen.append(done)
        if len(seen) == batches:
            raise ending

    with pytest.raises(ending):
        respond.run(responding(tmp_path, model, passes=100, progress=progress))
    again: list[int] = []
    done = responding(tmp_path, model, passes=100, progress=lambda count, *_: again.append(count))
    with batches_made(monkeypatch) as made:
        respond.run(done)
    assert files(done) == expected
    assert len(made) == len(counts) - batches
    assert again[0] == min(counts[batches - 1], len(SUITE))  # what was answered before is counted at once
    assert again[-1] == 2 * len(SUITE)


def test_the_unfinished_replies_may_end_anywhere(
    model: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], list[int]]
) -> None:
    done = responding(tmp_path, model, passes=100)
    respond.run(done)
    log = done.unfinished / respond.UNFINISHED
    whole = log.read_bytes()
    for size in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        log.write_bytes(whole[:size])
        respond.run(done)
        assert files(done) == undisturbed[0]
        assert _keys(log) == _keys_of(whole)


def _keys(log: Path) -> set[str]:
    return _keys_of(log.read_bytes())


def _keys_of(text: bytes) -> set[str]:
    found = set()
    for line in text.splitlines():
        try:
            found.add(json.loads(line)["key"])
        except ValueError:
            continue
    return found


def test_replies_to_other_prompts_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "replies.jsonl"
    turn = Turn(1, [4, 7])
    with ReplyLog(path) as log:
        log.keep({turn.key(1, [5, 6]): Reply([8, 9], True)})
    with path.open("ab") as file:
        file.write(b'{"key": "1:4:')
    with ReplyLog(path) as log:
        assert log.replies == {turn.key(1, [5, 6]): Reply([8, 9], True)}
        others = [turn.key(1, [5]), turn.key(0, [5, 6]), Turn(0, [4, 7]).key(1, [5, 6])]
        assert not any(key in log.replies for key in others)
        log.keep({others[0]: Reply([1], False)})
    with ReplyLog(path) as log:
        assert log.replies.keys() == {turn.key(1, [5, 6]), others[0]}


def test_a_killed_process_goes_on_where_it_was(
    model: Path,
    tmp_path: Path,
    undisturbed: tuple[dict[str, bytes], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real process, a real kill -9 after the fifth batch."""
    program = (
        "import os, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from pipelines.stages import respond\n"
        "from tests.pipelines.test_respond import responding\n"
        "torch.set_num_threads(int(sys.argv[3]))\n"
        "seen = []\n"
        "def progress(*_):\n"
        "    seen.append(1)\n"
        "    if len(seen) == 5:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "respond.run(responding(Path(sys.argv[1]), Path(sys.argv[2]), passes=100, progress=progress))\n"
    )
    threads = str(torch.get_num_threads())
    command = [sys.executable, "-c", program, str(tmp_path), str(model), threads]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    expected, counts = undisturbed
    assert not (tmp_path / "out" / respond.RESPONSES).exists()
    assert len(_keys(tmp_path / "unfinished" / respond.UNFINISHED)) == counts[4]
    done = responding(tmp_path, model, passes=100)
    with batches_made(monkeypatch) as made:
        respond.run(done)
    assert len(made) == len(counts) - 5
    assert files(done) == expected
