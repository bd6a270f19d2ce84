"""Stage `report`: the experiment's tables, figures, samples and page, and `experiment.json` for programs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.judgments import COUNTS, gather
from pipelines.stages.anchors import ANCHORS
from pipelines.stages.judge import SCORES
from pipelines.stages.soup import SELECTION, told
from pipelines.stages.tax import TAX
from pipelines.work import Work
from salsa.evaluation.calibration import rightly_ordered
from salsa.evaluation.scores import read
from salsa.evaluation.statistics import cluster_bootstrap_mean, cluster_bootstrap_means
from salsa.report import figures, page, samples, schema, tables
from salsa.report.experiment import (
    Divergence,
    Evidence,
    Heading,
    Judge,
    RewardModelReport,
    Row,
    Tax,
    assemble,
)
from salsa.report.markup import one_line
from salsa.training.metrics import FILE_NAME as METRICS

ANCHOR_NAMES = {"sft_1": "SFT1", "sft_2": "SFT2", "soup": "soup"}
JUDGES = {
    "gold": ("gold reward", "points"),
    "reward_model": ("second reward model's score", "normalised"),
}
READS = "points of 10"
"""The unit of scores of a judge that reads replies."""


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave everything that people and programs read of one experiment."""
    config = work.config
    rows = [
        Row(row["name"], row["role"], row["init"], row["reference"], row["kl_coef"], row["fingerprint"])
        for row in config["rows"]
    ]
    opponents = [row.name for row in rows if row.role == "opponent"] + [rows[0].name]
    evidence, warnings = _evidence(work), _warnings(work) + _shortcomings(work)
    if _reads(config):
        judged = gather(work, opponents)
        warnings += judged.warnings
        evidence = replace(evidence, judgments=judged.found, judging=judged.judging)
        opponents = list(judged.opponents)
    experiment = assemble(
        _heading(work),
        rows,
        evidence,
        suites=config["suites"],
        opponents=opponents,
        anchors=list(ANCHOR_NAMES.values()),
        rng=np.random.default_rng(work.seed("report")),
        sample_count=config["samples"],
        rounds=config["rounds"],
        level=config["level"],
    )
    experiment["warnings"] += warnings
    if "soup" in work.inputs:
        experiment["note"] += f" Soup, {told(work.inputs['soup'].json(SELECTION))}."
    schema.write(work.folder / "experiment.json", experiment)
    (work.folder / "table.md").write_text(tables.markdown(experiment), encoding="utf-8")
    (work.folder / "table.csv").write_text(tables.to_csv(experiment), encoding="utf-8")
    (work.folder / "samples.md").write_text(samples.markdown(experiment), encoding="utf-8")
    drawn = figures.write_all(experiment, work.folder)
    drawings = {path.stem: path.read_text(encoding="utf-8") for path in drawn if path.suffix == ".svg"}
    (work.folder / "page.html").write_text(page.html(experiment, drawings), encoding="utf-8")
    _send(work, experiment, drawn)
    suites = "1 suite" if len(config["suites"]) == 1 else f"{len(config['suites'])} suites"
    return f"{len(rows)} models on {suites}", _metrics(experiment)


def _reads(config: Mapping[str, Any]) -> bool:
    """Return whether the judge reads replies; one that scores them has a margin for ties."""
    return config["tie_margin"] is None


def _metrics(experiment: dict[str, Any]) -> dict[str, Any]:
    pooled = {row["name"]: row["pooled"] for row in experiment["rows"] if row["pooled"]}
    found = {f"judge/{name}": own["judge"]["value"] for name, own in pooled.items() if own["judge"]}
    judging = experiment.get("judging")
    if judging is not None:
        for name, own in pooled.items():
            found |= {f"win_rate/{name} against {other}": rate["value"] for other, rate in own["win_rate"].items()}
        found |= {name: judging[name] for name in (*COUNTS, "price")}
    return found


def _send(work: Work, experiment: dict[str, Any], drawn: Any) -> None:
    columns, lines = samples.columns(experiment)
    work.tracked.table("samples", columns, lines)
    records = list(tables.tidy(experiment))
    if records:
        work.tracked.table("results", list(records[0]), [list(record.values()) for record in records])
    work.tracked.curves(experiment["curves"])
    work.tracked.images([path for path in drawn if path.suffix == ".png"])


def _heading(work: Work) -> Heading:
    config = work.config
    judge, unit = (config["judge"], READS) if _reads(config) else JUDGES[config["judge"]]
    soup = f"alpha {config['alpha']:g}" if "alpha" in config else config["soup"]
    title = f"SALSA against PPO: {config['model']}, {config['scale']}, {soup}"
    return Heading(
        fingerprint=work.stage.fingerprint,
        title=title,
        model=config["model"],
        judge=Judge(judge, config["tie_margin"], unit),
        settings=work.stage.execution.get("settings", {}),
    )


