"""Stage `respond`: a model answers a suite; every turn of a prompt is generated."""

import json
from dataclasses import asdict
from typing import Any

from pipelines.replies import answer
from pipelines.work import Work
from salsa.data.lengths import fit_prompts
from salsa.models.families import load_causal, load_tokenizer

RESPONSES = "responses.jsonl"
_KEPT = ("prompt", "prompt_ids", "reply_ids", "replies", "ended")


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `responses.jsonl`: texts (with the control tokens that a model wrote) and token ids of turns, by prompt."""
    config, generation = work.config, work.config["generation"]
    folder = work.inputs["model"].path
    tokenizer, model = load_tokenizer(folder), load_causal(folder)
    suite = work.source.suite(config["suite"], config["prompts"])
    fitting = fit_prompts(tokenizer, suite, generation["context"], generation["max_new_tokens"])
    answered = answer(work, model, tokenizer, fitting.kept, f"respond {config['suite']}", generation)
    with (work.folder / RESPONSES).open("w", encoding="utf-8") as file:
        for each in answered:
            row = asdict(each)
            file.write(json.dumps({key: row[key] for key in _KEPT}, ensure_ascii=False) + "\n")
    turns = max(len(each.replies) for each in answered)
    says = f"{len(answered)} prompts" + (f" of {turns} turns" if turns > 1 else "")
    if fitting.too_long:
        says += f"; {fitting.message('prompts')}"
    return says, {"prompts": len(answered), "too_long": fitting.too_long}
