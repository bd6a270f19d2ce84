"""From a configuration to the plan of one experiment: which stages there are, what each reads, what depends on what.

Imports no torch. The order in which stages are added is the order in which a worker prefers them: what others wait
for comes first.
"""

from dataclasses import dataclass
from typing import Any

from pipelines import identity as published
from pipelines import judges, landscape, recipe
from pipelines.arm import Align, arm_name, references
from pipelines.arm import identity as arm_identity
from pipelines.choices import Criterion, Critic, JudgeName, Origin
from pipelines.configuration import Config, optimiser_identity
from pipelines.evaluation import TRAINED, Comparison, Evaluation, Measuring, Row, listed
from pipelines.plan import Plan, Stage
from pipelines.ranges import plain
from pipelines.rules import RuleSettings, active
from pipelines.rules import identity as rule_identity
from pipelines.sources import ZooData, draw_identity, world_identity
from salsa.store.fingerprint import file_digest

ROLE_REWARD, ROLE_JUDGE = "reward", "judge"


@dataclass(frozen=True)
class Experiment:
    """The plan of one experiment and its last stages: the report, and the landscape if one is asked for."""

    plan: Plan
    report: Stage
    rows: tuple[Row, ...]
    landscape: Stage | None = None


def build(config: Config, settings: dict[str, Any], digest: published.Digest = file_digest) -> Experiment:
    """Return the plan of an experiment; `settings` is the resolved configuration that the report prints.

    `digest` gives the SHA-256 of a file of data or weights. Raises FileNotFoundError (naming the key and the file) when
    a file or folder is missing.
    """
    return Builder(config, digest).experiment(settings)


