"""Stage `study`: tables, figures and the computed verdict of a study, from the scored replies of all its models."""

from typing import Any

from pipelines.stages.anchors import ANCHORS
from pipelines.stages.judge import SCORES
from pipelines.stages.point import POINT
from pipelines.stages.report import ANCHOR_NAMES
from pipelines.stages.select import SELECT
from pipelines.stages.tax import TAX
from pipelines.work import Work
from salsa.evaluation.scores import read
from salsa.report.study.folder import write
from salsa.studies.claims import Claim
from salsa.studies.comparison import comparison
from salsa.studies.evidence import Evidence, Model, Point
from salsa.studies.frontier import frontier
from salsa.studies.landscape import Soup, landscape
from salsa.studies.settings import Settings

SHOWN = ("families", "suites", "judge", "tie_margin", "temperature", "rounds", "seed")
"""Settings that readers of the tables need."""


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `study.json` and everything that people read of it."""
    config = work.config
    settings = Settings(
        baseline=config["baseline"],
        asks=[(first, second) for first, second in config["asks"]],
        roles=config["arms"],
        rounds=config["rounds"],
        level=config["level"],
        seed=config["seed"],
        measure="gold reward" if config["judge"] == "gold" else "reward-model score",
        unit="points" if config["judge"] == "gold" else "normalised",
        about=config["about"],
        claims=[
            Claim(each["claim"], [(first, second) for first, second in each["asks"]], each["main"])
            for each in config["paper"]["claims"]
        ],
        axis=config["axis"],
        places=config["places"],
    )
    found = _found(work, settings)
    reasons = work.stage.execution["reasons"]
    told = {
        "schema": 1,
        "study": config["study"],
        "title": config["title"],
        "question": config["question"],
        "fingerprint": work.stage.fingerprint,
        "regime": config["regime"],
        "scale": config["scale"],
        "replicates": len({model["replicate"] for model in config["models"]}),
        "level": config["level"],
        "selection": _selection(work),
        "paper": _paper(config["paper"], found),
        "warnings": [],
        "settings": {key: config[key] for key in SHOWN} | {"prompts": _prompts(work)},
        "made_with": work.stage.execution["made_with"],
        "missing": [gap | {"reason": reasons.get(gap["stage"], "")} for gap in config["missing"]],
        "cost": None,
        **found,
    }
    refused = [f"{says}: {stage} failed: {reasons.get(stage, '')}" for says, stage in config["refused"].items()]
    told["warnings"] = [*refused, *config["warnings"], *found.get("warnings", ()), *_warnings(told["selection"])]
    if config["judge"] == "reward_model":
        told["warnings"].append("the judge is the reward model that was optimised: no evidence of better replies")
    files = write(told, work.folder)
    work.tracked.images([path for path in files if path.suffix == ".png"])
    headline = found["verdicts"][found["headline"]]["sentence"]
    return headline, {"verdict": headline}


def _paper(known: dict[str, Any], found: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the paper reports beside what is found, taken out of `found`; None where there are no claims."""
    told = found.pop("claims")
    if found["tables"] and (cells := _cells(known["cells"], found["tables"][0])):
        found["tables"][0]["paper"] = {"label": known["label"], "cells": cells}
    return {"label": known["label"], "source": known["source"], "claims": told} if told else None


