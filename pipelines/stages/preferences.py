"""Stage `preferences`: pairs of replies with labels, as token ids; sampled from the SFT models or given by files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.replies import sample_replies
from pipelines.work import Work
from salsa.data.chat import encode_prompts, encode_replies
from salsa.data.conversation import Prompt
from salsa.data.lengths import fit_pairs
from salsa.data.rows import DataError
from salsa.data.source import Source
from salsa.models.families import load_causal, load_tokenizer

TRAIN, HELDOUT = "pairs_train.jsonl", "pairs_heldout.jsonl"
DRAWS = 20
"""How often a held-out set is drawn at most to find prompts that no training pair has."""


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave training and held-out pairs: prompt, chosen and rejected as token ids, and gold rewards where known."""
    if "first" in work.inputs:
        return _sampled(work)
    return _given(work)


def _sampled(work: Work) -> tuple[str, dict[str, Any]]:
    """One reply of each of the first two SFT models; labels drawn from the gold rewards with noise (Bradley-Terry)."""
    config, source = work.config, work.source
    total = config["pairs"] + config["heldout"]
    prompts = source.prompts(work.rng("preference prompts"), config["pairs"])
    prompts += unseen_prompts(source, work.rng("held-out preference prompts"), config["heldout"], prompts)
    tokenizer = load_tokenizer(work.inputs["first"].path)
    ids = encode_prompts(tokenizer, [prompt.conversation() for prompt in prompts])
    sides = []
    for index, role in enumerate(("first", "second")):
        model = load_causal(work.inputs[role].path)
        seed = work.seed("preference replies", index)
        sides.append(
            sample_replies(work, model, tokenizer, ids, seed, config["generation"], (index * total, 2 * total))
        )
    gold = np.array(
        [
            [source.gold(prompt, (reply.visible,), (reply.ended,)) for reply in pair]
            for prompt, *pair in zip(prompts, *sides, strict=True)
        ],
        dtype=float,
    )
    chance = 1 / (1 + np.exp(-(gold[:, 0] - gold[:, 1]) / config["label_noise"]))
    first_wins = work.rng("preference labels").random(total) < chance
    rows: list[dict[str, Any] | None] = []
    for index, prompt_ids in enumerate(ids):
        chosen, rejected = (0, 1) if first_wins[index] else (1, 0)
        pair = {
            "prompt": prompt_ids,
            "chosen": sides[chosen][index].ids,
            "rejected": sides[rejected][index].ids,
            "gold": [gold[index, chosen], gold[index, rejected]],
            "cluster": prompts[index].cluster,
        }
        rows.append(pair if pair["chosen"] != pair["rejected"] else None)
    train = [row for row in rows[: config["pairs"]] if row is not None]
    heldout = [row for row in rows[config["pairs"] :] if row is not None]
    if len(train) < 2 or len(heldout) < 2:
        raise ValueError(
            f"preferences.pairs={config['pairs']}: SFT1 and SFT2 answer nearly everything alike ({len(train)} and "
            f"{len(heldout)} pairs are left); raise preferences.pairs and preferences.heldout, or fine-tune less"
        )
    _write(work.folder / TRAIN, train)
    _write(work.folder / HELDOUT, heldout)
    kept = [pair["gold"] for pair in (*train, *heldout) if pair["gold"][0] != pair["gold"][1]]
    metrics = {
        "pairs": len(train),
        "heldout_pairs": len(heldout),
        "equal_replies": total - len(train) - len(heldout),
        "agreement": float(np.mean([chosen > rejected for chosen, rejected in kept])) if kept else None,
        "gold_first": float(gold[:, 0].mean()),
        "gold_second": float(gold[:, 1].mean()),
    }
    says = f"{len(train):,} pairs and {len(heldout)} held out, {metrics['equal_replies']} prompts with equal replies"
    if metrics["agreement"] is not None:
        says += f"; labels agree with gold in {metrics['agreement']:.0%}"
    return says, metrics


def unseen_prompts(source: Source, rng: Any, count: int, training: Sequence[Prompt]) -> list[Prompt]:
    """Draw prompts whose conversation is none of the training prompts', so that held-out accuracy is of new questions.

    Raises:
        DataError: if there are not enough after `DRAWS` times as many draws as are wanted.
    """
    seen = {prompt.conversation() for prompt in training}
    unseen: list[Prompt] = []
    for _ in range(DRAWS):
        unseen += [prompt for prompt in source.prompts(rng, count) if prompt.conversation() not in seen]
        if len(unseen) >= count:
            return unseen[:count]
    raise DataError(
        f"preferences.heldout={count}: only {len(unseen)} of {DRAWS * count} drawn prompts are not among the "
        f"{len(training)} training prompts; lower preferences.pairs or preferences.heldout"
    )


def _given(work: Work) -> tuple[str, dict[str, Any]]:
    """The pairs that the data bring, those for training of the split that this stage is for."""
    config, source = work.config, work.source
    tokenizer = load_tokenizer(work.inputs["tokenizer"].path)
    counts: dict[str, int] = {}
    says = []
    for split, name, limit in ((config["split"], TRAIN, config["pairs"]), ("heldout", HELDOUT, config["heldout"])):
        pairs = source.pairs(split)
        if pairs is None:
            raise DataError("data.preferences: these data have no pairs; give a file of them")
        fitting = fit_pairs(tokenizer, pairs, config["context"])
        kept = fitting.kept[:limit]
        if len(kept) < 2:
            raise DataError(
                f"data.preferences: only {len(kept)} pair is left for the split {split} ({fitting.too_long} are longer "
                f"than base.context={config['context']} tokens); give more pairs, or raise base.context"
            )
        prompts = encode_prompts(tokenizer, [pair.conversation for pair in kept])
        replies = [
            encode_replies(tokenizer, [getattr(pair, side) for pair in kept], [True] * len(kept))
            for side in ("chosen", "rejected")
        ]
        rows = [
            {"prompt": prompt, "chosen": chosen, "rejected": rejected, "gold": None, "cluster": pair.cluster}
            for pair, prompt, chosen, rejected in zip(kept, prompts, *replies, strict=True)
        ]
        counts |= {f"{split}_pairs": len(rows), f"{split}_too_long": fitting.too_long}
        says.append(f"{split}: {len(rows):,} pairs taken; {fitting.message('pairs')}")
        _write(work.folder / name, rows)
    return "; ".join(says), counts


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
