"""The two plans of a study.

The first trains every arm at every coefficient on replicates that are for choosing only, and chooses by the validation
suite. The second trains the arms at what was chosen on the replicates that are reported. Imports no torch.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from pipelines import identity as published
from pipelines import judges, landscape
from pipelines.choices import StudyKind
from pipelines.configuration import Config, ConfigurationError
from pipelines.evaluation import Evaluation, Row
from pipelines.experiment import Builder
from pipelines.plan import Plan, Stage
from pipelines.ranges import require
from pipelines.schema import check_suites
from pipelines.study.settings import SELECTION_REPLICATES, SFT, SOUP

VALIDATION = "validation"
"""The suite by which coefficients are chosen. KL and fronts are measured on it, too; win rates never are."""
SHAPES = (StudyKind.line, StudyKind.plane)
"""Kinds that show soups before any RL: on the line through two SFT models, on the plane through three."""
Chosen = Mapping[tuple[str, str], float]
"""The coefficient of each family and arm."""
OF_AN_ARM = ("soup", "reference@policy", "align@policy")
"""Groups that an arm may choose."""
Compose = Callable[[Sequence[str]], Config]
"""Gives the configuration of a cell from overrides beside those of the command."""


class Study:
    """Plans a study: each arm is composed once a family, and copied for replicates and coefficients."""

    def __init__(self, config: Config, compose: Compose, digest: published.Digest) -> None:
        self.settings = config.study
        self.config = config
        self.digest = digest
        self.plan = Plan()
        self.chooses = self.settings.kind is StudyKind.comparison
        self.shape = self.settings.kind.value if self.settings.kind in SHAPES else ""
        self.suites = list(self.settings.suites or config.suite.names)
        at = "study.suites" if self.settings.suites else "suite.names"
        require(len(set(self.suites)) == len(self.suites), at, self.suites, "names a suite twice")
        chosen_by = f"coefficients are chosen by the suite {VALIDATION}; report on others"
        require(VALIDATION not in self.suites, at, self.suites, chosen_by)
        self._composed: dict[tuple[str, str], Config] = {}
        self._plain: dict[str, Config] = {}
        for family in self.settings.families:
            shape = [f"landscape={self.shape}"] if self.shape else []
            self._plain[family] = self._with_suites(compose([f"model={family}", *shape]))
            for arm, overrides in self.settings.arms.items():
                at = f"study.arms.{arm}"
                _check_arm(at, overrides)
                try:
                    composed = compose([f"model={family}", *overrides])
                except (HydraException, OmegaConfBaseException) as error:
                    raise ConfigurationError(f"{at}={list(overrides)}: {' '.join(str(error).split())}") from error
                self._composed[family, arm] = self._with_suites(composed)

    @property
    def families(self) -> list[Config]:
        """The configuration of each family, without any arm."""
        return list(self._plain.values())

    def _with_suites(self, config: Config) -> Config:
        config.suite.names = list(self.suites)
        check_suites(config)
        return config

    def selection(self) -> dict[tuple[str, str], Stage]:
        """Plan the choice of coefficients; return the stage that chooses, for each family and arm.

        There is none where there is one coefficient only, or all are reported.
        """
        settings, judge = self.settings, self.config.judge
        if len(settings.coefficients) == 1 or not self.chooses:
            return {}
        replicates = range(SELECTION_REPLICATES, SELECTION_REPLICATES + settings.selection_replicates)
        identity = {
            "suite": VALIDATION,
            "grid": [float(value) for value in settings.coefficients],
            "replicates": settings.selection_replicates,
            "tie_margin": float(judge.tie_margin),
            "rounds": judge.rounds,
            "level": float(judge.level),
            "seed": self.config.seed,
        }
        chosen = {}
        for family, arm in self._composed:
            inputs: dict[str, Stage] = {}
            for place, replicate in enumerate(replicates):
                builder = self._builder(self._composed[family, arm], replicate)
                sft = Row(_named(SFT, family, replicate), "ingredient", builder.sft[0])
                inputs[f"sft_{place}"] = self._validated(builder, sft)
                for index, coefficient in enumerate(settings.coefficients):
                    row = self._row(builder, family, arm, replicate, coefficient)
                    inputs[f"c{index}_r{place}"] = self._validated(builder, row)
            chosen[family, arm] = self.plan.add("select", f"select {arm} {family}", identity, inputs)
        return chosen

    def reporting(self, chosen: Chosen, selected: Mapping[tuple[str, str], Stage]) -> Stage:
        """Plan what is reported, beside what was planned before; return the stage that makes the study's tables.

        `chosen` are the coefficients that came out of `selected`, the stages that chose them; a study of fronts reports
        all of them.
        """
        if self.shape:
            return self._landscape()
        told: list[dict[str, Any]] = []
        inputs: dict[str, Stage] = {f"select:{family}:{arm}": stage for (family, arm), stage in selected.items()}

        def add(row: Row, stages: Mapping[str, Stage], about: dict[str, Any]) -> None:
            key = f"m{len(told)}"
            inputs.update({f"{key}:{role}": stage for role, stage in stages.items()})
            if row.model.kind == "align" and self.chooses:
                needs = {row.model.fingerprint: row.model} | self._needs(row.model)
                inputs.update({f"cost_{identity[:16]}": stage for identity, stage in needs.items()})
                about |= {"training": row.model.fingerprint[:16], "needs": [identity[:16] for identity in needs]}
            told.append({"key": key, "fingerprint": row.model.fingerprint, **about})

        for family in self.settings.families:
            for replicate in range(self.settings.replicates):
                about = {"family": family, "replicate": replicate}
                # Without any arm's own soup: the soup that is shown, and to which KL is measured, is the same for all.
                base = self._builder(self._plain[family], replicate)
                shared = {SFT: (base.sft[0], "ingredient"), SOUP: (base.soup, "soup")}
                for name, (model, role) in shared.items():
                    row = Row(_named(name, family, replicate), role, model)
                    add(row, self._measured(base.evaluation(), row), about | {"arm": name, "coefficient": None})
                for arm in self.settings.arms:
                    builder = self._builder(self._composed[family, arm], replicate)
                    coefficients = [chosen[family, arm]] if self.chooses else self.settings.coefficients
                    for coefficient in map(float, coefficients):
                        row = self._row(builder, family, arm, replicate, coefficient)
                        # As for all arms, whatever an arm changes: the same anchors, the same unit of the reward.
                        stages = self._measured(base.evaluation(), row)
                        add(row, stages, about | {"arm": arm, "coefficient": coefficient})
        return self._tables(told, inputs)

    def _builder(self, composed: Config, replicate: int) -> Builder:
        config = copy.copy(composed)
        config.replicate = replicate
        builder = Builder(config, self.digest, self.plan)
        builder.models()
        return builder

    def _row(self, builder: Builder, family: str, arm: str, replicate: int, coefficient: float) -> Row:
        policy = copy.copy(builder.config.policy)
        policy.kl_coef = float(coefficient)
        builder.config.policy = policy
        return builder.row(f"{_named(arm, family, replicate)} at {coefficient:g}", "policy", policy)

    def _landscape(self) -> Stage:
        """Plan the points of the soups of each replicate's SFT models; no policy is trained."""
        told: list[dict[str, Any]] = []
        inputs: dict[str, Stage] = {}
        for family in self.settings.families:
            for replicate in range(self.settings.replicates):
                builder = self._builder(self._plain[family], replicate)
                points = builder.points()
                for weights in landscape.grids(builder.config.landscape)[self.shape]:
                    models = [(f"SFT{index}", builder.ingredient(index)) for index in range(1, len(weights) + 1)]
                    stage = points.add(models, weights)
                    key = f"p{len(told)}"
                    inputs[key] = stage
                    about = {"family": family, "replicate": replicate, "weights": list(weights)}
                    told.append({"key": key, **about})
        return self._tables(told, inputs)

    def _needs(self, stage: Stage) -> dict[str, Stage]:
        """Return what a stage is made from, by fingerprint; without base and data, which all models share."""
        found: dict[str, Stage] = {}
        for identity in stage.inputs.values():
            source = self.plan[identity]
            if source.kind not in ("base", "data"):
                found |= {identity: source} | self._needs(source)
        return found

    def _measured(self, evaluation: Evaluation, row: Row) -> dict[str, Stage]:
        """Return what is measured of a model: everything, or what a front needs, which is less than half the work."""
        return evaluation.add(row) if self.chooses else {"anchors": evaluation.anchored(row)}

    def _validated(self, builder: Builder, row: Row) -> Stage:
        return builder.evaluation().validated(row, VALIDATION, self.settings.selection_prompts)

    def _tables(self, told: list[dict[str, Any]], inputs: Mapping[str, Stage]) -> Stage:
        settings, judge = self.settings, self.config.judge
        identity = {
            "study": settings.name,
            "kind": settings.kind.value,
            "title": settings.title,
            "question": settings.question,
            "baseline": settings.baseline,
            "asks": [list(pair) for pair in settings.asks],
            "arms": {arm: settings.roles.get(arm, "other") for arm in settings.arms},
            "families": list(settings.families),
            "suites": self.suites if self.chooses else [],
            "axis": settings.axis,
            "places": {arm: float(place) for arm, place in settings.places.items()},
            "models": told,
            "selection_prompts": settings.selection_prompts
            if self.chooses and len(settings.coefficients) > 1
            else None,
            "judge": judges.shown(judge),
            "tie_margin": float(judge.tie_margin),
            "rounds": judge.rounds,
            "level": float(judge.level),
            "seed": self.config.seed,
            "scale": self.config.scale.name,
            "regime": self.config.regime.name,
        }
        return self.plan.add("study", f"study {settings.name}", identity, inputs)


def _check_arm(at: str, overrides: Sequence[str]) -> None:
    """Raise ConfigurationError for an arm that would not be comparable with the others."""
    for text in overrides:
        key = text.lstrip("+~").split("=")[0]
        own = key in OF_AN_ARM or key.startswith(("policy.", "soup."))
        fix = f"an arm sets policy.* (but for the coefficient), soup, {', '.join(OF_AN_ARM[1:])}"
        require(own and key != "policy.kl_coef", at, text, fix)


def _named(name: str, family: str, replicate: int) -> str:
    return f"{name} {family}/{replicate}"
