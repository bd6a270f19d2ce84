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
from salsa.studies.comparison import comparison
from salsa.studies.evidence import Evidence, Model, Point
from salsa.studies.frontier import frontier
from salsa.studies.landscape import Soup, landscape
from salsa.studies.settings import Settings


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
        axis=config["axis"],
        places=config["places"],
    )
    found = _found(work, settings)
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
