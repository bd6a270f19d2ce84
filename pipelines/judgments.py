"""What the report makes of the `verdicts` stages: their lines together, the report of win rates, a value a question."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.stages.judge import SCORES
from pipelines.work import Work
from salsa.evaluation.judgments import Judgment, scores, shares
from salsa.evaluation.published.answers import Answer, ReplyKey, answers
from salsa.evaluation.published.reading import Options, Reading, read
from salsa.evaluation.scores import read as read_scores
from salsa.evaluation.winrate.settings import Settings
from salsa.evaluation.winrate.suites import Field, suites
from salsa.judging.verdict import Verdict
from salsa.judging.verdict import read as read_verdicts
from salsa.report.judging import unanswered
from salsa.report.markup import one_line, shorten
from salsa.report.winrate import output
from salsa.store.artifact import Artifact

VERDICTS = "verdicts.jsonl"
BASELINE = "baseline.jsonl"
"""The replies of a model from outside, which a `verdicts` artifact may hold in the form of a file of answers."""
NAME = 12
"""Characters of a model's fingerprint that the stage `verdicts` calls it by."""
COUNTS = ("requests", "judged", "unparsed", "failed", "calls", "tokens_in", "tokens_out")
UNPARSED = 0.2
"""Share of a comparison's verdicts above which it is warned that the judge's words could not be read."""
SHOWN = 160
"""Characters of such words that the warning shows."""


@dataclass(frozen=True)
class Judgments:
    """What the judge said, by row, and what is told of asking it (`judging` in `experiment.json`)."""

    found: Sequence[Judgment]
    judging: dict[str, Any]
    opponents: Sequence[str]
    warnings: Sequence[str]


def gather(work: Work, opponents: Sequence[str]) -> Judgments:
    """Leave `verdicts.jsonl`, in which models have the names of their rows, and the files of `salsa winrate` on it.

    Returns what was judged, and those of `opponents` that somebody was compared with. Raises ValueError for verdicts
    that are not of the models they are said to be of.
    """
    names, entries = _Names(work.config["rows"]), work.config.get("verdicts", ())
    used = {entry["input"]: work.inputs[entry["input"]] for entry in entries}
    verdicts = {role: read_verdicts(artifact.file(VERDICTS)) for role, artifact in used.items()}
    _check_models(work.config, verdicts)
    path = work.folder / VERDICTS
    with path.open("w", encoding="ascii") as file:
        lines = (names.put(verdict) for found in verdicts.values() for verdict in found)
        file.writelines(json.dumps(line.as_json()) + "\n" for line in lines)
    # What is in the tables is what the rules of today read in the judge's words, as for whoever reads the file.
    reading = read([path], "verdicts", Options()) if path.stat().st_size else Reading("verdicts")
    settings = Settings(rounds=work.config["rounds"], level=work.config["level"])
    met = _met(work.config, opponents)
    field = Field(names.models, [names.of_row(name) for name in met], _replies(work, names, used))
    whole, heads = suites(reading, [Path(VERDICTS)], field, settings)
    output.write(whole, work.folder)
    judging = {"judge": work.config["judge"], **_spent(used.values()), "by_suite": _by_suite(work.config, used)}
    left_out = _unanswered(work.config, names, used)
    judging["suites"] = [_by_row(head, names) | {"unanswered": left_out.get(head["suite"], {})} for head in heads]
    warnings = _unread(work.config, verdicts)
    warnings += [f"{suite}: {unanswered(*told)}" for suite, own in left_out.items() for told in own.items()]
    return Judgments(_judgments(work.config, reading, names, used), judging, met, list(map(one_line, warnings)))


