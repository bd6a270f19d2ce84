"""Stage `anchors`: KL of a model to SFT1, SFT2 and the soup, on its own replies to fixed prompts at temperature 1.

A policy leaves such replies, with its log-probabilities, along its training, so that this stage also gives the curves;
PPO itself knows no anchor. The replies of a model that no RL made come from a `respond` stage and are scored here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.scoring import judge_scores, load_scorer
from pipelines.stages.align import TRACE
from pipelines.stages.respond import RESPONSES
from pipelines.work import Work
from salsa.data.chat import decode_replies
from salsa.data.conversation import Prompt
from salsa.data.lengths import fit_prompts
from salsa.evaluation.statistics import cluster_bootstrap_means, clustered_standard_error
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
    """Leave `anchors.json`: KL at the end with intervals, and a point for each set of stored replies."""
    tokenizer = load_tokenizer(work.inputs["anchor_sft_1"].path)
    suite = work.source.suite("validation", work.config["prompts"])
    generation = work.config["generation"]
    kept = fit_prompts(tokenizer, suite, generation["context"], generation["max_new_tokens"]).kept
    prompts = [Prompt(p.id, p.questions[:1], p.context, p.cluster, query=_first_turn(p.query)) for p in kept]
    clusters = [prompt.cluster or prompt.id for prompt in prompts]
    anchors = {
        role.removeprefix("anchor_"): load_causal(artifact.path)
        for role, artifact in work.inputs.items()
        if role.startswith("anchor_")
    }
    points, divergences = [], {}
    for replies in _replies(work, tokenizer):
        divergences = _divergences(work, replies, anchors)
        scores = _scores(work, replies, prompts, clusters, tokenizer)
        points.append({"step": replies.step} | scores | {"kl": _summaries(divergences, clusters)})
    final = {}
    for name, per_reply in divergences.items():
        estimates = cluster_bootstrap_means(np.array(list(per_reply.values())).T, clusters, np.random.default_rng(0))
        final[name] = {key: asdict(estimate) for key, estimate in zip(per_reply, estimates, strict=True)}
    (work.folder / ANCHORS).write_text(json.dumps({"final": final, "points": points}, indent=1))
    says = ", ".join(f"to {name} {estimate['k1']['value']:.2f}" for name, estimate in final.items())
    metrics = {f"kl_{name}": estimate["k1"]["value"] for name, estimate in final.items()}
    return f"KL {says} nats a reply", metrics


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
        logps = _logps(work, load_causal(work.inputs["model"].path), sequences)
        yield Replies(0, sequences, logps, torch.tensor([row["ended"][0] for row in rows]))


def _logps(work: Work, model: Any, sequences: Sequences) -> Tensor:
    with torch.inference_mode():
        return reply_logps(model, sequences, 1.0, max_tokens=work.execution.micro_batch_tokens)[0]


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


def _summaries(divergences: dict[str, dict[str, list[float]]], clusters: list[str]) -> dict[str, dict[str, Any]]:
    """Return means and clustered standard errors by anchor: k1, k1_se, k3, k3_se."""
    return {
        name: {key: float(np.mean(values)) for key, values in per_reply.items()}
        | {f"{key}_se": clustered_standard_error(values, clusters) for key, values in per_reply.items()}
        for name, per_reply in divergences.items()
    }


def _scores(
    work: Work, replies: Replies, prompts: list[Prompt], clusters: list[str], tokenizer: Any
) -> dict[str, float | None]:
    """Return the mean judge and reward-model scores of replies, with standard errors, their length and their ends."""
    ids, begins, counts = (field.tolist() for field in replies.sequences)
    prompt_ids = [row[:begin] for row, begin in zip(ids, begins, strict=True)]
    reply_ids = [row[begin : begin + count] for row, begin, count in zip(ids, begins, counts, strict=True)]
    texts = [(text,) for text in decode_replies(tokenizer, reply_ids)]
    ends = [(end,) for end in replies.ended.tolist()]
    rewards = load_scorer(work, "reward").score(prompt_ids, reply_ids, replies.ended)
    judged = judge_scores(work, prompts, texts, ends, prompt_ids, reply_ids, replies.ended, list(range(len(prompts))))
    return {
        "judge": float(np.mean(judged)),
        "judge_se": clustered_standard_error(judged, clusters),
        "reward": float(np.mean(rewards)),
        "reward_se": clustered_standard_error(rewards, clusters),
        "length": float(np.mean(counts)),
        "unfinished": 1 - float(replies.ended.double().mean()),
    }


def _first_turn(query: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if query is None:
        return None
    return {key: value[:1] if key == "turns" else value for key, value in query.items()}
