"""Stage `anchors`: KL of a model to SFT1, SFT2 and the soup, from replies it stored with its log-probabilities.

A policy leaves such replies along its training, so that this stage also gives the curves; PPO itself knows no anchor.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from pipelines.prompts import fitting
from pipelines.replies import to_replies
from pipelines.scoring import Scorer, judge_scores, load_scorer
from pipelines.stages.respond import FIRST_TURN
from pipelines.work import Work
from salsa.data.conversation import Prompt
from salsa.evaluation.statistics import cluster_bootstrap_means, clustered_standard_error
from salsa.models.families import load_causal, load_tokenizer
from salsa.rl.objectives import k1, k3
from salsa.rl.rollout import Rollout
from salsa.rl.scoring import reply_logps
from salsa.rl.sequences import Sequences, reply_mask

ANCHORS = "anchors.json"


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `anchors.json`: KL at the end with intervals, and a point for each set of stored replies."""
    files = _files(work.inputs["replies"].path)
    tokenizer = load_tokenizer(work.inputs["anchor_sft_1"].path)
    suite = work.source.suite("validation", work.config["prompts"])
    prompts, _ = fitting(tokenizer, suite, work.config["generation"], "suite validation")
    models = {
        role.removeprefix("anchor_"): load_causal(artifact.path)
        for role, artifact in work.inputs.items()
        if role.startswith("anchor_")
    }
    scorer = load_scorer(work, "reward")
    clusters = [prompt.cluster or prompt.id for prompt in prompts]
    points = []
    for count, (step, path) in enumerate(files.items()):
        work.progress(count, len(files), f"replies of step {step}")
        points.append({"step": step} | _point(work, path, prompts, clusters, tokenizer, models, scorer))
    final = {}
    for name, per_reply in points[-1]["values"].items():
        table = np.array([per_reply["k1"], per_reply["k3"]]).T
        estimates = cluster_bootstrap_means(table, clusters, np.random.default_rng(0))
        final[name] = {key: asdict(estimate) for key, estimate in zip(("k1", "k3"), estimates, strict=True)}
    for point in points:
        del point["values"]
    (work.folder / ANCHORS).write_text(json.dumps({"final": final, "points": points}, indent=1))
    says = ", ".join(f"KL to {name} {estimate['k1']['value']:.2f}" for name, estimate in final.items())
    return says + " nats a reply", {f"kl_{name}": estimate["k1"]["value"] for name, estimate in final.items()}


def _files(folder: Path) -> dict[int, Path]:
    """Return the stored replies by training step; 0 for a model that was not trained by RL."""
    trace = sorted((folder / "trace").glob("step_*.safetensors"))
    if trace:
        return {int(path.stem.removeprefix("step_")): path for path in trace}
    return {0: folder / FIRST_TURN}


def _point(
    work: Work,
    path: Path,
    prompts: list[Prompt],
    clusters: list[str],
    tokenizer: Any,
    models: dict[str, Any],
    scorer: Scorer,
) -> dict[str, Any]:
    tensors = load_file(path)
    sequences = Sequences(tensors["ids"], tensors["prompt_lengths"], tensors["reply_lengths"])
    mask = reply_mask(sequences)
    rows = torch.arange(len(sequences.ids))
    last = sequences.ids[rows, sequences.prompt_lengths + sequences.reply_lengths - 1]
    ended = last == tokenizer.eos_token_id
    values, kl = {}, {}
    for name, model in models.items():
        with torch.no_grad():
            anchor = reply_logps(
                model, sequences, work.config["generation"]["temperature"], work.execution.micro_batch_tokens
            )
        log_ratio = (tensors["logps"] - anchor) * mask
        values[name] = {
            key: (estimator(log_ratio) * mask).double().sum(1).tolist() for key, estimator in (("k1", k1), ("k3", k3))
        }
        kl[name] = {
            key: number
            for estimator, per_reply in values[name].items()
            for key, number in (
                (estimator, float(np.mean(per_reply))),
                (f"{estimator}_se", clustered_standard_error(per_reply, clusters)),
            )
        }
    rewards = scorer.score(sequences, ended).tolist()
    replies = to_replies(Rollout(sequences, tensors["logps"], ended), tokenizer)
    prompt_ids = [ids[:length] for ids, length in zip(sequences.ids.tolist(), sequences.prompt_lengths, strict=True)]
    judged = judge_scores(
        work,
        [Prompt(prompt.id, prompt.questions[:1], prompt.context, query=prompt.query) for prompt in prompts],
        [(reply.text,) for reply in replies],
        [(reply.ended,) for reply in replies],
        prompt_ids,
        [reply.ids for reply in replies],
        ended,
        range(len(prompts)),
    )
    return {
        "judge": float(np.mean(judged)),
        "judge_se": clustered_standard_error(judged, clusters),
        "reward": float(np.mean(rewards)),
        "reward_se": clustered_standard_error(rewards, clusters),
        "length": float(sequences.reply_lengths.double().mean()),
        "unfinished": 1 - float(ended.double().mean()),
        "kl": kl,
        "values": values,
    }