def _evidence(work: Work) -> Evidence:
    config, inputs = work.config, work.inputs
    scores: dict[str, dict[str, Any]] = {}
    fingerprints: dict[str, dict[str, dict[str, str]]] = {}
    kl, tax, curves, training = {}, {}, {}, {}
    for row in config["rows"]:
        name, key = row["name"], row["key"]
        judged = {suite: inputs[f"{key}:judge:{suite}"] for suite in config["suites"]}
        scores[name] = {suite: read(artifact.file(SCORES)) for suite, artifact in judged.items()}
        # A judge that reads has verdicts of its own: here the reward model alone has scored.
        scorer = "reward" if _reads(config) else "judge"
        fingerprints[name] = {
            suite: {scorer: artifact.fingerprint, "respond": artifact.manifest["inputs"]["responses"]}
            for suite, artifact in judged.items()
        }
        anchors = inputs[f"{key}:anchors"]
        measured = anchors.json(ANCHORS)
        kl[name] = _divergences(work, measured["final"], anchors.fingerprint)
        kept = inputs[f"{key}:tax"]
        values = kept.json(TAX)
        tax[name] = Tax(values["recall"], values["perplexity"], kept.fingerprint)
        if f"{key}:align" in inputs:
            curves[name] = [_named(point) for point in measured["points"]]
            training[name] = inputs[f"{key}:align"].lines(METRICS)
    judge_model = _reward_model(work, "judge_model") if "judge_model" in inputs else None
    return Evidence(
        scores, fingerprints, kl, tax, curves, training, _reward_model(work, "reward"), judge_model, _left_out(work)
    )


def _divergences(work: Work, final: Mapping[str, Any], fingerprint: str) -> dict[str, Divergence]:
    """Return KL to each anchor with intervals; every row and anchor has the same resamples of the questions."""
    per_reply = final["divergences"]
    columns = [per_reply[anchor][key] for anchor in per_reply for key in ("k1", "k3")]
    estimates = cluster_bootstrap_means(
        np.array(columns).T,
        final["clusters"],
        np.random.default_rng(work.seed("KL intervals")),
        work.config["rounds"],
        work.config["level"],
    )
    pairs = zip(estimates[::2], estimates[1::2], strict=True)
    return {ANCHOR_NAMES[anchor]: Divergence(*pair, fingerprint) for anchor, pair in zip(per_reply, pairs, strict=True)}


def _warnings(work: Work) -> list[str]:
    """Return a sentence about each reward model whose unit was not measured on finished replies."""
    return [
        f"the {name}'s scores are normalised on unfinished replies of SFT1, as fewer than two ended: longer "
        "fine-tuning (sft.steps) or longer replies (generation.max_new_tokens) give the unit its meaning"
        for role, name in (("reward", "reward model"), ("judge_model", "judge model"))
        if role in work.inputs and not work.inputs[role].json("reward.json")["normaliser_finished"]
    ]


def _left_out(work: Work) -> dict[str, dict[str, int]]:
    """Return of how many prompts of each suite how many are longer than the context, the same for every model.

    Of benchmarks also how many are in the training data (`contaminated`) and how many replies of all models the end of
    the context has cut (`cut`), where there are any.
    """
    kept = {}
    for suite in work.config["suites"]:
        rows = [work.inputs[f"{row['key']}:judge:{suite}"].metrics for row in work.config["rows"]]
        first = rows[0]
        found = {
            "too_long": first.get("too_long", 0),
            "contaminated": first.get("contaminated", 0),
            "cut": sum(metrics.get("cut", 0) for metrics in rows),
        }
        if any(found.values()):
            known = {key: count for key, count in found.items() if count or key == "too_long"}
            kept[suite] = {"prompts": first["prompts"] + found["too_long"], **known}
    return kept


def _shortcomings(work: Work) -> list[str]:
    """Return a sentence about each benchmark that training has seen a part of, or whose replies were cut."""
    said = []
    for suite, counts in _left_out(work).items():
        if known := counts.get("contaminated"):
            verb = "is" if known == 1 else "are"
            said.append(
                f"{suite}: {known} of {counts['prompts']} questions {verb} in the training data (demonstrations and "
                "pairs; the documents of data.corpus are not compared), so that figures on them say less"
            )
        if counts.get("cut"):
            rows = {row["name"]: work.inputs[f"{row['key']}:judge:{suite}"].metrics for row in work.config["rows"]}
            names = ", ".join(f"{metrics['cut']} of {name}" for name, metrics in rows.items() if metrics.get("cut"))
            said.append(f"{suite}: replies cut where the context ends (base.context): {names}")
    return list(map(one_line, said))


def _named(point: Mapping[str, Any]) -> dict[str, Any]:
    return dict(point) | {"kl": {ANCHOR_NAMES[anchor]: values for anchor, values in point["kl"].items()}}


def _reward_model(work: Work, role: str) -> RewardModelReport:
    artifact = work.inputs[role]
    report = artifact.json("reward.json")
    return RewardModelReport(
        accuracy=cluster_bootstrap_mean(
            rightly_ordered(report["margins"]),
            report["clusters"],
            np.random.default_rng(work.seed("reward model accuracy")),
            work.config["rounds"],
            work.config["level"],
        ),
        brier=report["brier"],
        ece=report["ece"],
        correlation=report["correlation"],
        pairs=len(report["margins"]),
        reliability=report["reliability"],
        fingerprint=artifact.fingerprint,
    )
