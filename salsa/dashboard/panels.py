"""What a dashboard is made of: panels with keys, titles and units, in sections. Plain data; knows nothing of W&B."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Axis:
    """A logged key that something is drawn over, and what stands under the axis."""

    key: str
    label: str


@dataclass(frozen=True)
class Lines:
    """Values over the course of a run: a line a key and group of runs."""

    title: str
    keys: tuple[str, ...]
    unit: str
    over: Axis


@dataclass(frozen=True)
class Family:
    """Values over the course of a run whose keys begin alike and end with the name of a model."""

    title: str
    prefix: str
    unit: str
    over: Axis


@dataclass(frozen=True)
class Bars:
    """The last values of runs, side by side."""

    title: str
    keys: tuple[str, ...]
    unit: str


@dataclass(frozen=True)
class Cloud:
    """The last values of runs, one against another: a point a run."""

    title: str
    x: Axis
    y: Axis


@dataclass(frozen=True)
class Table:
    """A table that runs have logged."""

    title: str
    key: str


@dataclass(frozen=True)
class Images:
    """Pictures that runs have logged."""

    title: str
    keys: tuple[str, ...]


Panel = Lines | Family | Bars | Cloud | Table | Images


@dataclass(frozen=True)
class Section:
    """Panels that answer one question; `shown` tells whether it is open at first."""

    title: str
    panels: tuple[Panel, ...]
    shown: bool = False


@dataclass(frozen=True)
class Layout:
    """A workspace: its sections, what runs are grouped by, and the values that stand beside each run."""

    title: str
    sections: tuple[Section, ...]
    grouping: tuple[str, ...]
    columns: tuple[str, ...]


def keys(panel: Panel) -> tuple[str, ...]:
    """Return the logged keys that a panel names, those of its axes included; none of a family's, which has a prefix."""
    if isinstance(panel, Lines):
        return (*panel.keys, panel.over.key)
    if isinstance(panel, Family):
        return (panel.over.key,)
    if isinstance(panel, Cloud):
        return (panel.x.key, panel.y.key)
    if isinstance(panel, Table):
        return (panel.key,)
    return panel.keys


def every_panel(layout: Layout) -> Iterator[Panel]:
    """Yield the panels of all sections, in their order."""
    for section in layout.sections:
        yield from section.panels


def specification(layout: Layout) -> dict[str, Any]:
    """Return a layout as JSON has it: each panel with its kind."""
    sections = [
        {
            "title": section.title,
            "shown": section.shown,
            "panels": [{"kind": type(panel).__name__.lower()} | asdict(panel) for panel in section.panels],
        }
        for section in layout.sections
    ]
    return {
        "schema": 1,
        "title": layout.title,
        "grouping": list(layout.grouping),
        "columns": list(layout.columns),
        "sections": sections,
    }
