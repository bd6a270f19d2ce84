"""Stage `respond`: a model answers a suite; every turn of a prompt is generated."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.replies import Answered, ReplyLog, answer
from pipelines.stages.questions import QUESTIONS
from pipelines.work import Work
from salsa.data.conversation import Prompt
from salsa.data.lengths import fit_prompts
from salsa.judging.questions import read_questions
from salsa.models.families import load_causal, load_tokenizer

RESPONSES = "responses.jsonl"
ANSWERS = "answers.jsonl"
GENERATION = "generation.json"
UNFINISHED = "replies.jsonl"
_KEPT = ("prompt", "prompt_ids", "reply_ids", "replies", "ended")
_NUMBER = re.compile(r"0|[1-9]\d{0,8}")


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `responses.jsonl`: texts (with the control tokens that a model wrote) and token ids of turns, by prompt.

    `generation.json` tells all settings behind them. Answers to a benchmark are also left in FastChat's form.
    """
    config, generation = work.config, work.config["generation"]
    folder, benchmark = work.inputs["model"].path, "questions" in work.inputs
    tokenizer, model = load_tokenizer(folder), load_causal(folder)
    fitting = fit_prompts(tokenizer, _suite(work), generation["context"], generation["max_new_tokens"])
    role = f"respond {config['suite']}"
    with ReplyLog(work.unfinished / UNFINISHED) as log:
        places = fitting.indices if benchmark else None
        answered = answer(work, model, tokenizer, fitting.kept, role, generation, log, places)
    _write(work.folder / RESPONSES, [{key: row[key] for key in _KEPT} for row in map(asdict, answered)])
    turns = max(len(each.replies) for each in answered)
    settings = _settings(work, model, tokenizer, [work.seed(role, turn) for turn in range(turns)])
    (work.folder / GENERATION).write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    metrics: dict[str, Any] = {"prompts": len(answered), "too_long": fitting.too_long}
    says = f"{len(answered)} prompts" + (f" of {turns} turns" if turns > 1 else "")
    if fitting.too_long:
        says += f"; {fitting.message('prompts')}"
    if benchmark:
        _write(work.folder / ANSWERS, _answers(work.stage.inputs["model"][:12], answered))
        metrics["cut"] = sum(_cut(each, generation) for each in answered)
        metrics["contaminated"] = work.inputs["questions"].metrics.get("contaminated")
        says += f"; {metrics['cut']} replies cut where the context ends" if metrics["cut"] else ""
    return says, metrics


def _suite(work: Work) -> list[Prompt]:
    """Return the prompts: the questions of a benchmark, or a suite of the data."""
    config = work.config
    if "questions" not in work.inputs:
        return work.source.suite(config["suite"], config["prompts"])
    questions = read_questions(work.inputs["questions"].file(QUESTIONS)).questions[: config["prompts"]]
    return [
        Prompt(question.id, question.turns, cluster=question.cluster, category=question.category)
        for question in questions
    ]


def _cut(answered: Answered, generation: Mapping[str, Any]) -> int:
    """Return how many replies are shorter than they might be because the context ends there."""
    longest = generation["max_new_tokens"]
    return sum(not ended and len(ids) < longest for ids, ended in zip(answered.reply_ids, answered.ended, strict=True))


def _answers(model: str, answered: Sequence[Answered]) -> list[dict[str, Any]]:
    """Return rows that FastChat's tools read; its own questions have numbers."""
    return [
        {
            "question_id": int(name) if _NUMBER.fullmatch(name := each.prompt.id) else name,
            "model_id": model,
            "choices": [{"index": 0, "turns": each.replies}],
        }
        for each in answered
    ]


def _settings(work: Work, model: Any, tokenizer: Any, seeds: Sequence[int]) -> dict[str, Any]:
    """Return everything that decides the replies, for whoever is to make them again elsewhere."""
    config = work.config
    specials = tokenizer.special_tokens_map
    return {
        "suite": config["suite"],
        "model": work.stage.inputs["model"],
        "temperatures": {},
        **config["generation"],
        "seed": config["seed"],
        "replicate": config.get("replicate", 0),
        "turn_seeds": list(seeds),
        "chat_template": tokenizer.chat_template,
        "special_tokens": {
            name: {"text": text, "id": tokenizer.convert_tokens_to_ids(text)}
            for name, text in sorted(specials.items())
            if isinstance(text, str)
        },
        "engine": "salsa.rl.rollout",
        "attention": model.config._attn_implementation,
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
