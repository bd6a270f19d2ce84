"""Stage `point`: one point of a landscape: the weighted sum of models, answered, scored, and measured on held-out text.

Prompts, documents and random numbers are the same at every point, so that differences between points are those of the
models. The model itself is not kept.
"""

import json
from typing import Any

from pipelines.blends import trial
from pipelines.heldout import heldout_losses
from pipelines.replies import answer
from pipelines.scoring import Answers, load_judge, load_scorer
from pipelines.work import Work
from salsa.data.lengths import fit_prompts
from salsa.models.families import load_causal, load_tokenizer

POINT = "point.json"


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `point.json`: scores, lengths and clusters by prompt, loss and tokens by held-out document."""
    config = work.config
    folders = [work.inputs[f"ingredient_{index}"].path for index in range(1, len(config["weights"]) + 1)]
    with trial(work, folders, config["weights"]) as folder:
        tokenizer, model = load_tokenizer(folder), load_causal(folder)
        measured = _replies(work, tokenizer, model)
        losses, documents = heldout_losses(work, tokenizer, model, config["documents"])
    measured |= {"documents": documents, "loss": list(losses.nats), "tokens": list(losses.tokens)}
    (work.folder / POINT).write_text(json.dumps(measured))
    metrics = {key: _mean(measured[key]) for key in ("judge", "reward", "length")}
    metrics["loss"] = losses.mean
    says = (
        f"judge score {metrics['judge']:.2f}, reward {metrics['reward']:.2f}, loss {metrics['loss']:.3f} nats a token"
    )
    return says, metrics


def _replies(work: Work, tokenizer: Any, model: Any) -> dict[str, list[Any]]:
    config, generation = work.config, work.config["generation"]
    suite = work.source.suite(config["suite"], config["prompts"])
    prompts = fit_prompts(tokenizer, suite, generation["context"], generation["max_new_tokens"]).kept
    answered = answer(work, model, tokenizer, prompts, f"landscape {config['suite']}", generation)
    answers = Answers(
        prompts=prompts,
        texts=[tuple(each.replies) for each in answered],
        ends=[tuple(each.ended) for each in answered],
        prompt_ids=[ids for each in answered for ids in each.prompt_ids],
        reply_ids=[ids for each in answered for ids in each.reply_ids],
    )
    judge = load_judge(work)
    assert judge is not None  # the schema refuses a landscape whose judge gives no scores
    return {
        "clusters": [prompt.cluster or prompt.id for prompt in prompts],
        "reward": load_scorer(work, "reward").scores(answers),
        "judge": judge.scores(answers),
        "length": answers.mean_over_turns([float(len(ids)) for ids in answers.reply_ids]),
        "ended": [all(each.ended) for each in answered],
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