def _cells(known: dict[str, dict[str, str]], table: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the paper's cells of which this table has the row, once, and the column; arms and suites are settings."""
    labels = [row["label"] for row in table["rows"]]
    keys = {column["key"] for column in table["columns"]}
    fitting = {row: {key: text for key, text in cells.items() if key in keys} for row, cells in known.items()}
    return {row: cells for row, cells in fitting.items() if cells and labels.count(row) == 1}


def _found(work: Work, settings: Settings) -> dict[str, Any]:
    """Return what the study's kind makes of its evidence: tables, figures, verdicts, notes."""
    config = work.config
    if config["kind"] in ("line", "plane"):
        return landscape([_soup(work, told) for told in config["models"]], settings)
    models = [_model(work, told) for told in config["models"]]
    if config["kind"] == "frontier":
        return frontier(models, settings)
    return comparison(Evidence(models, config["suites"], config["tie_margin"]), settings)


def _soup(work: Work, told: dict[str, Any]) -> Soup:
    artifact = work.inputs[told["key"]]
    measured = artifact.json(POINT)
    return Soup(
        family=told["family"],
        replicate=told["replicate"],
        weights=tuple(told["weights"]),
        gold=_halves(measured["judge"]),
        reward=_halves(measured["reward"]),
        loss=_halves(measured["loss"], measured["tokens"]),
        print=artifact.fingerprint,
    )


def _halves(values: list[float], counts: list[int] | None = None) -> tuple[float, float]:
    """Return the means of every other value, from the first and from the second on; of sums, by their counts."""
    counts = counts or [1] * len(values)
    first, second = (sum(values[start::2]) / sum(counts[start::2]) for start in (0, 1))
    return first, second


def _model(work: Work, told: dict[str, Any]) -> Model:
    roles = {suite: f"{told['key']}:judge:{suite}" for suite in work.config["suites"]}
    artifacts = {suite: work.inputs[role] for suite, role in roles.items() if role in work.inputs}
    anchors = work.inputs[f"{told['key']}:anchors"]
    measured = anchors.json(ANCHORS)
    tax = work.inputs.get(f"{told['key']}:tax")
    kept = tax.json(TAX) if tax else {}
    final = measured["final"]["divergences"]
    return Model(
        family=told["family"],
        arm=told["arm"],
        replicate=told["replicate"],
        coefficient=told["coefficient"],
        scores={suite: read(artifact.file(SCORES)) for suite, artifact in artifacts.items()},
        kl={ANCHOR_NAMES[name]: sum(values["k1"]) / len(values["k1"]) for name, values in final.items()},
        points=[_named(point) for point in measured["points"]],
        needs={part: _seconds(work, part) for part in told.get("needs", ())},
        training=told.get("training", ""),
        besides=told.get("besides", ()),
        recall=kept.get("recall"),
        perplexity=kept.get("perplexity"),
        prints={suite: artifact.fingerprint for suite, artifact in artifacts.items()}
        | {"kl": anchors.fingerprint}
        | ({"tax": tax.fingerprint} if tax else {}),
    )


def _seconds(work: Work, part: str) -> float:
    return float(work.inputs[f"cost_{part}"].manifest["cpu_seconds"])


def _named(point: dict[str, Any]) -> Point:
    kl = {ANCHOR_NAMES[name]: values["k1"] for name, values in point["kl"].items()}
    return Point(point["step"], point["judge"], point["reward"], point["length"], point["unfinished"], kl)


def _prompts(work: Work) -> dict[str, int]:
    """Return how many prompts each suite has on which the study's figures are measured."""
    config, (first, *_) = work.config, work.config["models"]
    if config["kind"] == "comparison":
        roles = {suite: f"{first['key']}:judge:{suite}" for suite in config["suites"]}
        return {suite: len(read(work.inputs[role].file(SCORES))) for suite, role in roles.items()}
    role = f"{first['key']}:anchors" if config["kind"] == "frontier" else first["key"]
    about = work.inputs[role].manifest["config"]
    return {about.get("suite", "validation"): about["prompts"]}


def _selection(work: Work) -> dict[str, Any] | None:
    """Return how coefficients were chosen; None where there was nothing to choose."""
    roles = [role for role in work.inputs if role.startswith("select:")]
    if not roles:
        return None
    chosen = []
    for role in roles:
        _, family, arm = role.split(":", 2)
        chosen.append({"family": family, "arm": arm} | work.inputs[role].json(SELECT))
    about = work.inputs[roles[0]].manifest["config"]
    grids = [work.inputs[role].manifest["config"]["grid"] for role in roles]
    return {
        "suite": about["suite"],
        "rule": chosen[0]["rule"],
        "replicates": about["replicates"],
        "prompts": work.config["selection_prompts"],
        "grid": sorted({coefficient for grid in grids for coefficient in grid}),
        "chosen": chosen,
    }


def _warnings(selection: dict[str, Any] | None) -> list[str]:
    edges = [
        f"{each['coefficient']:g} of {each['arm']} ({each['family']})"
        for each in (selection or {"chosen": []})["chosen"]
        if each["edge"]
    ]
    says = "chosen coefficients at the edge of the grid, so that better ones may lie outside (study.coefficients): "
    return [says + ", ".join(edges)] if edges else []
