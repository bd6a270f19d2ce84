"""The jobs of a multirun, composed all at once: a thousand of them in seconds. Imports no torch.

Hydra takes about 0.1 s to compose one job. Jobs that choose the same groups differ in values only, so the groups are
composed once for each choice, and the values are set in copies by Hydra's own code.
"""

import copy
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import omegaconf.base
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from pipelines.configuration import Config, ConfigurationError
from pipelines.experiment import Experiment, build
from pipelines.preflight import MissingError
from pipelines.schema import parse
from pipelines.template import Template, fits
from salsa.data.rows import DataError
from salsa.hub import HubError
from salsa.models.source import UnavailableModelError
from salsa.store.digests import Digests

Shape = tuple[tuple[str, ...], tuple[str, ...]]
"""The choice of groups that several jobs share, and the keys that all of them set."""
Reader = Callable[[Sequence[Override]], Config]

WORKER = "worker"
"""The key that tells identical workers on one experiment apart: swept, but no property of a result."""
UNPLANNABLE = (
    ConfigurationError,
    DataError,
    HubError,
    UnavailableModelError,
    MissingError,
    OSError,
    HydraException,
    OmegaConfBaseException,
)
"""What keeps a job from being planned; anything else is a defect."""


@dataclass(frozen=True)
class Job:
    """One job of a multirun: what was asked for, and either its experiment or the reason why there is none.

    A job that is a study has neither.
    """

    number: int
    overrides: tuple[str, ...]
    keys: Mapping[str, Any] = field(default_factory=dict)
    """Value of each key that differs between the jobs."""
    config: Config | None = None
    experiment: Experiment | None = None
    problem: str = ""


class Composer:
    """Composes jobs as `ConfigLoader.load_sweep_config` does, but the groups only once for each choice of them."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        assert isinstance(loader, ConfigLoaderImpl)
        self._loader = copy.copy(loader)
        self._loader.repository = _FilesOnce(loader.repository)
        self._master = master
        self._parser = OverridesParser.create(config_loader=loader)
        self._composed: dict[tuple[str, ...], tuple[bytes, DictConfig | None]] = {}
        """For each choice of groups the configuration, and that of Hydra, to which `${hydra:...}` refers.

        The first is pickled, in memory only: reading it again is five times as fast as copying it.
        """
        self._asked: dict[Shape, Sequence[Override]] = {}
        self._readers: dict[Shape, Reader] = {}
        self.parsed = cache(self._parsed)
        self._parse_text = cache(omegaconf.base.parse)

    def compose(self, overrides: Sequence[str]) -> Config:
        """Return the checked configuration of one job; raises one of `UNPLANNABLE`."""
        parsed = [self.parsed(text) for text in overrides]
        groups = tuple(text for text, each in zip(overrides, parsed, strict=True) if self._is_composed(each))
        with _hydra_restored(), self._parsed_once():
            if groups not in self._composed:
                self._composed[groups] = self._of_groups(groups)
            HydraConfig.instance().cfg = self._composed[groups][1]
            return self._config(groups, [each for each in parsed if not self._is_composed(each)])

    def _config(self, groups: tuple[str, ...], values: Sequence[Override]) -> Config:
        """Return the configuration with some values set; by a template from the second job that sets the same keys."""
        shape = groups, tuple(each.key_or_group for each in values)
        first = self._asked.setdefault(shape, values)
        if first == values or not (fits(first) and fits(values)):
            return self._whole(groups, values)
        try:
            if shape not in self._readers:
                self._readers[shape] = self._reader(groups, first, values)
            return self._readers[shape](values)
        except UNPLANNABLE:
            return self._whole(groups, values)  # says what is wrong as it does of a single job

    def _reader(self, groups: tuple[str, ...], first: Sequence[Override], values: Sequence[Override]) -> Reader:
        """Return what reads jobs that differ in values: a template of one, if it gives what reading another gives."""
        template = Template(self._with_values(groups, first), first)
        whole = partial(self._whole, groups)
        return template.config if template.config(values) == whole(values) else whole

    def _whole(self, groups: tuple[str, ...], values: Sequence[Override]) -> Config:
        return parse(self._with_values(groups, values))

    def _with_values(self, groups: tuple[str, ...], values: Sequence[Override]) -> DictConfig:
        cfg: DictConfig = pickle.loads(self._composed[groups][0])
        ConfigLoaderImpl._apply_overrides_to_config(list(values), cfg)
        return cfg

    def keys(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return what each override sets, as a plain value by its key; what tells workers apart is left out."""
        values = {}
        for override in map(self.parsed, overrides):
            value = override.value()
            plain = value if isinstance(value, str | int | float | bool) or value is None else str(value)
            values[override.get_key_element().lstrip("+")] = plain
        values.pop(WORKER, None)
        return values

    def _of_groups(self, groups: Sequence[str]) -> tuple[bytes, DictConfig | None]:
        cfg = self._loader.load_sweep_config(self._master, list(groups))
        HydraConfig.instance().set_config(cfg)
        with read_write(cfg), open_dict(cfg):
            del cfg["hydra"]
        return pickle.dumps(cfg), HydraConfig.instance().cfg

    def _is_composed(self, override: Override) -> bool:
        key = override.key_or_group
        return override.is_hydra_override() or override.package is not None or self._loader.repository.group_exists(key)

    def _parsed(self, text: str) -> Override:
        return self._parser.parse_override(text)

    @contextmanager
    def _parsed_once(self) -> Iterator[None]:
        """Let OmegaConf parse each interpolation once: all jobs hold the same few, and parsing is most of the work.

        A parse tree depends on its text alone and nobody changes it.
        """
        parse_text = omegaconf.base.parse
        omegaconf.base.parse = self._parse_text
        try:
            yield
        finally:
            omegaconf.base.parse = parse_text


