"""The making of a soup that is planned: written aside, with a record of how it was made, and put into its place."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from salsa.models.source import ADAPTER_CONFIGURATION, base_of, has_tokenizer, resolve
from salsa.soup import recipes
from salsa.soup.average import SHARD_BYTES, Coefficients, average, combine
from salsa.soup.checkpoint import opened_files
from salsa.soup.draft import Draft
from salsa.soup.geometry import TaskVectors, layers
from salsa.soup.greedy import Selection, greedy
from salsa.soup.ingredients import rebased
from salsa.soup.plan import Plan, Size
from salsa.soup.request import RECIPES
from salsa.soup.trials import TrialError, Trials

RECORD = "soup.json"
"""The file in a soup's folder that says how it was made."""

Advance = Callable[[int, int], None]
"""Told how much is done, and how much there is."""


class Watch(Protocol):
    """Who is told of the work while it goes on."""

    def bytes(self, what: str) -> AbstractContextManager[Advance | None]:
        """Give what is told the bytes done and the bytes in all."""

    def rows(self, what: str) -> AbstractContextManager[Advance | None]:
        """Give what is told the rows done and the rows in all."""

    def say(self, text: str) -> None:
        """Say a line."""


@dataclass(frozen=True)
class Made:
    """What came of a plan: what the greedy recipe chose, the geometry by layer, the size of the soup."""

    selection: Selection | None = None
    geometry: dict[str, TaskVectors] | None = None
    size: Size | None = None


def make(plan: Plan, watch: Watch) -> Made:
    """Make the soup, or measure the models only where the plan has no place for one; leave nothing half-written.

    Raises:
        SoupError: if a tensor is not finite, or integers differ.
        DraftError: if something is in the way, or another process makes the same folder.
        TrialError, UnavailableModelError: if a greedy soup cannot be measured.
    """
    if plan.request.out is None:
        with tempfile.TemporaryDirectory() as scratch:
            return Made(geometry=_Merger(plan, Path(scratch), watch).geometry())
    draft = Draft(plan.request.out, replace=plan.request.force)
    with draft.making() as folder:
        merger = _Merger(plan, draft.scratch, watch)
        geometry = merger.geometry() if plan.request.geometry else None
        made = Made(merger.write(folder), geometry, _size(folder))
        text = json.dumps(record(plan, made.selection), indent=2, ensure_ascii=False)
        (folder / RECORD).write_text(text + "\n", encoding="utf-8")
    return made


def record(plan: Plan, selection: Selection | None) -> dict[str, Any]:
    """Return how a soup is made, with names as they were given; a weight is None where each tensor has its own."""
    request = plan.request
    known = plan.weights if selection is None else selection.weights
    weights: Sequence[float | None] = known or [None] * len(plan.models)
    models = [{"name": model.name, "weight": weight} for model, weight in zip(plan.models, weights, strict=False)]
    found: dict[str, Any] = {"recipe": request.recipe, **request.settings(), "models": models}
    base = plan.models[0].base or plan.base
    if base is not None:
        found["base"] = {"name": base.name, "weight": weights[-1] if len(weights) > len(models) else None}
    if request.validation is not None:
        found["validation"] = str(request.validation)
    if selection is not None:
        found["greedy"] = asdict(selection)
    return found | {"salsa": _version()}