class _Names:
    """What models are called: by the name of their row, by all names where several rows are the same model."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = rows
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["fingerprint"][:NAME], []).append(row["name"])
        self.by_print = {model: " = ".join(names) for model, names in found.items()}
        self._by_row = {row["name"]: self.by_print[row["fingerprint"][:NAME]] for row in rows}

    @property
    def models(self) -> list[str]:
        """The names of all models."""
        return list(self.by_print.values())

    def of_row(self, name: str) -> str:
        """Return what the model of a row is called."""
        return self._by_row[name]

    def rows_of(self, model: str) -> list[str]:
        """Return the rows that are a model; for a model from outside its own name."""
        return [row for row, name in self._by_row.items() if name == model] or [model]

    def model(self, told: str) -> str:
        """Return what a model is called that verdicts call `told`; one from outside keeps its name if that is free."""
        taken = told in self.by_print.values()
        return self.by_print.get(told, f"{told} (baseline)" if taken else told)

    def outside(self, artifact: Artifact) -> list[str]:
        """Return what models from outside are called whose replies are compared in an artifact."""
        asked = read_verdicts(artifact.file(VERDICTS))
        told = {name for each in asked for name in (each.model_a, each.model_b) if name is not None}
        return sorted({self.model(each) for each in told} - set(self.models))

    def put(self, verdict: Verdict) -> Verdict:
        """Return a verdict with these names."""
        other = None if verdict.model_b is None else self.model(verdict.model_b)
        return replace(verdict, model_a=self.model(verdict.model_a), model_b=other)


def _check_models(config: Mapping[str, Any], verdicts: Mapping[str, Sequence[Verdict]]) -> None:
    prints = {row["key"]: row["fingerprint"][:NAME] for row in config["rows"]}
    for entry in config.get("verdicts", ()):
        own, other = prints[entry["row"]], prints.get(entry["opponent"])
        for verdict in verdicts[entry["input"]]:
            models = {verdict.model_a, verdict.model_b}
            if verdict.suite != entry["suite"]:
                raise ValueError(
                    f"{entry['input']}: a verdict on question {verdict.question} is of suite {verdict.suite}, expected "
                    f"{entry['suite']}; delete that artifact and run the command again"
                )
            if own not in models or (other is not None and other not in models) or verdict.kind != entry["kind"]:
                raise ValueError(
                    f"{entry['input']}: a verdict on question {verdict.question} of suite {entry['suite']} is of kind "
                    f"{verdict.kind} and of {verdict.model_a} and {verdict.model_b}, expected {entry['kind']} with "
                    f"{own}{f' and {other}' if other else ''}; delete that artifact and run the command again"
                )


def _met(config: Mapping[str, Any], opponents: Sequence[str]) -> list[str]:
    """Return the opponents that the judge compared somebody with."""
    rows = {row["key"]: row["name"] for row in config["rows"]}
    met = {
        rows[entry[side]] for entry in config.get("verdicts", ()) if entry["opponent"] for side in ("row", "opponent")
    }
    return [name for name in opponents if name in met]


def _judgments(
    config: Mapping[str, Any], reading: Reading, names: _Names, used: Mapping[str, Artifact]
) -> list[Judgment]:
    rows = {row["key"]: row["name"] for row in config["rows"]}
    found: list[Judgment] = []
    for entry in config.get("verdicts", ()):
        row, artifact = rows[entry["row"]], used[entry["input"]]
        own = names.of_row(row)
        verdicts = [each for each in reading.verdicts if each.suite == entry["suite"]]
        made = Judgment(row, entry["suite"], {}, fingerprint=artifact.fingerprint)
        if entry["kind"] == "single":
            found.append(replace(made, values=scores(verdicts, own)))
        elif entry["opponent"]:
            opponent = rows[entry["opponent"]]
            values = shares(verdicts, own, names.of_row(opponent))
            found.append(replace(made, values=values, opponent=opponent))
        else:
            # The plan names the file of a baseline; its own name stands in the verdicts.
            for name in names.outside(artifact):
                found.append(replace(made, values=shares(verdicts, own, name), baseline=name))
    return _once(found)


def _once(found: Sequence[Judgment]) -> list[Judgment]:
    """Return each comparison once; one that several artifacts hold, such as one a category, names them all."""
    kept: dict[tuple[str, str, str | None], Judgment] = {}
    for each in found:
        before = kept.setdefault((each.row, each.suite, each.against), each)
        if each.fingerprint not in before.fingerprint:
            kept[each.row, each.suite, each.against] = replace(
                before, fingerprint=f"{before.fingerprint} {each.fingerprint}"
            )
    return list(kept.values())


def _replies(work: Work, names: _Names, used: Mapping[str, Artifact]) -> dict[str, dict[ReplyKey, Answer]]:
    """Return the replies by suite, as the judge was shown them, and those of models from outside where they are kept.

    Their lengths are words and marks for all, because models count tokens each in their own way.
    """
    found: dict[str, dict[ReplyKey, Answer]] = {suite: {} for suite in work.config["suites"]}
    for row in work.config["rows"]:
        for suite, own in found.items():
            for reply in read_scores(work.inputs[f"{row['key']}:judge:{suite}"].file(SCORES)):
                for turn, text in enumerate(reply.replies, start=1):
                    own[names.of_row(row["name"]), reply.prompt_id, turn] = Answer(text)
    for entry in work.config.get("verdicts", ()):
        kept = used[entry["input"]].path / BASELINE
        if kept.is_file():
            for (model, question, turn), answer in answers([kept]).items():
                found[entry["suite"]][names.model(model), question, turn] = Answer(answer.text)
    return found


def _unanswered(config: Mapping[str, Any], names: _Names, used: Mapping[str, Artifact]) -> dict[str, dict[str, int]]:
    """Return by suite how many questions each model from outside does not answer, if any; it is the same for all rows.

    One that is met in several categories leaves out the sum of theirs.
    """
    found: dict[tuple[str, str, str], int] = {}
    for entry in config.get("verdicts", ()):
        count = used[entry["input"]].metrics.get("unanswered", 0) if entry["baseline"] else 0
        for name in names.outside(used[entry["input"]]) if count else ():
            key = (entry["suite"], name, entry["row"])
            found[key] = found.get(key, 0) + count
    told: dict[str, dict[str, int]] = {}
    for (suite, name, _), count in found.items():
        told.setdefault(suite, {})[name] = max(count, told.get(suite, {}).get(name, 0))
    return told


def _unread(config: Mapping[str, Any], verdicts: Mapping[str, Sequence[Verdict]]) -> list[str]:
    """Return a sentence on each suite with comparisons of which too many completions could not be read."""
    suites = {entry["input"]: entry["suite"] for entry in config.get("verdicts", ())}
    found: dict[str, list[Sequence[Verdict]]] = {}
    for role, own in verdicts.items():
        if sum(each.status == "unparsed" for each in own) > UNPARSED * len(own):
            found.setdefault(suites[role], []).append(own)
    said = []
    for suite, parts in found.items():
        every = [each for own in parts for each in own]
        unread = [each for each in every if each.status == "unparsed"]
        words = shorten(one_line(unread[0].completion), SHOWN)
        cut = " and was cut off: raise judge.max_tokens" if unread[0].finish == "length" else ""
        comparisons = "1 comparison" if len(parts) == 1 else f"{len(parts)} comparisons"
        said.append(
            f"{suite}: no verdict could be read in {len(unread):,} of {len(every):,} completions of {comparisons}, and "
            f"they count for nothing (judge.max_unparsed below that share asks for them again); one says {words!r}{cut}"
        )
    return said


def _by_suite(config: Mapping[str, Any], used: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    roles: dict[str, list[str]] = {}
    for entry in config.get("verdicts", ()):
        roles.setdefault(entry["suite"], []).append(entry["input"])
    return {suite: _spent([used[role] for role in dict.fromkeys(own)]) for suite, own in roles.items()}


def _spent(artifacts: Iterable[Artifact]) -> dict[str, Any]:
    """Return what became of the requests, and what they cost; a comparison that several rows share counts once."""
    metrics = [each.metrics for each in {each.fingerprint: each for each in artifacts}.values()]
    prices = [each["price"] for each in metrics if each["price"] is not None]
    found = {name: sum(each[name] for each in metrics) for name in COUNTS}
    # Artifacts of earlier versions do not say of how many calls the price is.
    priced = sum(each.get("priced", 0 if each["price"] is None else each["calls"]) for each in metrics)
    return found | {"price": sum(prices) if prices else None, "priced": priced}


def _by_row(head: Mapping[str, Any], names: _Names) -> dict[str, Any]:
    """Return the head of a suite with figures by row, also for models that are compared with."""
    rows = {
        row: {
            **figures,
            "against": {name: share for other, share in figures["against"].items() for name in names.rows_of(other)},
        }
        for model, figures in head["models"].items()
        for row in names.rows_of(model)
    }
    rules = {name: rule for other, rule in head["rules"].items() for name in names.rows_of(other)}
    return {**{key: value for key, value in head.items() if key != "models"}, "rules": rules, "rows": rows}
