"""The two plans of a study.

The first trains every arm at every coefficient on replicates that are for choosing only, and chooses by the validation
suite. The second trains the arms at what was chosen on the replicates that are reported. Imports no torch.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
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
from pipelines.ranges import plain, require
from pipelines.schema import check_suites
from pipelines.study.gaps import Cell, Gaps, Loss, Lost, cause, gaps
from pipelines.study.settings import SELECTION_REPLICATES, SFT, SOUP

VALIDATION = "validation"
"""The suite by which coefficients are chosen. KL and fronts are measured on it, too; win rates never are."""
SHAPES = (StudyKind.line, StudyKind.plane)
"""Kinds that show soups before any RL: on the line through two SFT models, on the plane through three."""
OF_THE_CELLS = (
    "seed",
    "data",
    "model",
    "scale",
    "base",
    "sft",
    "preferences",
    "reward",
    "lora",
    "policy",
    "generation",
)
"""Parts of a configuration that all cells of a family share, but for what an arm sets."""
OF_AN_ARM_ALONE = ("init", "reference", "kl_coef", "rewards")
"""Keys of `policy` that an arm or the study sets, and reward rules, whose arguments may hold anything."""
Chosen = Mapping[tuple[str, str], float]
"""The coefficient of each family and arm."""
OF_AN_ARM = ("soup", "reference@policy", "align@policy")
"""Groups that an arm may choose."""
NOTHING: Lost = MappingProxyType({})
"""Where nothing has failed."""
Compose = Callable[[Sequence[str]], Config]
"""Gives the configuration of a cell from overrides beside those of the command."""


class Study:
    """Plans a study: each arm is composed once a family, and copied for replicates and coefficients."""

    def __init__(self, config: Config, compose: Compose, digest: published.Digest) -> None:
        self.settings = config.study
        self.config = config
        self.digest = digest
        self.plan = Plan()
        self.refused: dict[str, Loss] = {}
        """What could not be chosen, or chosen by, and why."""
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

    def selection(self, failed: Lost = NOTHING) -> dict[tuple[str, str], Stage]:
        """Plan the choice of coefficients; return the stage that chooses, for each family and arm.

        There is none where there is one coefficient only, or all are reported. With what has `failed` before, the plan
        begins anew: coefficients and replicates that it concerns are left out, and so is an arm that is left with none.
        """
        settings, judge = self.settings, self.config.judge
        self.plan, self.refused = Plan(), {}
        if len(settings.coefficients) == 1 or not self.chooses:
            return {}
        identity = {
            "suite": VALIDATION,
            "tie_margin": float(judge.tie_margin),
            "rounds": judge.rounds,
            "level": float(judge.level),
            "seed": self.config.seed,
        }
        chosen = {}
        for family, arm in self._composed:
            replicates = self._selecting(family, arm, failed)
            grid = self._choosable(family, arm, replicates, failed)
            inputs = {f"sft_{place}": start for place, (start, _) in enumerate(replicates)} | {
                f"c{index}_r{place}": measured[coefficient]
                for index, coefficient in enumerate(grid)
                for place, (_, measured) in enumerate(replicates)
            }
            if grid:
                told = identity | {"replicates": len(replicates), "grid": grid}
                chosen[family, arm] = self.plan.add("select", f"select {arm} {family}", told, inputs)
        return chosen

    def _selecting(self, family: str, arm: str, failed: Lost) -> list[tuple[Stage, dict[float, Stage]]]:
        """Plan what an arm's coefficient is chosen by: of each replicate SFT1, and the arm at each coefficient.

        Replicates whose SFT1 or whose reward model has failed are left out, and noted.
        """
        found = []
        for replicate in range(SELECTION_REPLICATES, SELECTION_REPLICATES + self.settings.selection_replicates):
            builder = self._builder(self._composed[family, arm], replicate)
            start = self._validated(builder, Row(_named(SFT, family, replicate), "ingredient", builder.sft[0]))
            measured = {
                float(coefficient): self._validated(builder, self._row(builder, family, arm, replicate, coefficient))
                for coefficient in self.settings.coefficients
            }
            loss = cause([start], self.plan, failed)
            if loss is None:
                found.append((start, measured))
            else:
                self.refused[f"replicate {replicate} of {family} is left out of the choice of coefficients"] = loss
        return found

    def _choosable(
        self, family: str, arm: str, replicates: Sequence[tuple[Stage, Mapping[float, Stage]]], failed: Lost
    ) -> list[float]:
        """Return the coefficients that all replicates have come through, and note the others."""
        grid = []
        for coefficient in map(float, self.settings.coefficients):
            loss = cause([measured[coefficient] for _, measured in replicates], self.plan, failed)
            if loss is not None:
                self.refused[f"coefficient {coefficient:g} of {arm} ({family}) could not be chosen"] = loss
            elif replicates:
                grid.append(coefficient)
        return grid

    def reporting(
        self, chosen: Chosen, selected: Mapping[tuple[str, str], Stage], failed: Lost = NOTHING
    ) -> Stage | None:
        """Plan what is reported, beside what was planned before; return the stage that makes the study's tables.

        `chosen` are the coefficients that came out of `selected`, the stages that chose them; a study of fronts reports
        all of them. What lacks something that has `failed` is left out (`gaps`); None where nothing is left.
        """
        if self.shape:
            return self._landscape(failed)
        measured = self._rows(chosen)
        cells = [
            Cell(about["family"], about["arm"], about["replicate"], cause(stages.values(), self.plan, failed))
            for _, stages, about in measured
        ]
        unchosen = {cell for cell in self._composed if self.chooses and cell not in chosen}
        found = gaps(cells, {SFT, SOUP, self.settings.baseline, *self.settings.asks[0]}, unchosen)
        if self._nothing_left(found):
            return None
        told: list[dict[str, Any]] = []
        inputs: dict[str, Stage] = {
            f"select:{family}:{arm}": stage
            for (family, arm), stage in selected.items()
            if family not in found.families and arm not in found.arms
        }
        for (row, stages, about), cell in zip(measured, cells, strict=True):
            if found.leave_out(cell):
                continue
            key = f"m{len(told)}"
            inputs.update({f"{key}:{role}": stage for role, stage in stages.items()})
            if row.model.kind == "align" and self.chooses:
                needs = {row.model.fingerprint: row.model} | self._needs(row.model)
                inputs.update({f"cost_{identity[:16]}": stage for identity, stage in needs.items()})
                about |= {"training": row.model.fingerprint[:16], "needs": [identity[:16] for identity in needs]}
                about["besides"] = [identity[:16] for identity in self._besides(row.model)]
            told.append({"key": key, "fingerprint": row.model.fingerprint, **about})
        return self._tables(told, inputs, found, failed)

    def _nothing_left(self, found: Gaps) -> bool:
        settings = self.settings
        return set(settings.families) <= found.families or set(range(settings.replicates)) <= found.replicates

    def _rows(self, chosen: Chosen) -> list[tuple[Row, Mapping[str, Stage], dict[str, Any]]]:
        """Plan every model that is reported; return it with what measures it, and what it is."""
        found: list[tuple[Row, Mapping[str, Stage], dict[str, Any]]] = []
        for family in self.settings.families:
            for replicate in range(self.settings.replicates):
                about = {"family": family, "replicate": replicate}
                # Without any arm's own soup: the soup that is shown, and to which KL is measured, is the same for all.
                base = self._builder(self._plain[family], replicate)
                shared = {SFT: (base.sft[0], "ingredient"), SOUP: (base.soup, "soup")}
                for name, (model, role) in shared.items():
                    row = Row(_named(name, family, replicate), role, model)
                    stages = self._measured(base.evaluation(), row)
                    found.append((row, stages, about | {"arm": name, "coefficient": None}))
                for arm in self.settings.arms:
                    if self.chooses and (family, arm) not in chosen:
                        continue
                    builder = self._builder(self._composed[family, arm], replicate)
                    coefficients = [chosen[family, arm]] if self.chooses else self.settings.coefficients
                    for coefficient in map(float, coefficients):
                        row = self._row(builder, family, arm, replicate, coefficient)
                        # As for all arms, whatever an arm changes: the same anchors, the same unit of the reward.
                        stages = self._measured(base.evaluation(), row)
                        found.append((row, stages, about | {"arm": arm, "coefficient": coefficient}))
        return found

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

    def _landscape(self, failed: Lost) -> Stage | None:
        """Plan the points of the soups of each replicate's SFT models; no policy is trained."""
        planned: list[tuple[Stage, dict[str, Any]]] = []
        for family in self.settings.families:
            for replicate in range(self.settings.replicates):
                builder = self._builder(self._plain[family], replicate)
                points = builder.points()
                for weights in landscape.grids(builder.config.landscape)[self.shape]:
                    models = [(f"SFT{index}", builder.ingredient(index)) for index in range(1, len(weights) + 1)]
                    about = {"family": family, "replicate": replicate, "weights": list(weights)}
                    planned.append((points.add(models, weights), about))
        cells = [
            Cell(about["family"], "soups", about["replicate"], cause([stage], self.plan, failed))
            for stage, about in planned
        ]
        found = gaps(cells, {"soups"})
        if self._nothing_left(found):
            return None
        kept = [each for each, cell in zip(planned, cells, strict=True) if not found.leave_out(cell)]
        told = [{"key": f"p{index}", **about} for index, (_, about) in enumerate(kept)]
        inputs = {f"p{index}": stage for index, (stage, _) in enumerate(kept)}
        return self._tables(told, inputs, found, failed)

    def _needs(self, stage: Stage) -> dict[str, Stage]:
        """Return what a stage is made from, by fingerprint; without base and data, which all models share."""
        found: dict[str, Stage] = {}
        for identity in stage.inputs.values():
            source = self.plan[identity]
            if source.kind not in ("base", "data"):
                found |= {identity: source} | self._needs(source)
        return found

    def _besides(self, stage: Stage) -> list[str]:
        """Return the SFT models and soups, other than SFT1, from which a policy's start and references are made."""
        models = [
            self.plan[identity]
            for role, identity in stage.inputs.items()
            if role == "init" or role.startswith("reference_")
        ]
        made = {model.fingerprint: model for model in models}
        for model in models:
            made |= self._needs(model)
        return [
            identity
            for identity, source in made.items()
            if source.kind == "soup" or (source.kind == "sft" and source.config["index"] != 1)
        ]

    def _measured(self, evaluation: Evaluation, row: Row) -> dict[str, Stage]:
        """Return what is measured of a model: everything, or what a front needs, which is less than half the work."""
        return evaluation.add(row) if self.chooses else {"anchors": evaluation.anchored(row)}

    def _validated(self, builder: Builder, row: Row) -> Stage:
        return builder.evaluation().validated(row, VALIDATION, self.settings.selection_prompts)

    def _tables(self, told: list[dict[str, Any]], inputs: Mapping[str, Stage], found: Gaps, failed: Lost) -> Stage:
        settings, judge = self.settings, self.config.judge
        arms = [arm for arm in settings.arms if arm not in found.arms]
        identity = {
            "study": settings.name,
            "kind": settings.kind.value,
            "title": settings.title,
            "question": settings.question,
            "baseline": settings.baseline,
            "asks": [list(pair) for pair in settings.asks if not found.arms & set(pair)],
            "about": settings.about.value,
            "paper": found.known(plain(settings.paper)),
            "arms": {arm: settings.roles.get(arm, "other") for arm in arms},
            "families": [family for family in settings.families if family not in found.families],
            "suites": self.suites if self.chooses else [],
            "axis": settings.axis,
            "places": {arm: float(place) for arm, place in settings.places.items() if arm in arms},
            "models": told,
            "selection_prompts": settings.selection_prompts
            if self.chooses and len(settings.coefficients) > 1
            else None,
            "judge": judges.shown(judge),
            "tie_margin": float(judge.tie_margin),
            "temperature": self._temperature(),
            "rounds": judge.rounds,
            "level": float(judge.level),
            "seed": self.config.seed,
            "scale": self.config.scale.name,
            "regime": self.config.regime.name,
            "missing": found.missing,
            "refused": {says: loss.stage for says, loss in self.refused.items()},
            "warnings": found.sentences(),
        }
        # Why something failed is said in other words the next time: it is told, and no part of the identity.
        reasons = {loss.stage: loss.reason for loss in failed.values()}
        place = {"made_with": self._made_with(), "reasons": reasons}
        return self.plan.add("study", f"study {settings.name}", identity, inputs, place)

    def _temperature(self) -> float:
        """Return the temperature of the replies that are reported."""
        own = self.config.suite.temperature
        return float(self.config.generation.temperature if own is None or not self.chooses else own)

    def _made_with(self) -> dict[str, Any]:
        """Return what the study's cells were made with, for its readers: settings of a family, overrides of an arm."""
        families = {family: _shown(plain(config)) for family, config in self._plain.items()}
        return {"families": families, "arms": {arm: list(texts) for arm, texts in self.settings.arms.items()}}


def _check_arm(at: str, overrides: Sequence[str]) -> None:
    """Raise ConfigurationError for an arm that would not be comparable with the others."""
    for text in overrides:
        key = text.lstrip("+~").split("=")[0]
        own = key in OF_AN_ARM or key.startswith(("policy.", "soup."))
        fix = f"an arm sets policy.* (but for the coefficient), soup, {', '.join(OF_AN_ARM[1:])}"
        require(own and key != "policy.kl_coef", at, text, fix)


def _named(name: str, family: str, replicate: int) -> str:
    return f"{name} {family}/{replicate}"


def _shown(config: dict[str, Any]) -> dict[str, Any]:
    """Return what the readers of a study are told of a family's configuration."""
    shown = {key: config[key] for key in OF_THE_CELLS if key in config}
    shown["policy"] = {key: value for key, value in config["policy"].items() if key not in OF_AN_ARM_ALONE}
    return shown
