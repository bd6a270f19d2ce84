"""The stages that evaluate models: replies to suites, judgements, KL to the anchors, what was forgotten.

Imports no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines import identity as published
from pipelines import judges, protocol
from pipelines.benchmarks import ALL, Benchmark
from pipelines.choices import Question, Role
from pipelines.configuration import Config
from pipelines.plan import Plan, Stage

TRAINED = ("policy", "opponent", "control")
"""Roles of the rows that RL has trained."""


@dataclass(frozen=True)
class Row:
    """One model of the final table."""

    name: str
    role: str
    model: Stage
    init: str | None = None
    reference: str | None = None
    kl_coef: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What a judge that reads is asked of a row: `pair` with another row or an outside `baseline`, or `single`."""

    row: Row
    suite: str
    kind: Question
    stage: Stage
    opponent: Row | None = None
    baseline: str | None = None


@dataclass(frozen=True)
class Measuring:
    """What evaluation reads besides the rows: data, replicate, sampling of replies, anchors and reward models."""

    world: Mapping[str, Any]
    replicate: Mapping[str, Any]
    generation: Mapping[str, Any]
    common: Mapping[str, Stage]
    anchors: Mapping[str, Stage]
    judges: Mapping[str, Stage]


class Evaluation:
    """Adds the evaluation of models to a plan."""

    def __init__(self, plan: Plan, config: Config, measuring: Measuring, digest: published.Digest) -> None:
        self.plan, self.config, self.measuring, self.digest = plan, config, measuring, digest

    def add(self, row: Row) -> dict[str, Stage]:
        """Add the evaluation of one model; return its stages by role ("judge:<suite>", "anchors", "tax")."""
        suite, measuring = self.config.suite, self.measuring
        done = {f"judge:{name}": self._judged(row, name, self.responses(row, name)) for name in suite.names}
        done["anchors"] = self.anchored(row)
        identity = {"data": measuring.world, "documents": suite.tax_documents, "context": self.config.base.context}
        done["tax"] = self.plan.add("tax", f"tax {row.name}", identity, {"model": row.model, **measuring.common})
        return done

    def anchored(self, row: Row) -> Stage:
        """Add KL to the anchors and scores on the validation suite, along the training where there was one."""
        suite, measuring = self.config.suite, self.measuring
        trained = row.role in TRAINED
        # KL is measured between the models as they are, at temperature 1, whatever replies are judged at; policies
        # leave such replies along their training.
        generation = {**measuring.generation, "temperature": 1.0}
        replies = row.model if trained else self._respond(row, "validation", suite.anchor_prompts, generation)
        anchors = dict(measuring.anchors)
        if not trained:
            anchors["model"] = row.model
        identity = self._judging() | {"prompts": suite.anchor_prompts, "generation": generation}
        inputs = {"replies": replies, **anchors, **measuring.judges, **measuring.common}
        return self.plan.add("anchors", f"anchors {row.name}", identity, inputs)

    def validated(self, row: Row, suite: str, prompts: int) -> Stage:
        """Add the scores of a model's replies to so many prompts of a suite of the data."""
        return self._judged(row, suite, self._respond(row, suite, prompts, dict(self.measuring.generation)))

    def _judged(self, row: Row, suite: str, responses: Stage) -> Stage:
        identity = self._judging() | {"suite": suite}
        inputs = {"responses": responses, **self.measuring.judges, **self.measuring.common}
        return self.plan.add("judge", f"judge {row.name}: {suite}", identity, inputs)

    def _judging(self) -> dict[str, Any]:
        # The reward is measured in one unit for all rows: the policy's score of a reply without end, also for an arm
        # that was trained with another one.
        return {
            "data": self.measuring.world,
            "judge": judges.scores(self.config.judge),
            "missing_end_score": self.config.policy.missing_end_score,
        }

    def responses(self, row: Row, suite: str) -> Stage:
        """Add a model's replies to a suite."""
        benchmark = self.config.suite.published.get(suite)
        if benchmark is None:
            generation = dict(self.measuring.generation)
            if self.config.suite.temperature is not None:
                generation["temperature"] = float(self.config.suite.temperature)
            return self._respond(row, suite, self.config.suite.prompts, generation)
        generation = benchmark.generation(dict(self.measuring.generation))
        return self._respond(row, suite, self._count(benchmark), generation, {"questions": self._questions(suite)})

    def comparisons(self, rows: Sequence[Row]) -> list[Comparison]:
        """Add what a judge that reads is asked; nothing for one that scores. Each pair of models is compared once."""
        judge = self.config.judge
        if isinstance(judge, judges.ScoreJudge):
            return []
        judged = [row for row in rows if Role(row.role) in judge.rows]
        found = []
        for suite in self.config.suite.names:
            benchmark = self.config.suite.published.get(suite)
            kinds = judge.kinds if benchmark is None else benchmark.kinds
            if Question.single in kinds:
                scored = judged if rows[0] in judged else [rows[0], *judged]
                found += [self._compare(row, suite, Question.single) for row in scored]
            if Question.pair in kinds:
                found += [self._compare(row, suite, Question.pair, opponent) for row, opponent in _pairs(judged, rows)]
            for category in benchmark.baselines if benchmark else ():
                found += [self._compare(row, suite, Question.pair, baseline=category) for row in judged]
        return found

    def _respond(
        self,
        row: Row,
        suite: str,
        prompts: int,
        generation: Mapping[str, Any],
        questions: Mapping[str, Stage] = {},
    ) -> Stage:
        identity = {"data": self.measuring.world, "suite": suite, "prompts": prompts, "generation": generation}
        usual = generation == self.measuring.generation or questions
        at = "" if usual else f" at temperature {generation['temperature']:g}"
        return self.plan.add(
            "respond",
            f"respond {row.name}: {suite}{at}",
            {**identity, **self.measuring.replicate},
            {"model": row.model, **questions, **self.measuring.common},
        )

    def _questions(self, suite: str) -> Stage:
        benchmark = self.config.suite.published[suite]
        known, place = self._file(f"suite.benchmarks.{suite}.questions", benchmark.questions)
        config = {"suite": suite, "prompts": self._count(benchmark), "questions": known}
        places = {"questions": place, "protocol": protocol.of(self.config, suite, benchmark).to_json()}
        data = {role: stage for role, stage in self.measuring.common.items() if role == "data"}
        return self.plan.add("questions", f"questions {suite}", config, data, places)

    def _file(self, key: str, address: str) -> tuple[dict[str, Any], dict[str, Any]]:
        return published.of_file(key, address, self.digest)

    def _count(self, benchmark: Benchmark) -> int:
        return self.config.suite.prompts if benchmark.prompts is None else benchmark.prompts

    def _compare(
        self, row: Row, suite: str, kind: Question, opponent: Row | None = None, baseline: str | None = None
    ) -> Comparison:
        benchmark = self.config.suite.published.get(suite)
        config, place = self._asking(suite, kind)
        place["expected"] = self._expected(suite, benchmark, baseline)
        inputs = {"responses": self.responses(row, suite), **self.measuring.common}
        name = f"verdicts {row.name} (scores): {suite}"
        if benchmark is not None:
            inputs["questions"] = self._questions(suite)
        if opponent is not None:
            inputs["opponent"] = self.responses(opponent, suite)
            name = f"verdicts {row.name} against {opponent.name}: {suite}"
        if benchmark is not None and baseline is not None:
            key = f"suite.benchmarks.{suite}.baselines.{baseline}"
            config["baseline"], place["baseline"] = self._file(key, benchmark.baselines[baseline])
            config["category"] = "" if baseline == ALL else baseline
            name = f"verdicts {row.name} against the baseline: {suite}"
            name += "" if baseline == ALL else f" ({baseline})"
        stage = self.plan.add("verdicts", name, config, inputs, place)
        return Comparison(row, suite, kind, stage, opponent, baseline)

    def _asking(self, suite: str, kind: Question) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what verdicts of a kind on a suite depend on besides replies, and what asking for them needs."""
        benchmark, judge = self.config.suite.published.get(suite), self.config.judge
        asked = protocol.of(self.config, suite, benchmark)
        known, place = judges.identity(judge)
        config: dict[str, Any] = {"data": self.measuring.world, "suite": suite, "kind": kind.value, "judge": known}
        config["prompts"] = judges.prompts_digest(asked.prompts_key, asked.prompts, asked.levels, kind.value)
        # A part of the identity, so that a lower limit asks again where verdicts are stored.
        config["max_unparsed"] = float(judge.max_unparsed)
        place |= {"prompts": asked.prompts, "prompts_key": asked.prompts_key, "levels": asked.levels}
        if benchmark is not None and benchmark.references is not None:
            key = f"suite.benchmarks.{suite}.references"
            config["references"], place["references"] = self._file(key, benchmark.references)
            config["reference_categories"] = list(benchmark.reference_categories)
        return config, place

    def _expected(self, suite: str, benchmark: Benchmark | None, category: str | None) -> dict[str, Any]:
        """Return how many questions and turns a suite has at most, and how much text, as far as that is known."""
        longest = self.config.generation.max_new_tokens
        if benchmark is None:
            turns = 2 if suite == "two_turn" else 1
            count, counted = self.config.suite.prompts, suite not in getattr(self.config.data, "prompts", ())
            # Questions of a file of one's own may have any number of turns.
            return {"questions": count, "turns": turns * count if counted else None, "reply": longest}
        known = judges.expected(suite, benchmark, self._count(benchmark), category)
        return known | {"reply": benchmark.max_new_tokens or longest}


def _pairs(judged: Sequence[Row], rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Yield each judged row with the opponent and with SFT1, pairs of models once and no model with itself.

    Rows of one model are one: what is said of it counts for all of them.
    """
    seen: set[frozenset[str]] = set()
    for row in judged:
        for opponent in [*(other for other in rows if other.role == "opponent"), rows[0]]:
            models = frozenset((row.model.fingerprint, opponent.model.fingerprint))
            if len(models) == 2 and models not in seen:
                seen.add(models)
                yield row, opponent


def listed(comparisons: Sequence[Comparison], rows: Sequence[Row]) -> tuple[list[dict[str, Any]], dict[str, Stage]]:
    """Return what the report is told of comparisons, and the inputs that it reads them from."""
    keys = {row.name: str(index) for index, row in enumerate(rows)}
    told, inputs = [], {}
    for each in comparisons:
        role = f"verdicts_{each.stage.fingerprint[:12]}"
        inputs[role] = each.stage
        told.append(
            {
                "row": keys[each.row.name],
                "suite": each.suite,
                "kind": each.kind.value,
                "opponent": keys[each.opponent.name] if each.opponent else None,
                "baseline": each.baseline,
                "input": role,
            }
        )
    return told, inputs
