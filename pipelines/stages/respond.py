"""Stage `respond`: a model answers a suite; every turn of a prompt is generated."""

import json
from dataclasses import asdict
from typing import Any

from pipelines.replies import sample_replies
from pipelines.work import Work
from salsa.data.chat import encode_prompts
from salsa.data.lengths import fit_prompts
from salsa.models.families import load_causal, load_tokenizer

RESPONSES = "responses.jsonl"


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `responses.jsonl`: texts (with the control tokens that a model wrote) and token ids of turns, by prompt."""
    config, generation = work.config, work.config["generation"]
    folder = work.inputs["model"].path
    tokenizer, model = load_tokenizer(folder), load_causal(folder)
    suite = work.source.suite(config["suite"], config["prompts"])
    fitting = fit_prompts(tokenizer, suite, generation["context"], generation["max_new_tokens"])
    prompts = fitting.kept
    turns = max(len(prompt.questions) for prompt in prompts)
    answered: list[dict[str, Any]] = [
        {"prompt": asdict(prompt), "prompt_ids": [], "reply_ids": [], "replies": [], "ended": []} for prompt in prompts
    ]
    said: list[list[str]] = [[] for _ in prompts]  # what later turns are asked after: the replies as plain text
    for turn in range(turns):
        open_ = [index for index, prompt in enumerate(prompts) if len(prompt.questions) > turn]
        conversations = [prompts[index].conversation(tuple(said[index])) for index in open_]
        ids = encode_prompts(tokenizer, conversations)
        seed = work.seed(f"respond {config['suite']}", turn)
        span = (turn * len(prompts), turns * len(prompts))
        replies = sample_replies(work, model, tokenizer, ids, seed, generation, span)
        for index, prompt_ids, reply in zip(open_, ids, replies, strict=True):
            answered[index]["prompt_ids"].append(prompt_ids)
            answered[index]["reply_ids"].append(reply.ids)
            answered[index]["replies"].append(reply.visible)
            said[index].append(reply.text)
            answered[index]["ended"].append(reply.ended)
    with (work.folder / RESPONSES).open("w", encoding="utf-8") as file:
        for row in answered:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    says = f"{len(prompts)} prompts" + (f" of {turns} turns" if turns > 1 else "")
    if fitting.too_long:
        says += f"; {fitting.message('prompts')}"
    return says, {"prompts": len(prompts), "too_long": fitting.too_long}