class _FilesOnce(ConfigRepository):
    """Gives the files and schemas of the configuration as Hydra's own repository does, but reads each only once."""

    def __init__(self, repository: ConfigRepository) -> None:
        self.sources = repository.sources
        self._read: dict[str, bytes] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "_FilesOnce":
        # Hydra copies a repository before it changes where that looks; what was read is shared until then.
        return copy.copy(self)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Look at other places, and forget what was read at the old ones."""
        super().initialize_sources(config_search_path)
        self._read = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return a file, or a schema, as if it were read again: Hydra changes what it is given."""
        if config_path not in self._read:
            self._read[config_path] = pickle.dumps(super().load_config(config_path))
        found: ConfigResult | None = pickle.loads(self._read[config_path])
        return found


@contextmanager
def _hydra_restored() -> Iterator[None]:
    """Leave Hydra's own configuration as it was: each job is composed with its own."""
    before = HydraConfig.instance().cfg
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def plan_jobs(
    batches: Sequence[Sequence[Sequence[str]]],
    config: DictConfig,
    loader: ConfigLoader,
    ready: Callable[[Config], None],
) -> list[Job]:
    """Return every job with its experiment planned, or with the reason why it cannot run.

    `ready` raises one of `UNPLANNABLE` where something that a job needs is not at hand.
    """
    composer = Composer(loader, config)
    asked = [tuple(overrides) for batch in batches for overrides in batch]
    varied = _varied(asked)
    # Within one command a file stays what it is: it is read once for all jobs.
    digests = cache(lambda outputs: cache(Digests(Path(outputs).resolve() / "digests.json")))
    jobs = []
    for number, overrides in enumerate(asked):
        keys: dict[str, Any] = {}
        try:
            keys = composer.keys([text for text in overrides if text in varied])
            job_config = composer.compose(overrides)
            ready(job_config)
            if job_config.study.name:  # it plans itself, twice
                jobs.append(Job(number, overrides, keys, job_config))
                continue
            experiment = build(job_config, {}, digests(job_config.outputs.dir))
            jobs.append(Job(number, overrides, keys, job_config, experiment))
        except UNPLANNABLE as error:
            jobs.append(Job(number, overrides, keys, problem=_reason(error)))
    return jobs


def _varied(asked: Sequence[Sequence[str]]) -> set[str]:
    """Return the overrides that not all jobs have."""
    if not asked:
        return set()
    each = [set(overrides) for overrides in asked]
    return set[str]().union(*each) - each[0].intersection(*each)


def _reason(error: BaseException) -> str:
    """Return what an error says; Hydra's wrapping of it names the override only, its cause the reason."""
    texts = [str(error)]
    while (cause := error.__cause__) is not None:
        texts.append(next(iter(str(cause).splitlines()), ""))
        error = cause
    return ": ".join(text for text in texts if text)