class Builder:
    """Adds the stages of one experiment to a plan, in order of urgency."""

    def __init__(self, config: Config, digest: published.Digest, plan: Plan | None = None) -> None:
        self.config = config
        self.digest = digest
        self.plan = Plan() if plan is None else plan
        self.world = world_identity(config.data)
        self.draws = draw_identity(config.data)
        self.replicate = {"seed": config.seed, "replicate": config.replicate}
        lora = config.lora
        # Left out where all weights are fine-tuned: what was made before there were adapters stays what it is.
        self.lora = (
            {"lora": {"rank": lora.rank, "alpha": float(lora.alpha), "targets": sorted(lora.targets)}}
            if lora.rank
            else {}
        )
        self.generation = {
            "temperature": config.generation.temperature,
            "max_new_tokens": config.generation.max_new_tokens,
            "context": config.base.context,
        }

    def experiment(self, settings: dict[str, Any]) -> Experiment:
        """Add every stage and return the experiment."""
        self.models()
        rows = self._rows()
        evaluation = self.evaluation()
        judged = {row.name: evaluation.add(row) for row in rows}
        report = self._report(rows, judged, evaluation.comparisons(rows), settings)
        return Experiment(
            self.plan, report, tuple(rows), self._landscape(rows) if self.config.landscape.models else None
        )

    def models(self) -> None:
        """Add the models that policies start from, are held to and are rewarded by."""
        # What every stage may read: the data, and where models are adapters, the base that these are nothing without.
        self.common = self._data()
        self.base = self._base()
        self.common = self.common | ({"base": self.base} if self.lora else {})
        ingredients = max(2, recipe.ingredients(self.config.soup))
        self.sft = [self.ingredient(index) for index in range(1, ingredients + 1)]
        self.reward = self._reward(ROLE_REWARD, self.sft[0])
        self.soup = self._soup()
        # The judge starts from the base: an SFT model is an ingredient of the soup, and a judge that is its relative
        # might favour what lies near it.
        self.judge_model = (
            self._reward(ROLE_JUDGE, self.base) if self.config.judge.name is JudgeName.reward_model else None
        )

    def _data(self) -> dict[str, Stage]:
        data = self.config.data
        if isinstance(data, ZooData):
            return {}
        return {"data": self.plan.add("data", "data", *published.of_data(data, self.digest))}

    def _base(self) -> Stage:
        config, model = self.config, self.config.model
        if config.scale.source is Origin.hub:
            identity, place = published.of_weights("model", model.name, model.revision, self.digest)
            place |= {"family": model.family.value, "context": config.base.context}
            return self.plan.add("base", "base", identity | {"template": model.template}, execution=place)
        base = config.base
        tiny = dict(vars(model.tiny)) | {"family": model.family.value, "context": base.context}
        identity = {
            "source": "build",
            "architecture": tiny,
            "data": self.world,
            "steps": base.steps,
            "batch": base.batch,
            "row_tokens": base.row_tokens,
            "vocabulary": 0 if isinstance(config.data, ZooData) else base.vocabulary,
            "optimiser": optimiser_identity(base.optimiser),
            "seed": config.seed,
        }
        return self.plan.add("base", "base", identity, self.common)

    def ingredient(self, index: int) -> Stage:
        """Add an SFT model, from 1, and return its stage."""
        sft = self.config.sft
        identity = {
            "data": self.draws,
            "demonstrations": sft.demonstrations,
            "draw": 0 if self.config.data.draws.value == "shared" else index,
            "learn": self.config.data.learn.value,
            "context": self.config.base.context,
            "steps": sft.steps,
            "batch": sft.batch,
            "replay": sft.replay,
            "replay_tokens": sft.replay_tokens if sft.replay else 0,
            "optimiser": optimiser_identity(sft.optimiser),
            "index": index,
        }
        identity |= self.replicate | self.lora
        return self.plan.add("sft", f"sft_{index}", identity, {"base": self.base} | self.common)

    def _soup(self) -> Stage:
        soup = self.config.soup
        weights = recipe.weights(soup)
        if weights is None:
            return self._searched_soup(recipe.settings(soup))
        *own, of_base = weights
        used = {index: weight for index, weight in enumerate(own) if weight != 0}
        if [*used.values(), of_base] in ([1, 0], [1]):
            return self.sft[next(iter(used))] if used else self.base
        config: dict[str, Any] = {"recipe": "average", "weights": list(used.values())}
        config |= {"base_weight": of_base} if of_base else {}
        inputs = {f"ingredient_{index + 1}": self.sft[index] for index in used}
        return self.plan.add("soup", "soup", config, inputs | {"base": self.base})

    def _searched_soup(self, settings: dict[str, Any]) -> Stage:
        """Add a soup whose weights follow from the models or from held-out data."""
        inputs = {f"ingredient_{index}": model for index, model in enumerate(self.sft, start=1)} | {"base": self.base}
        if settings["recipe"] == "greedy":
            settings |= self.replicate
            inputs |= self.common
        if settings.get("by") == Criterion.loss.value:
            learn = self.config.data.learn.value
            settings |= {"data": self.draws, "learn": learn, "context": self.config.base.context}
        elif settings.get("by") == Criterion.reward.value:
            missing = self.config.policy.missing_end_score
            settings |= {"data": self.world, "generation": self.generation, "missing_end_score": missing}
            inputs["reward"] = self.reward
        return self.plan.add("soup", "soup", settings, inputs)

    def _reward(self, role: str, start: Stage) -> Stage:
        preferences, reward = self.config.preferences, self.config.reward
        identity: dict[str, Any] = {
            "data": self.draws,
            "pairs": preferences.pairs,
            "heldout": preferences.heldout,
            "context": self.config.base.context,
        }
        inputs = dict(self.common)
        if isinstance(self.config.data, ZooData):
            identity |= {"label_noise": self.config.data.label_noise, "generation": self.generation} | self.replicate
            inputs |= {"first": self.sft[0], "second": self.sft[1]}
        else:
            identity["split"] = "train" if role == ROLE_REWARD else "judge"
            inputs["tokenizer"] = self.base
        name = "preferences" if role == ROLE_REWARD else "preferences_judge"
        pairs = self.plan.add("preferences", name, identity, inputs)
        measuring = {
            "data": self.draws,
            "role": role,
            "normaliser_replies": reward.normaliser_replies,
            "generation": self.generation,
        } | self.replicate
        inputs = {"preferences": pairs, "normaliser": self.sft[0]} | self.common
        if reward.name is not None and role == ROLE_REWARD:
            weights, place = published.of_weights("reward", reward.name, reward.revision, self.digest)
            identity = measuring | {"published": weights, "heldout": preferences.heldout}
            return self.plan.add("reward", "reward", identity, inputs, place)
        training = {"steps": reward.steps, "batch": reward.batch, "optimiser": optimiser_identity(reward.optimiser)}
        training |= self.lora
        inputs["start"] = start
        return self.plan.add(
            "reward", "reward" if role == ROLE_REWARD else "reward_judge", measuring | training, inputs
        )

    def _rows(self) -> list[Row]:
        config = self.config
        rows = [Row(f"SFT{index}", "ingredient", model) for index, model in enumerate(self.sft, start=1)]
        rows.append(Row("soup", "soup", self.soup))
        arms = [("opponent", config.opponent), ("policy", config.policy)]
        arms += [("control", control) for control in config.controls.values()]
        names: set[str] = set()
        for role, arm in arms:
            name = arm_name(arm)
            if name in names:
                name = f"{name} ({role})"
            while name in names:
                name += "'"
            names.add(name)
            rows.append(self.row(name, role, arm))
        return rows

    def row(self, name: str, role: str, arm: Align) -> Row:
        """Add the training of an arm and return its row."""
        return Row(name, role, self._align(name, arm), arm.init.value, arm.reference.value, float(arm.kl_coef))

    def _model(self, name: str) -> Stage:
        """Return the stage of a model by the name that `reference` or `init` gives it."""
        return {
            "sft": self.sft[0],
            "sft_1": self.sft[0],
            "sft_2": self.sft[1],
            "other": self.sft[1],
            "soup": self.soup,
            "base": self.base,
        }[name]

    def _align(self, name: str, arm: Align) -> Stage:
        identity = arm_identity(arm) | {
            "data": self.draws,
            "generation": self.generation,
            "trace_prompts": self.config.suite.anchor_prompts,
        }
        inputs = {"init": self._model(arm.init.value)} | self.common
        if arm.rewards.model or identity.get("critic") == Critic.reward.value:
            inputs["reward"] = self.reward
        for index, reference in enumerate(references(arm), start=1):
            inputs[f"reference_{index}"] = self._model(reference)
        execution = {"guards": plain(arm.guards), "rules": {}}
        for rule, settings in self._rules(arm).items():
            known, folders = rule_identity(settings)
            own = {"weight": settings.weight, "normalise": settings.normalise}
            identity["rewards"].setdefault("rules", {})[rule] = known | own
            execution["rules"][rule] = {"key": settings.key, "folders": folders}
            if settings.normalise:
                inputs[f"rule_{rule}"] = self._rule(rule, known, execution["rules"][rule])
        return self.plan.add("align", f"align {name}", identity | self.replicate, inputs, execution)

    def _rules(self, arm: Align) -> dict[str, RuleSettings]:
        at = next(at for at, each in self.config.arms().items() if each is arm)
        return active(at, arm.rewards.rules, self.config.policy.rewards.rules)

    def _rule(self, name: str, known: dict[str, Any], place: dict[str, Any]) -> Stage:
        """Add the stage that measures what zero and one of a rule mean; arms that share the rule share it."""
        identity = {
            "data": self.draws,
            "rule": known,
            "normaliser_replies": self.config.reward.normaliser_replies,
            "generation": self.generation,
        } | self.replicate
        inputs = {"normaliser": self.sft[0]} | self.common
        return self.plan.add("rule", f"rule {name}", identity, inputs, place)

    def evaluation(self) -> Evaluation:
        """Return what adds the evaluation of rows to the plan."""
        measuring = Measuring(
            world=self.world,
            replicate=self.replicate,
            generation=self.generation,
            common=self.common,
            anchors={"anchor_sft_1": self.sft[0], "anchor_sft_2": self.sft[1], "anchor_soup": self.soup},
            judges=self._judges(),
        )
        return Evaluation(self.plan, self.config, measuring, self.digest)

    def _judges(self) -> dict[str, Stage]:
        return {"reward": self.reward} | ({"judge": self.judge_model} if self.judge_model else {})

    def points(self) -> landscape.Points:
        """Return what adds the points of a landscape to the plan."""
        config, settings = self.config, self.config.landscape
        measuring = {
            "data": self.draws,
            "suite": settings.suite,
            "prompts": settings.prompts,
            "documents": settings.documents,
            "learn": config.data.learn.value,
            "context": config.base.context,
            "generation": self.generation,
            "judge": judges.scores(config.judge),
            "missing_end_score": config.policy.missing_end_score,
        } | self.replicate
        return landscape.Points(self.plan, measuring, self._judges() | self.common)

    def _landscape(self, rows: list[Row]) -> Stage:
        config, settings = self.config, self.config.landscape
        trained = {row.name: row.model for row in rows if row.role in TRAINED}
        named = {"base": ("base", self.base), "soup": ("soup", self.soup)}
        arms = [row for row in rows if row.role in TRAINED]
        keys = ("opponent", "policy", *config.controls)
        named |= {key: (row.name, row.model) for key, row in zip(keys, arms, strict=True)}
        drawing = {
            "suite": settings.suite,
            "judge": judges.scores(config.judge),
            "rounds": config.judge.rounds,
            "level": float(config.judge.level),
            "model": config.model.family.value,
            "scale": config.scale.name,
        } | self.replicate
        models = [landscape.model(name, named, self.ingredient) for name in settings.models]
        landscape.check_span(models, self.soup)
        points = self.points()
        policies = trained if settings.policies else {}
        return landscape.add(points, settings, drawing, models, policies, self.base)

    def _report(
        self,
        rows: list[Row],
        judged: dict[str, dict[str, Stage]],
        comparisons: list[Comparison],
        settings: dict[str, Any],
    ) -> Stage:
        judge = self.config.judge
        told, verdicts = listed(comparisons, rows)
        identity = (
            {
                "rows": [
                    {
                        "key": str(index),
                        "name": row.name,
                        "role": row.role,
                        "init": row.init,
                        "reference": row.reference,
                        "kl_coef": row.kl_coef,
                        "fingerprint": row.model.fingerprint,
                    }
                    for index, row in enumerate(rows)
                ],
                "data": self.world,
                "suites": list(self.config.suite.names),
                "samples": self.config.suite.samples,
                "judge": judges.shown(judge),
                "tie_margin": float(judge.tie_margin) if isinstance(judge, judges.ScoreJudge) else None,
                "rounds": judge.rounds,
                "level": float(judge.level),
                "model": self.config.model.family.value,
                "scale": self.config.scale.name,
            }
            | recipe.heading(self.config.soup)
            | self.replicate
            | ({"verdicts": told} if told else {})
        )
        inputs: dict[str, Stage] = {"reward": self.reward} | verdicts | self.common
        if self.soup.config.get("recipe") == "greedy":
            inputs["soup"] = self.soup  # what it took and what it left out is said in the report
        if self.judge_model:
            inputs["judge_model"] = self.judge_model
        for index, row in enumerate(rows):
            inputs |= {f"{index}:{role}": stage for role, stage in judged[row.name].items()}
            if row.role in TRAINED:
                inputs[f"{index}:align"] = row.model
        return self.plan.add("report", "report", identity, inputs, {"settings": settings})
