"""Stage `soup`: the SFT models merged by a recipe, tensor by tensor, and how far apart they were."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.adapters import base_from
from pipelines.blends import trial, write_blend, write_sum
from pipelines.heldout import heldout_losses
from pipelines.replies import first_turn, responder_of
from pipelines.scoring import Answers, load_scorer
from pipelines.work import Work
from salsa.data.chat import decode_replies, encode_prompts
from salsa.data.lengths import fit_prompts
from salsa.models.families import load_causal, load_tokenizer
from salsa.models.source import is_adapter
from salsa.rl.responder import Reply
from salsa.rl.validation import Rewards, mean_reward
from salsa.soup.checkpoint import SoupError
from salsa.soup.geometry import task_vectors
from salsa.soup.greedy import greedy
from salsa.soup.recipes import liti, slerp

SELECTION = "selection.json"
"""What a greedy soup tried, in which order, and what it took."""


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave the soup's model folder; of adapters, the adapter that is their exact soup.

    Raises SoupError where two ingredients are the same model.
    """
    config = work.config
    base = work.inputs["base"].path
    models = _ingredients(work)
    names, folders = list(models), list(models.values())
    metrics = _geometry(base, models)
    if config["recipe"] == "greedy":
        says, found = _greedy(work, models)
        metrics |= found
    elif config["recipe"] == "average":
        weights = config["weights"]
        says = _says(names, weights)
        if "base_weight" in config:
            blend = [*weights, config["base_weight"]]
            write_blend(folders, base, lambda name: blend, work.folder, base_from(work))
            says = f"{says} + {config['base_weight']:.4g} base"
        else:
            write_sum(folders, weights, work.folder, base_from(work))
        says = says.replace("+ -", "- ")
        metrics = {"weights": list(weights)} | metrics
    else:
        arc = slerp(base, folders, config.get("share", 0.5))
        says = f"slerp of {len(folders)} task vectors"
        if config["recipe"] == "liti":
            arc = liti(arc, config["eta"])
            says += f", {config['eta']:g} of the way from the base"
        write_blend(folders, base, arc, work.folder, base_from(work))
    return says + _apart(metrics), metrics


def _ingredients(work: Work) -> dict[str, Path]:
    """Return the SFT models by their names; those that a recipe gives no weight are none of them."""
    numbers = sorted(int(role.removeprefix("ingredient_")) for role in work.inputs if role.startswith("ingredient_"))
    return {f"SFT{number}": work.inputs[f"ingredient_{number}"].path for number in numbers}


def _says(names: Sequence[str], weights: Sequence[float]) -> str:
    parts = [f"{weight:.4g} {name}" for name, weight in zip(names, weights, strict=True) if weight != 0]
    return " + ".join(parts)


def _greedy(work: Work, models: Mapping[str, Path]) -> tuple[str, dict[str, Any]]:
    """Choose the ingredients, leave their mean and what was tried."""
    names, folders = list(models), list(models.values())
    by_reward = work.config["by"] == "reward"
    most = 2 * len(folders) - 1  # each by itself, then each but the best one in a mean
    tried = 0

    def score(weights: Sequence[float]) -> float:
        nonlocal tried
        tried += 1
        work.progress(tried - 1, most, f"greedy soup, trial of {_says(names, weights)}")
        with trial(work, folders, weights) as folder:
            return _reward(work, folder) if by_reward else _loss(work, folder)

    selection = greedy(names, score, "higher" if by_reward else "lower")
    write_sum(folders, selection.weights, work.folder, base_from(work))
    by = work.config["by"]
    record = {"by": by} | asdict(selection)
    (work.folder / SELECTION).write_text(json.dumps(record, indent=1))
    return told(record), {"weights": list(selection.weights), by: selection.score}


def told(selection: Mapping[str, Any]) -> str:
    """Return the content of `selection.json` as a sentence: the order, and what was decided of each model."""
    first, *others = selection["decisions"]
    parts = [f"{first['name']} first ({selection['by']} {first['score']:.4f})"]
    for decision in others:
        verb = "taken" if decision["taken"] else "left out"
        parts.append(f"{decision['name']} {verb} ({decision['score']:.4f} against {decision['best']:.4f})")
    return f"greedy: {', '.join(parts)}"


def _loss(work: Work, folder: Path) -> float:
    return heldout_losses(work, load_tokenizer(folder), load_causal(folder), work.config["prompts"])[0].mean


def _reward(work: Work, folder: Path) -> float:
    """Return the mean score of the reward model over a model's replies to the validation suite's first questions."""
    generation = work.config["generation"]
    tokenizer, model = load_tokenizer(folder), load_causal(folder)
    suite = [first_turn(prompt) for prompt in work.source.suite("validation", work.config["prompts"])]
    prompts = fit_prompts(tokenizer, suite, generation["context"], generation["max_new_tokens"]).kept
    ids = encode_prompts(tokenizer, [prompt.conversation() for prompt in prompts])
    scorer = load_scorer(work, "reward")

    def score(rows: Sequence[int], replies: Sequence[Reply]) -> list[float]:
        texts = decode_replies(tokenizer, [reply.ids for reply in replies], keep_control=True)
        answers = Answers(
            prompts=[prompts[row] for row in rows],
            texts=[(text,) for text in texts],
            ends=[(reply.ended,) for reply in replies],
            prompt_ids=[ids[row] for row in rows],
            reply_ids=[reply.ids for reply in replies],
        )
        return scorer.scores(answers)

    responder = responder_of(work, model, tokenizer, ids, work.seed("greedy soup"), generation)
    return mean_reward(Rewards(responder, score), accelerator=work.execution.accelerator).mean


def _geometry(base: Path, models: Mapping[str, Path]) -> dict[str, Any]:
    """Return the least distance of two ingredients, and norms and cosine (of the first two) of their task vectors.

    Norms and cosine are None where the base's tensors are not the ingredients', as with published weights that store
    tied tensors twice; the cosine is None, too, where an ingredient is the base itself. One ingredient has no distance.
    """
    names, folders = list(models), list(models.values())
    norms = cosine = None
    try:
        measured = task_vectors(base, folders)
        norms = list(measured.norms)
        cosine = measured.cosines[0][1] if len(folders) > 1 else None
    except SoupError:
        if is_adapter(folders[0]):
            raise
        measured = task_vectors(folders[0], folders)
    pairs = [(first, second) for second in range(len(folders)) for first in range(second)]
    if not pairs:
        return {"distance": None, "norms": norms, "cosine": None}
    first, second = min(pairs, key=lambda pair: measured.distances[pair[0]][pair[1]])
    distance = measured.distances[first][second]
    if distance == 0:
        raise SoupError(
            f"{names[first]} and {names[second]} are the same model, and a soup of them is that model again; what "
            "tells them apart is the order of the demonstrations: give more of them (sft.demonstrations), more steps "
            "(sft.steps), or a higher learning rate (sft.optimiser.learning_rate)"
        )
    return {"distance": distance, "norms": norms, "cosine": cosine}


def _apart(metrics: dict[str, Any]) -> str:
    says = "" if metrics["distance"] is None else f"; distance {metrics['distance']:.3g}"
    if metrics["norms"] is not None:
        says += f", of the base {' and '.join(f'{norm:.3g}' for norm in metrics['norms'])}"
    if metrics["cosine"] is not None:
        says += f", cosine of the task vectors {metrics['cosine']:.2f}"
    return says
