"""Stage `anchors`: KL of a model to SFT1, SFT2 and the soup, on its own replies to fixed prompts at temperature 1.

A policy leaves such replies, with its log-probabilities, along its training, so that this stage also gives the curves;
PPO itself knows no anchor. The replies of a model that no RL made come from a `respond` stage and are scored here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.device import place
from pipelines.replies import first_turn
from pipelines.scoring import Answers, GoldJudge, Scorer, load_judge, load_scorer
from pipelines.stages.align import TRACE
from pipelines.stages.respond import RESPONSES
from pipelines.work import Work
from salsa.data.chat import decode_replies
from salsa.data.conversation import Prompt
from salsa.data.lengths import fit_prompts
from salsa.evaluation.statistics import clustered_standard_error
from salsa.models.families import load_causal, load_tokenizer
from salsa.models.scoring import reply_logps
from salsa.models.sequences import Sequences, pack, reply_mask
from salsa.rl.objectives import k1, k3
from salsa.rl.trace import read_trace

ANCHORS = "anchors.json"
ESTIMATORS = {"k1": k1, "k3": k3}


@dataclass(frozen=True)
class Replies:
    """A model's replies after `step` training steps, with its own log-probabilities [rows, longest reply]."""

    step: int
    sequences: Sequences
    logps: Tensor
    ended: Tensor


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `anchors.json`: KL of each last reply with the replies' clusters, and a point for each set of replies."""
    tokenizer = load_tokenizer(work.inputs["anchor_sft_1"].path)
    suite = work.source.suite("validation", work.config["prompts"])
    generation = work.config["generation"]
    kept = fit_prompts(tokenizer, suite, generation["context"], generation["max_new_tokens"]).kept
    prompts = [first_turn(prompt) for prompt in kept]
    clusters = [prompt.cluster or prompt.id for prompt in prompts]
    anchors = {
        role.removeprefix("anchor_"): place(load_causal(artifact.path), work.execution)
        for role, artifact in work.inputs.items()
        if role.startswith("anchor_")
    }
    scorer, judge = load_scorer(work, "reward"), load_judge(work)
    points, divergences = [], {}
    for replies in _replies(work, tokenizer):
        divergences = _divergences(work, replies, anchors)
        scores = _scores(_answers(replies, prompts, tokenizer), scorer, judge, clusters)
        lengths = replies.sequences.reply_lengths.tolist()
        points.append({"step": replies.step} | scores | {"kl": _summaries(divergences, lengths, clusters)})
    final = {"clusters": clusters, "divergences": divergences}
    (work.folder / ANCHORS).write_text(json.dumps({"final": final, "points": points}, indent=1))
    means = {name: float(np.mean(per_reply["k1"])) for name, per_reply in divergences.items()}
    says = ", ".join(f"to {name} {mean:.2f}" for name, mean in means.items())
    return f"KL {says} nats a reply", {f"kl_{name}": mean for name, mean in means.items()}


def _replies(work: Work, tokenizer: Any) -> Iterator[Replies]:
    """Yield the stored replies in the order of training; one set for a model that was not trained by RL."""
    artifact = work.inputs["replies"]
    files = sorted((artifact.path / TRACE).glob("step_*.safetensors"))
    for count, path in enumerate(files):
        work.progress(count, len(files), "scoring stored replies")
        traced = read_trace(path)
        yield Replies(int(path.stem.removeprefix("step_")), traced.sequences, traced.logps, traced.ended)
    if not files:
        rows = artifact.lines(RESPONSES)
        sequences = pack(
            [row["prompt_ids"][0] for row in rows], [row["reply_ids"][0] for row in rows], tokenizer.pad_token_id
        )
        logps = _logps(work, place(load_causal(work.inputs["model"].path), work.execution), sequences)
        yield Replies(0, sequences, logps, torch.tensor([row["ended"][0] for row in rows]))


def _logps(work: Work, model: Any, sequences: Sequences) -> Tensor:
    with torch.inference_mode():
        return reply_logps(model, sequences, 1.0, max_tokens=work.execution.micro_batch_tokens)[0].cpu()


def _divergences(work: Work, replies: Replies, anchors: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Return the estimates k1 and k3 of KL(model || anchor) of each reply, nats, by anchor."""
    mask = reply_mask(replies.sequences)
    per_anchor = {}
    for name, model in anchors.items():
        logps = _logps(work, model, replies.sequences)
        per_anchor[name] = {
            key: torch.where(mask, estimate(replies.logps, logps), 0.0).double().sum(1).tolist()
            for key, estimate in ESTIMATORS.items()
        }
    return per_anchor


def _summaries(
    divergences: dict[str, dict[str, list[float]]], lengths: list[int], clusters: list[str]
) -> dict[str, dict[str, Any]]:
    """Return by anchor the means k1 and k3 a reply and k1_token and k3_token a token, with standard errors (..._se).

    A token's mean is the sum over all tokens by their number; its standard error is that of a ratio (Cochran 1977).
    """
    summaries: dict[str, dict[str, Any]] = {}
    mean_length = float(np.mean(lengths))
    for name, per_reply in divergences.items():
        summary = summaries[name] = {}
        for key, values in per_reply.items():
            summary[key] = float(np.mean(values))
            summary[f"{key}_se"] = clustered_standard_error(values, clusters)
            summary[f"{key}_token"] = ratio = summary[key] / mean_length
            error = clustered_standard_error(np.asarray(values) - ratio * np.asarray(lengths), clusters)
            summary[f"{key}_token_se"] = None if error is None else error / mean_length
    return summaries


def _answers(replies: Replies, prompts: list[Prompt], tokenizer: Any) -> Answers:
    ids, begins, counts = (field.tolist() for field in replies.sequences)
    reply_ids = [row[begin : begin + count] for row, begin, count in zip(ids, begins, counts, strict=True)]
    return Answers(
        prompts=prompts,
        texts=[(text,) for text in decode_replies(tokenizer, reply_ids, keep_control=True)],
        ends=[(end,) for end in replies.ended.tolist()],
        prompt_ids=[row[:begin] for row, begin in zip(ids, begins, strict=True)],
        reply_ids=reply_ids,
    )


def _scores(
    answers: Answers, scorer: Scorer, judge: Scorer | GoldJudge | None, clusters: list[str]
) -> dict[str, float | None]:
    """Return the mean judge and reward-model scores of replies, with standard errors, their length and their ends."""
    rewards = scorer.scores(answers)
    judged = judge.scores(answers) if judge else None
    return {
        "judge": float(np.mean(judged)) if judged else None,
        "judge_se": clustered_standard_error(judged, clusters) if judged else None,
        "reward": float(np.mean(rewards)),
        "reward_se": clustered_standard_error(rewards, clusters),
        "length": float(np.mean([len(ids) for ids in answers.reply_ids])),
        "unfinished": 1 - float(answers.ended.double().mean()),
    }