class _Merger:
    """Carries one plan out; `scratch` is a folder for what is not kept."""

    def __init__(self, plan: Plan, scratch: Path, watch: Watch) -> None:
        self.plan = plan
        self.request = plan.request
        self.scratch = scratch
        self.watch = watch
        self.folders = [rebased(model, scratch) if model.base else model.folder for model in plan.models]
        self.base = None if plan.base is None else plan.base.folder

    def write(self, out: Path) -> Selection | None:
        """Write the soup to `out`; return what was chosen where the recipe chooses."""
        weights, base_weighs = self.plan.weights, "base" in RECIPES[self.request.recipe]
        if self.request.recipe == "greedy":
            selection = self._choose()
            self._average(selection.weights, out)
            return selection
        if weights is None:
            self._combine(self._arc(), out)
        elif base_weighs:
            self._combine(lambda _: weights, out)
        else:
            self._average(weights, out)
        return None

    def geometry(self) -> dict[str, TaskVectors]:
        """Measure the models' task vectors by layer; without a base, from the first model: only distances count."""
        with self.watch.bytes("measuring"):
            if self.plan.adapters:
                return layers(None, self.folders)
            return layers(self.base or self.folders[0], self.folders)

    def _arc(self) -> Coefficients:
        """Return the coefficients of the models and, last, their base, tensor by tensor."""
        request = self.request
        assert request.share is not None
        with self.watch.bytes("measuring angles") as advance:
            arc = recipes.slerp(self.base, self.folders, request.share, progress=advance)
        return arc if request.eta is None else recipes.liti(arc, request.eta)

    def _choose(self) -> Selection:
        """Try soups on the held-out rows, each written aside and removed again."""
        assert self.plan.heldout is not None
        names = [model.name for model in self.plan.models]
        full = first = self.folders[0]
        if self.plan.adapters:
            full = resolve(base_of(first))
        trials = Trials(self.plan.heldout, first if has_tokenizer(first) else full, full)
        number = 0

        def score(weights: Sequence[float]) -> float:
            nonlocal number
            number += 1
            trial = " + ".join(name for name, weight in zip(names, weights, strict=True) if weight)
            with self._tried(weights) as folder, self.watch.rows(f"trial {number}: {trial}") as advance:
                loss = trials.loss(folder, advance)
            if number == 1 and trials.too_long:
                self.watch.say(f"{trials.too_long} held-out rows are longer than the models' context and are left out")
            if not math.isfinite(loss):
                raise TrialError(f"the loss of {trial} on the held-out rows is {loss}; leave that model out")
            self.watch.say(f"trial {number}: {trial}: {loss:.4f} nats a token")
            return loss

        return greedy(names, score, "lower")

    @contextmanager
    def _tried(self, weights: Sequence[float]) -> Iterator[Path]:
        if sum(map(bool, weights)) == 1:
            yield self.folders[weights.index(1.0)]
            return
        with tempfile.TemporaryDirectory(dir=self.scratch) as trial:
            self._average(weights, Path(trial), trial=True)
            yield Path(trial)

    def _average(self, weights: Sequence[float], out: Path, *, trial: bool = False) -> None:
        if self.plan.adapters:
            self._write_adapter(lambda _: weights, out, trial)
            return
        with self.watch.bytes("mixing" if trial else "writing") as advance:
            average(
                self.folders,
                weights,
                out,
                shard_bytes=self.request.shard_bytes or SHARD_BYTES,
                any_sum=self.request.any_sum,
                progress=advance,
                threads=self.request.threads,
            )

    def _combine(self, coefficients: Coefficients, out: Path) -> None:
        if self.plan.adapters:
            self._write_adapter(lambda name: coefficients(name)[:-1], out, False)
            return
        assert self.base is not None
        with self.watch.bytes("writing") as advance:
            combine(
                [*self.folders, self.base],
                coefficients,
                out,
                shard_bytes=self.request.shard_bytes or SHARD_BYTES,
                progress=advance,
                threads=self.request.threads,
            )

    def _write_adapter(self, coefficients: Coefficients, out: Path, trial: bool) -> None:
        """Write an adapter that names its base as seen from its place; a trial stays where it is."""
        from salsa.soup.adapters import blend_adapters  # takes torch

        base = self.plan.models[0].base
        assert base is not None
        if trial or self.request.out is None:
            blend_adapters(self.folders, coefficients, out, str(base_of(self.folders[0])))
        elif base.hub:
            blend_adapters(self.folders, coefficients, out, base.name)
            _name_revision(out, base.revision)
        else:
            assert base.folder is not None
            way = os.path.relpath(base.folder, os.path.realpath(self.request.out))
            blend_adapters(self.folders, coefficients, out, way)


def _size(folder: Path) -> Size:
    files = sorted(folder.glob("*.safetensors"))
    with opened_files(folder, files) as weights:
        return Size(len(weights.entries), sum(file.stat().st_size for file in files), len(files))


def _name_revision(adapter: Path, revision: str | None) -> None:
    """Say which revision of the hub's model an adapter is over."""
    path = adapter / ADAPTER_CONFIGURATION
    content = json.loads(path.read_text(encoding="utf-8")) | {"revision": revision}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _version() -> str | None:
    try:
        return metadata.version("salsa")
    except metadata.PackageNotFoundError:
        return None
