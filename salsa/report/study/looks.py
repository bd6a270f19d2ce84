"""How the figures of studies draw roles alike: fine-tuned models, soups, PPO, SALSA, controls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.markers import MarkerStyle

from salsa.report.figures import COLOURS, DASHES, GREY, INK, MARKERS, PAPER

# PPO and SALSA look as in the figures of one experiment; what no RL made is grey or ink, as there.
_ROLES: Mapping[str, tuple[str, str, int]] = {
    "sft": (GREY, "h", 3),
    "soup": (INK, "*", 2),
    "ppo": (COLOURS[0], MARKERS[0], 0),
    "salsa": (COLOURS[1], MARKERS[1], 1),
    "control": (COLOURS[2], "^", 2),
}
"""Colour, marker and number of the dashes of the first series of a role."""
_SPARE = ("D", "v", "P", "X", "p", ">")
_CONTROLS = (COLOURS[2], COLOURS[3])
"""Of the controls, which stand beside each other in most figures: every other one has the second colour."""
_FREE = ("#2F9FC4", "#B08500", "#6F4FBF")
"""Colours of no role; each has a contrast of 3 to the page, be it white or dark."""
_FIRST_FREE = 3
"""Of the markers and dashes: those before belong to PPO, SALSA and the controls."""
_GLYPH = 5.0
"""Half the width of a mark's drawing."""
_SHADES = ((PAPER, 0.0), (PAPER, 0.4), (INK, 0.3))
"""What the colour of further series of a role is mixed with, and how much of it."""
_KEPT = ("control", "other")
"""Roles whose series look alike in all figures, though some figures lack one of them."""
_CLOSE = 79
_CODES = {1: "M", 2: "L", 3: "Q", 4: "C", _CLOSE: "Z"}
"""What SVG calls the segments of a path."""
_UP = (1, -1)
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

    Controls and others keep their look over all figures of a study; several series of one role are shades of its
    colour with markers and dashes of their own, others have colours of their own.
    """
    every = _unique(entry for each in study["figures"] for entry in each["series"] if entry["role"] in _KEPT)
    seen: dict[str, int] = {}
    looks = {}
    for role, label in _unique(figure["series"]):
        if role in _KEPT:
            number = [name for kind, name in every if kind == role].index(label)
        else:
            number = seen.get(role, 0)
            seen[role] = number + 1
        looks[role, label] = _shade(role, number) if role in _ROLES else _free(number)
    return looks


def of_all(study: Mapping[str, Any]) -> dict[tuple[str, str], Look]:
    """Return the look of each series of a study, as in the first figure that has it."""
    found: dict[tuple[str, str], Look] = {}
    for figure in study["figures"]:
        if figure["kind"] != "plane":
            found = of(study, figure) | found
    return found


def mark(role: str, look: Look | None) -> str:
    """Return the mark of a role or, better, of a series as a small SVG element, for the rows of tables."""
    look = look or _first(role)
    style = MarkerStyle(look.marker)
    path = style.get_path().transformed(style.get_transform())
    far = float(np.abs(np.asarray(path.vertices)).max())
    parts = []
    for corners, code in path.iter_segments(curves=True, simplify=False):
        places = " ".join(f"{_GLYPH * value / far * sign:.2f}" for value, sign in zip(corners, _UP * 3, strict=False))
        parts.append(f"{_CODES[int(code)]}{places if int(code) != _CLOSE else ''}")
    # A look of its own; else the page's sheet has the colour of the role, in light and dark.
    own = f' style="color: {look.colour}"' if look.colour != swatch(role) else ""
    drawn = f'<path fill="currentColor" d="{"".join(parts)}"/>'
    return f'<svg class="mark {role}" viewBox="-6 -6 12 12" aria-hidden="true"{own}>{drawn}</svg>'


def swatch(role: str) -> str:
    """Return the colour by which a table marks the rows of a role."""
    return _first(role).colour


def _first(role: str) -> Look:
    return _shade(role, 0) if role in _ROLES else Look(GREY, "o", "-")


def _unique(series: Any) -> list[tuple[str, str]]:
    return list(dict.fromkeys((entry["role"], entry["label"]) for entry in series))


def _shade(role: str, number: int) -> Look:
    colour, marker, dash = _ROLES[role]
    if number == 0:
        return Look(colour, marker, DASHES[dash])
    turn = number
    if role == "control":
        colour, turn = _CONTROLS[number % len(_CONTROLS)], number // len(_CONTROLS)
    other, share = _SHADES[turn % len(_SHADES)]
    mixed = [(1 - share) * own + share * add for own, add in zip(to_rgb(colour), to_rgb(other), strict=True)]
    look = to_hex(mixed) if share else colour
    return Look(look, _SPARE[(number - 1) % len(_SPARE)], DASHES[(dash + number) % len(DASHES)])


def _free(number: int) -> Look:
    turn = number // len(_FREE)
    # Not as the second control, which begins where these would.
    place = number + turn + _FIRST_FREE
    return Look(_FREE[number % len(_FREE)], _SPARE[place % len(_SPARE)], DASHES[(place + 1) % len(DASHES)])


def shown(text: str) -> str:
    """Return text that matplotlib shows as itself: no formula, and no label that a legend would leave out."""
    plain = text.replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain
