"""Stage `reward`: a reward model on pairs (Bradley-Terry), its held-out quality, and what zero and one of it mean."""

import json
from typing import Any

import numpy as np
import torch

from pipelines.device import place
from pipelines.replies import sample_replies
from pipelines.stages.preferences import HELDOUT, TRAIN
from pipelines.training import optimiser_settings, train
from pipelines.work import Work
from salsa.data.chat import encode_prompts
from salsa.data.lengths import fit_prompts
from salsa.evaluation.calibration import calibration
from salsa.models.families import load_causal, load_tokenizer, save
from salsa.models.heads import reward_from_causal
from salsa.models.scoring import sequence_scores
from salsa.models.sequences import pack
from salsa.training.batches import batch_indices
from salsa.training.preference import RewardModeling, collate_pairs, preference_margins


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave the reward model's folder with `reward.json`: normaliser, accuracy, calibration, correlation with gold."""
    config = work.config
    start = work.inputs["start"].path
    tokenizer = load_tokenizer(start)
    pad = tokenizer.pad_token_id
    # Published weights come in half precision, whose steps are larger than an update at a usual learning rate.
    model = reward_from_causal(load_causal(start, torch.float32), work.seed(f"{config['role']} head"))
    pairs = work.inputs["preferences"].lines(TRAIN)
    order = work.seed(f"{config['role']} order")
    module = RewardModeling(model, optimiser_settings(config["optimiser"]), config["steps"])
    last = train(
        work,
        module,
        lambda step: collate_pairs([pairs[i] for i in batch_indices(order, step, config["batch"], len(pairs))], pad),
        config["steps"],
    )
    place(model.eval(), work.execution)
    heldout = _heldout(work, model, pad)
    normaliser = _normaliser(work, model, tokenizer)
    save(model, tokenizer, work.folder)
    (work.folder / "reward.json").write_text(json.dumps(heldout | normaliser, indent=1))
    says = f"{len(pairs):,} pairs, {config['steps']} steps; held out: accuracy {heldout['accuracy']:.1%}"
    if heldout["correlation"] is not None:
        says += f", correlation with gold {heldout['correlation']:.2f}"
    if not normaliser["normaliser_finished"]:
        says += "; normalised on unfinished replies, as fewer than two of SFT1's ended"
    metrics = {key: value for key, value in (heldout | normaliser).items() if isinstance(value, int | float)}
    return says, metrics | {"loss": last["loss"]}


def _heldout(work: Work, model: Any, pad: int) -> dict[str, Any]:
    pairs = work.inputs["preferences"].lines(HELDOUT)
    margins = preference_margins(model, collate_pairs(pairs, pad))
    return calibration(margins) | {
        "correlation": _correlation(model, pairs, pad, work.execution.micro_batch_tokens),
        "margins": margins.tolist(),
        "clusters": [pair["cluster"] or str(index) for index, pair in enumerate(pairs)],
    }


def _correlation(model: Any, pairs: list[dict[str, Any]], pad: int, max_tokens: int) -> float | None:
    """Return Pearson's correlation with gold over the replies of the pairs, None where there is no gold."""
    if pairs[0]["gold"] is None:
        return None
    gold = np.array([pair["gold"] for pair in pairs]).T.ravel()
    with torch.inference_mode():
        scores = sequence_scores(model, collate_pairs(pairs, pad), max_tokens=max_tokens).double().cpu().numpy()
    return float(np.corrcoef(scores, gold)[0, 1]) if scores.std() > 0 and gold.std() > 0 else None


def _normaliser(work: Work, model: Any, tokenizer: Any) -> dict[str, Any]:
    """Scores of SFT1's finished replies define the unit of the reward, once, whatever the arms' references are.

    Where fewer than two replies end, which only a model that has hardly learnt anything does, all of them define it
    and `normaliser_finished` is false.
    """
    config = work.config
    drawn = work.source.prompts(work.rng(f"{config['role']} normaliser prompts"), config["normaliser_replies"])
    generation = config["generation"]
    prompts = fit_prompts(tokenizer, drawn, generation["context"], generation["max_new_tokens"]).kept
    ids = encode_prompts(tokenizer, [prompt.conversation() for prompt in prompts])
    sft = load_causal(work.inputs["normaliser"].path)
    seed = work.seed(f"{config['role']} normaliser")
    replies = sample_replies(work, sft, tokenizer, ids, seed, generation, (0, len(ids)))
    used = [index for index, reply in enumerate(replies) if reply.ended]
    finished = len(used) >= 2
    if not finished:
        used = list(range(len(replies)))
    packed = pack([ids[i] for i in used], [replies[i].ids for i in used], tokenizer.pad_token_id)
    with torch.inference_mode():
        scores = sequence_scores(model, packed, max_tokens=work.execution.micro_batch_tokens).double()
    std = float(scores.std())
    if not std > 0:
        raise ValueError("the reward model gives every reply of SFT1 the same score; train it longer (reward.steps)")
    return {
        "mean": float(scores.mean()),
        "std": std,
        "normaliser_replies": len(used),
        "normaliser_finished": finished,
    }
