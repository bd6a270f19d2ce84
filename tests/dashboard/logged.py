"""Which keys the project logs: of offline runs, of trainings on small models, of studies with known evidence."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.plan import Stage
from pipelines.stages import select
from pipelines.stages.judge import SCORES
from salsa.evaluation.scores import write
from salsa.report.landscape.figures import figures
from salsa.report.landscape.summary import assemble
from salsa.rl.trace import Trace
from salsa.studies.comparison import comparison
from salsa.studies.evidence import Evidence, Point
from salsa.studies.frontier import frontier
from salsa.studies.settings import Settings
from salsa.training.language import LanguageModeling, collate
from salsa.training.loop import Recorded, fit
from salsa.training.metrics import FILE_NAME, JsonLines, read_metrics
from salsa.training.preference import RewardModeling, collate_pairs
from salsa.training.settings import OptimiserSettings
from tests.pipelines.offline_runs import OfflineRun
from tests.pipelines.stage_work import work
from tests.report.landscape import factory as landscapes
from tests.rl.alignment import build
from tests.rl.tiny import causal, scalar, texts
from tests.studies import test_comparison, test_frontier


def by_runs(runs: Iterable[OfflineRun]) -> set[str]:
    """Return what stands in the history and the summary of runs; a table or a picture by its own key."""
    found = {key for run in runs for values in (*run.history, run.summary) for key in values}
    media = {key.removesuffix("/_type") for key in found if key.endswith("/_type")}
    return found | media


def by_training(folder: Path) -> set[str]:
    """Return what PPO with a trace, fine-tuning and the training of a reward model record."""
    rate = OptimiserSettings(0.01)
    rows = [([1, 5, 6, 2], [False, True, True, True])]
    pairs = [{"prompt": [1, 4], "chosen": [5, 2], "rejected": [6, 2]}]
    batches: list[tuple[Recorded, Any]] = [
        (LanguageModeling(causal(), rate, 1), collate(rows)),
        (RewardModeling(scalar(), rate, 1), collate_pairs(pairs, pad=0)),
        (build(steps=1, trace=Trace(folder / "trace", texts(9, 5))), 0),
    ]
    found: set[str] = set()
    for number, (module, batch) in enumerate(batches):
        place = folder / str(number)
        with torch.random.fork_rng(devices=[]):
            fit(module, lambda step, batch=batch: batch, 1, place, loggers=[JsonLines(place)], accelerator="cpu")
        found |= {key for line in read_metrics(place / FILE_NAME) for key in line}
    return found


def by_studies() -> set[str]:
    """Return the keys of the figures of a comparison, of one along an axis, and of a front, each of one family."""
    given = test_comparison.evidence({})
    points = [Point(step, 1.0, 0.0, 1.0, 0.0, {"SFT1": 2.0}) for step in (0, 8)]
    models = [replace(model, points=points) for arm in given.arms for model in given.models("llama2", arm)]
    along = Settings("PPO", [("SALSA", "PPO")], {}, 200, 0.95, 0, axis="alpha", places={"SALSA": 0.5, "PPO": 0.0})
    front = frontier(test_frontier.models(lambda arm, distance, replicate: distance), test_frontier.SETTINGS)
    traced = Evidence(models, given.suites, given.tie_margin)
    found = [comparison(traced, test_comparison.SETTINGS), comparison(given, along), front]
    return {f"figures/{figure['name']}" for each in found for figure in each["figures"]}


def by_selection(folder: Path) -> set[str]:
    """Return what the choice of a coefficient between two leaves in the summary of its run."""
    config = {"grid": [0.1, 0.4], "replicates": 1, "tie_margin": 0.75, "rounds": 20, "level": 0.95, "seed": 0}
    inputs = {}
    for role, gold in (("sft_0", 0.0), ("c0_r0", 1.0), ("c1_r0", 2.0)):
        inputs[role] = folder / role
        inputs[role].mkdir(parents=True)
        write(inputs[role] / SCORES, test_comparison.replies("single", np.full(4, gold)))
    _, metrics = select.run(work(Stage("select", "select", config, {}), inputs, folder / "work"))
    return set(metrics)


def by_landscapes() -> set[str]:
    """Return the keys of the figures of a landscape that has a line, a plane and layers."""
    drawn = figures(assemble(landscapes.evidence(), np.random.default_rng(0), 20, 0.95))
    return {f"figures/{name}" for name in drawn}
