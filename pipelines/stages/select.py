"""Stage `select`: chooses a KL coefficient of an arm by the validation suite, on replicates that nothing else reports.

The criterion is the win rate against SFT1, not that of the arms against each other; the grid is the same for all arms.
"""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from pipelines.stages.judge import SCORES
from pipelines.work import Work
from salsa.evaluation.scores import read
from salsa.evaluation.statistics import outcomes
from salsa.evaluation.study.crossed import interval
from salsa.evaluation.study.selection import choose

SELECT = "select.json"


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `select.json`: the chosen coefficient, whether it is at the edge of the grid, and the rate at each."""
    config, grid = work.config, work.config["grid"]
    starts = [read(work.inputs[f"sft_{place}"].file(SCORES)) for place in range(config["replicates"])]
    clusters = [reply.cluster for reply in starts[0]]
    rates = {}
    for index, coefficient in enumerate(grid):
        won = [
            outcomes(read(work.inputs[f"c{index}_r{place}"].file(SCORES)), start, config["tie_margin"])
            for place, start in enumerate(starts)
        ]
        rng = np.random.default_rng(work.seed("select"))
        rates[coefficient] = interval(np.stack(won), clusters, rng, config["rounds"], config["level"]).estimate
    choice = choose(grid, rates)
    (work.folder / SELECT).write_text(json.dumps(asdict(choice), indent=1), encoding="utf-8")
    best = rates[choice.coefficient].value
    says = f"coefficient {choice.coefficient:g}, win rate against SFT1 {best:.1%} on {len(clusters)} prompts"
    says += f" x {config['replicates']} replicates" + ("; at the edge of the grid" if choice.edge else "")
    return says, {"coefficient": choice.coefficient, "edge": choice.edge, "win_rate": best}
