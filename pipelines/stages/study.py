"""Stage `study`: tables, figures and the computed verdict of a study, from the scored replies of all its models."""

from typing import Any

from pipelines.stages.anchors import ANCHORS
from pipelines.stages.judge import SCORES
from pipelines.stages.report import ANCHOR_NAMES
from pipelines.stages.select import SELECT
from pipelines.work import Work
from salsa.evaluation.scores import read
from salsa.report.study.folder import write
from salsa.studies.comparison import Settings, comparison
from salsa.studies.evidence import Evidence, Model


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave `study.json` and everything that people read of it."""
    config = work.config
    evidence = Evidence([_model(work, told) for told in config["models"]], config["suites"], config["tie_margin"])
    settings = Settings(
        baseline=config["baseline"],
        roles=config["arms"],
        rounds=config["rounds"],
        level=config["level"],
        seed=config["seed"],
        axis=config["axis"],
        places=config["places"],
    )
    found = comparison(evidence, settings)
    told = {
        "schema": 1,
        "study": config["study"],
        "title": config["title"],
        "question": config["question"],
        "fingerprint": work.stage.fingerprint,
        "regime": config["regime"],
        "scale": config["scale"],
        "replicates": len(evidence.replicates),
        "level": config["level"],
        "selection": _selection(work),
        "paper": None,
        "warnings": [],
        "settings": {key: config[key] for key in ("families", "suites", "judge", "tie_margin", "rounds", "seed")},
        "cost": None,
        **found,
    }
    told["warnings"] = _warnings(told["selection"])
    files = write(told, work.folder)
    work.tracked.images([path for path in files if path.suffix == ".png"])
    headline = found["verdicts"][found["headline"]]["sentence"]
    return headline, {"verdict": headline}


def _model(work: Work, told: dict[str, Any]) -> Model:
    artifacts = {suite: work.inputs[f"{told['key']}:judge:{suite}"] for suite in work.config["suites"]}
    anchors = work.inputs[f"{told['key']}:anchors"]
    final = anchors.json(ANCHORS)["final"]["divergences"]
    return Model(
        family=told["family"],
        arm=told["arm"],
        replicate=told["replicate"],
        coefficient=told["coefficient"],
        scores={suite: read(artifact.file(SCORES)) for suite, artifact in artifacts.items()},
        kl={ANCHOR_NAMES[name]: sum(values["k1"]) / len(values["k1"]) for name, values in final.items()},
        prints={suite: artifact.fingerprint for suite, artifact in artifacts.items()} | {"kl": anchors.fingerprint},
    )


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
    return {
        "suite": about["suite"],
        "rule": chosen[0]["rule"],
        "replicates": about["replicates"],
        "prompts": work.config["selection_prompts"],
        "grid": about["grid"],
        "chosen": chosen,
    }


def _warnings(selection: dict[str, Any] | None) -> list[str]:
    edges = [each for each in (selection or {"chosen": []})["chosen"] if each["edge"]]
    return [
        f"the coefficient of {each['arm']} ({each['family']}), {each['coefficient']:g}, is at the edge of the grid: "
        "the best one may lie outside; widen study.coefficients"
        for each in edges
    ]
