"""How the figures of studies draw roles alike: fine-tuned models, soups, PPO, SALSA, controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.colors import to_hex, to_rgb

from salsa.report.figures import COLOURS, DASHES, GREY, INK, MARKERS, PAPER

# PPO and SALSA look as in the figures of one experiment; what no RL made is grey or ink, as there.
_ROLES: Mapping[str, tuple[str, str, int]] = {
    "sft": (GREY, "h", 3),
    "soup": (INK, "*", 2),
    "ppo": (COLOURS[0], MARKERS[0], 0),
    "salsa": (COLOURS[1], MARKERS[1], 1),
}
"""Colour, marker and number of the dashes of the first series of a role."""
_SPARE = ("^", "D", "v", "P", "X", "p")
_FIRST_FREE = 2
"""Of the colours: those before belong to PPO and SALSA."""
_SHADES = ((PAPER, 0.0), (PAPER, 0.4), (INK, 0.3))
"""What the colour of further series of a role is mixed with, and how much of it."""
_LARGER = {"*": 1.7, "P": 1.15, "X": 1.1, "h": 1.15, "p": 1.2, "D": 0.9}
"""Size of markers that look smaller or larger than others."""


@dataclass(frozen=True)
class Look:
    """How a series is drawn."""

    colour: str
    marker: str
    dash: Any

    def point(self, size: float) -> dict[str, Any]:
        """Return the look of its points; a thin edge of paper keeps them apart where they meet."""
        size = size * _LARGER.get(self.marker, 1.0)
        edge = {"markeredgecolor": PAPER, "markeredgewidth": 0.7}
        return {"color": self.colour, "marker": self.marker, "markersize": size, **edge}


def of(study: Mapping[str, Any], figure: Mapping[str, Any]) -> dict[tuple[str, str], Look]:
    """Return the look of each series of a figure, by role and label.

    Controls and others keep their colour over all figures of a study; several series of another role are shades of its
    colour with markers and dashes of their own.
    """
    free = _unique(entry for each in study["figures"] for entry in each["series"] if entry["role"] not in _ROLES)
    seen: dict[str, int] = {}
    looks = {}
    for role, label in _unique(figure["series"]):
        if role in _ROLES:
            number = seen.get(role, 0)
            seen[role] = number + 1
            looks[role, label] = _shade(role, number)
        else:
            looks[role, label] = _free(free.index((role, label)))
    return looks


def _unique(series: Any) -> list[tuple[str, str]]:
    return list(dict.fromkeys((entry["role"], entry["label"]) for entry in series))


def _shade(role: str, number: int) -> Look:
    colour, marker, dash = _ROLES[role]
    if number == 0:
        return Look(colour, marker, DASHES[dash])
    other, share = _SHADES[number % len(_SHADES)]
    mixed = [(1 - share) * own + share * add for own, add in zip(to_rgb(colour), to_rgb(other), strict=True)]
    look = to_hex(mixed) if share else colour
    return Look(look, _SPARE[(number - 1) % len(_SPARE)], DASHES[(dash + number) % len(DASHES)])


def _free(number: int) -> Look:
    colours: Sequence[str] = COLOURS[_FIRST_FREE:]
    turn = number // len(colours)
    marker = _SPARE[(number + turn) % len(_SPARE)]
    return Look(colours[number % len(colours)], marker, DASHES[(_FIRST_FREE + number + turn) % len(DASHES)])


def swatch(role: str) -> str:
    """Return the colour by which a table marks the rows of a role."""
    return _ROLES[role][0] if role in _ROLES else COLOURS[_FIRST_FREE]


def shown(text: str) -> str:
    """Return text that matplotlib shows as itself: no formula, and no label that a legend would leave out."""
    plain = text.replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain
