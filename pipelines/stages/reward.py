"""Stage `reward`: a reward model on pairs (Bradley-Terry), its held-out quality, and what zero and one of it mean.

A published reward model is not trained: the stage points to it and measures the same.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from pipelines.adapters import keep, reward_start
from pipelines.device import place
from pipelines.replies import SampledReply, sample_replies
from pipelines.scoring import POLICY_TOKENIZER, Answers, Reader, TextReader, TokenReader
from pipelines.stages.preferences import DRAWS, HELDOUT, TRAIN
from pipelines.training import optimiser_settings, train
from pipelines.work import Work
from salsa.data.chat import decode_replies, encode_prompts
from salsa.data.conversation import Prompt
from salsa.data.lengths import fit_prompts
from salsa.evaluation.calibration import calibration
from salsa.models.families import load_causal, load_scalar, load_tokenizer
from salsa.models.source import resolve, write_pointer
from salsa.rl.rewards import TokenScores
from salsa.rl.text_rewards import (
    RewardModelError,
    TextRewardModel,
    check_reading,
    context_of,
    difference,
    padding_of,
)
from salsa.training.batches import batch_indices
from salsa.training.preference import RewardModeling, collate_pairs

ROLE = "reward"
"""Names the random streams of the replies on which the reward, and every rule, is normalised."""


class FixedReplies(NamedTuple):
    """SFT1's replies to prompts, on which units are measured; `finished` tells whether all of them ended."""

    prompts: list[Prompt]
    ids: list[list[int]]
    replies: list[SampledReply]
    finished: bool

    def answers(self) -> Answers:
        """Return the replies as a model's answers."""
        texts = [(reply.visible,) for reply in self.replies]
        ends = [(reply.ended,) for reply in self.replies]
        return Answers(self.prompts, texts, ends, self.ids, [reply.ids for reply in self.replies])


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave the reward model's folder with `reward.json`: normaliser, accuracy, calibration, correlation with gold."""
    return _published(work) if "published" in work.config else _trained(work)


def _trained(work: Work) -> tuple[str, dict[str, Any]]:
    config = work.config
    tokenizer = load_tokenizer(work.inputs["start"].path)
    pad = tokenizer.pad_token_id
    model = reward_start(work)
    pairs = work.inputs["preferences"].lines(TRAIN)
    order = work.seed(f"{config['role']} order")
    module = RewardModeling(model, optimiser_settings(config["optimiser"]), config["steps"])
    last = train(
        work,
        module,
        lambda step: collate_pairs([pairs[i] for i in batch_indices(order, step, config["batch"], len(pairs))], pad),
        config["steps"],
    )
    keep(work, model, tokenizer)
    measured = _measured(work, TokenReader(TokenScores(model, work.execution.micro_batch_tokens), pad), tokenizer)
    (work.folder / "reward.json").write_text(json.dumps(measured, indent=1))
    return f"{len(pairs):,} pairs, {config['steps']} steps; {_says(measured)}", _metrics(measured) | {
        "loss": last["loss"]
    }


def _published(work: Work) -> tuple[str, dict[str, Any]]:
    """Point to a published reward model, and find out how it can read what policies write."""
    where = work.stage.execution
    work.progress(0, 1, f"getting {where['name']}")
    write_pointer(work.folder, where["name"], where["revision"])
    resolve(work.folder)
    policy = load_tokenizer(work.inputs["normaliser"].path)
    try:
        reader, other = _reader(work, policy)
        measured = _measured(work, reader, policy)
    except RewardModelError as error:
        raise RewardModelError(f"reward.name={where['name']}: {error}") from error
    if other:
        policy.save_pretrained(work.folder / POLICY_TOKENIZER)
    measured["reads"] = "text" if other else "tokens"
    (work.folder / "reward.json").write_text(json.dumps(measured, indent=1))
    how = f"reads text, as its {other} is not the policy's" if other else "reads the policy's tokens"
    return f"{where['name']}, published, not trained; {how}; {_says(measured)}", _metrics(measured)


def _reader(work: Work, policy: Any) -> tuple[Reader, str]:
    """Return a published reward model, and what of its tokenizer is not the policy's ("": it reads token ids)."""
    own, tokens = load_tokenizer(work.folder), work.execution.micro_batch_tokens
    model = place(load_scalar(work.folder), work.execution)
    other = difference(policy, own)
    reader: Reader
    if other:
        reader = TextReader(TextRewardModel(model, own, tokens), policy)
    else:
        context, limit = work.config["generation"]["context"], context_of(model)
        if limit is not None and limit < context:
            raise RewardModelError(f"it reads at most {limit} tokens; use base.context={limit} or less (now {context})")
        if model.config.get_text_config().vocab_size < len(policy):
            raise RewardModelError(f"its embedding has fewer rows than the tokenizer has tokens ({len(policy)})")
        reader = TokenReader(TokenScores(model, tokens, padding_of(model)), policy.pad_token_id)
    check_reading(model, _few(work, reader, policy))
    return reader, other


def _few(work: Work, reader: Reader, policy: Any) -> list[list[int]]:
    """Return two pairs of the held-out ones as the reward model reads them, in token ids."""
    pairs = work.inputs["preferences"].lines(HELDOUT)[:2]
    answers = _answers(pairs, _asked(work, pairs, policy), policy)
    if isinstance(reader, TextReader):
        return reader.model.encode(*reader.dialogues(answers))
    return [[*prompt, *reply] for prompt, reply in zip(answers.prompt_ids, answers.reply_ids, strict=True)]


def _measured(work: Work, reader: Reader, policy: Any) -> dict[str, Any]:
    """Return quality and unit of a reward model; `policy` is the tokenizer of the pairs and of SFT1's replies."""
    place(reader, work.execution)
    return _heldout(work, reader, policy) | _normaliser(work, reader, policy)


def _metrics(measured: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in measured.items() if isinstance(value, int | float)}


def _says(measured: dict[str, Any]) -> str:
    says = f"held out: accuracy {measured['accuracy']:.1%}"
    if measured["correlation"] is not None:
        says += f", correlation with gold {measured['correlation']:.2f}"
    if not measured["normaliser_finished"]:
        says += "; normalised on unfinished replies, as fewer than two of SFT1's ended"
    return says


def _heldout(work: Work, reader: Reader, policy: Any) -> dict[str, Any]:
    pairs = work.inputs["preferences"].lines(HELDOUT)
    prompts = _asked(work, pairs, policy) if isinstance(reader, TextReader) else [Prompt("", ())] * len(pairs)
    scores = reader.raw(_answers(pairs, prompts, policy)).double().cpu().numpy()
    chosen, rejected = scores.reshape(2, -1)
    margins = chosen - rejected
    return calibration(margins) | {
        "correlation": _correlation(scores, pairs),
        "margins": margins.tolist(),
        "clusters": [pair["cluster"] or str(index) for index, pair in enumerate(pairs)],
    }


def _answers(pairs: Sequence[dict[str, Any]], prompts: Sequence[Prompt], policy: Any) -> Answers:
    """Return all chosen replies of pairs, then all rejected ones."""
    ids = [pair[side] for side in ("chosen", "rejected") for pair in pairs]
    texts = decode_replies(policy, ids, keep_control=True)
    ends = [(row[-1:] == [policy.eos_token_id],) for row in ids]
    return Answers([*prompts] * 2, [(text,) for text in texts], ends, [pair["prompt"] for pair in pairs] * 2, ids)


def _asked(work: Work, pairs: Sequence[dict[str, Any]], policy: Any) -> list[Prompt]:
    """Return the prompts of held-out pairs, which are stored as token ids only."""
    wanted = [tuple(pair["prompt"]) for pair in pairs]
    found: dict[tuple[int, ...], Prompt] = {}
    for prompts in _candidates(work):
        ids = encode_prompts(policy, [prompt.conversation() for prompt in prompts])
        found |= {tuple(row): prompt for row, prompt in zip(ids, prompts, strict=True)}
        if found.keys() >= set(wanted):
            break
    return [found[row] for row in wanted]


def _candidates(work: Work) -> Any:
    """Yield lists of prompts, among which are those of the held-out pairs."""
    given = work.source.pairs("heldout")
    if given is not None:
        asked = [pair.conversation for pair in given]
        yield [Prompt("", (said[-1].content,), said[:-1]) for said in asked]
        return
    rng = work.rng("held-out preference prompts")
    for _ in range(DRAWS):
        yield work.source.prompts(rng, work.config["heldout"])


def _correlation(scores: np.ndarray, pairs: Sequence[dict[str, Any]]) -> float | None:
    """Return Pearson's correlation with gold over the replies of the pairs, None where there is no gold."""
    if pairs[0]["gold"] is None:
        return None
    gold = np.array([pair["gold"] for pair in pairs]).T.ravel()
    return float(np.corrcoef(scores, gold)[0, 1]) if scores.std() > 0 and gold.std() > 0 else None


def _normaliser(work: Work, reader: Reader, policy: Any) -> dict[str, Any]:
    """Scores of SFT1's finished replies define the unit of the reward, once, whatever the arms' references are."""
    fixed = fixed_replies(work, policy, work.config["role"])
    values = reader.raw(fixed.answers()).tolist()
    fix = "the reward model gives every reply of SFT1 the same score; train it longer (reward.steps)"
    return unit(values, fix) | {"normaliser_finished": fixed.finished}


def fixed_replies(work: Work, tokenizer: Any, role: str) -> FixedReplies:
    """Return SFT1's finished replies to fixed prompts.

    Where fewer than two end, which only a model that has hardly learnt anything does, all of them are returned.
    """
    config = work.config
    drawn = work.source.prompts(work.rng(f"{role} normaliser prompts"), config["normaliser_replies"])
    generation = config["generation"]
    prompts = fit_prompts(tokenizer, drawn, generation["context"], generation["max_new_tokens"]).kept
    ids = encode_prompts(tokenizer, [prompt.conversation() for prompt in prompts])
    sft = load_causal(work.inputs["normaliser"].path)
    replies = sample_replies(work, sft, tokenizer, ids, work.seed(f"{role} normaliser"), generation, (0, len(ids)))
    used = [index for index, reply in enumerate(replies) if reply.ended]
    finished = len(used) >= 2
    if not finished:
        used = list(range(len(replies)))
    return FixedReplies([prompts[i] for i in used], [ids[i] for i in used], [replies[i] for i in used], finished)


def unit(values: Sequence[float], problem: str) -> dict[str, Any]:
    """Return mean and standard deviation of values; raise ValueError with the `problem` where they are all the same."""
    tensor = torch.tensor(values, dtype=torch.float64)
    std = float(tensor.std())
    if not std > 0:
        raise ValueError(problem)
    return {"mean": float(tensor.mean()), "std": std, "normaliser_replies": len(values)}
