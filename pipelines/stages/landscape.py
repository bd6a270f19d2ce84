"""Stage `landscape`: what the points on a line or a plane through models show, and where trained policies lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.stages.point import POINT
from pipelines.stages.report import JUDGES
from pipelines.work import Work
from salsa.models.source import is_adapter
from salsa.report.landscape import figures, files
from salsa.report.landscape.evidence import Evidence, Geometry, Judge
from salsa.report.landscape.summary import assemble
from salsa.soup.checkpoint import SoupError
from salsa.soup.geometry import TOTAL, gram, layers


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `landscape.json`, tables and figures of the line, the plane and the layers."""
    config, inputs = work.config, work.inputs
    policies = {name: f"policy_{index}" for index, name in enumerate(config["policies"], start=1)}
    folders = [inputs[f"model_{index}"].path for index in range(1, len(config["models"]) + 1)]
    others = {name: inputs[role].path for name, role in policies.items() if inputs[role].path not in folders}
    judge, unit = JUDGES[config["judge"]]
    evidence = Evidence(
        models=config["models"],
        others=list(others),
        gram=gram(folders[0], [*folders[1:], *others.values()]),
        line=_evaluations(work, "line"),
        plane=_evaluations(work, "plane") if "plane" in config else None,
        measured={name: inputs[f"{role}_point"].json(POINT) for name, role in policies.items() if name in others},
        geometry=_geometry(work),
        judge=Judge(judge, unit),
    )
    landscape = assemble(evidence, np.random.default_rng(work.seed("landscape")), config["rounds"], config["level"])
    landscape |= _provenance(work, others)
    files.write_all(landscape, work.folder)
    drawn = figures.write_all(landscape, work.folder)
    work.tracked.images([path for path in drawn if path.suffix == ".png"])
    shape = landscape["plane"] or landscape["line"]
    count = len({entry["point"] for shape in _shapes(config) for entry in config[shape]})
    return f"{count} points; {shape['verdicts']['judge']}", {"points": count}


def _provenance(work: Work, others: Mapping[str, Path]) -> dict[str, Any]:
    """Return what the landscape is of: names, seeds, and the fingerprints behind every model and point."""
    config, inputs = work.config, work.inputs
    models = {name: inputs[f"model_{index}"].fingerprint for index, name in enumerate(config["models"], start=1)}
    policies = {name: inputs[f"policy_{i}"].fingerprint for i, name in enumerate(config["policies"], start=1)}
    points = {shape: [inputs[each["point"]].fingerprint for each in config[shape]] for shape in _shapes(config)}
    return {
        "title": f"{config['model']}, {config['scale']}",
        "suite": config["suite"],
        "fingerprint": work.stage.fingerprint,
        "seed": config["seed"],
        "replicate": config["replicate"],
        "fingerprints": {
            "models": models,
            "others": {name: policies[name] for name in others},
            "points": points,
        },
    }


def _shapes(config: Mapping[str, Any]) -> list[str]:
    return [shape for shape in ("line", "plane") if shape in config]


def _evaluations(work: Work, shape: str) -> dict[tuple[float, ...], Any]:
    return {tuple(entry["weights"]): work.inputs[entry["point"]].json(POINT) for entry in work.config[shape]}


def _geometry(work: Work) -> Geometry | None:
    """Return the task vectors by layer.

    None where the base's tensors are not the models', as with published weights that store tied tensors twice.
    """
    config, base = work.config, work.inputs["base"].path
    named = dict(zip(config["models"], (f"model_{i}" for i in range(1, len(config["models"]) + 1)), strict=True))
    named |= {name: f"policy_{index}" for index, name in enumerate(config["policies"], start=1) if name not in named}
    models = {name: work.inputs[role].path for name, role in named.items() if work.inputs[role].path != base}
    try:
        found = layers(base, list(models.values()))
    except SoupError as error:
        if is_adapter(next(iter(models.values()))):
            raise
        work.progress(0, 1, f"no task vectors: {error}")
        return None
    return Geometry("the base", list(models), found.pop(TOTAL), found)
