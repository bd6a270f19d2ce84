"""Small line charts drawn as inline SVG in the page's own colours: one quantity over steps, a line a model."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from salsa.report.study import minus

WIDTH, HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 34
_TICKS = 5
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MARK_EVERY = 8
"""Points of a line at most that have a marker."""


@dataclass(frozen=True)
class Point:
    """A value at a step, with the ends of its interval where it has one."""

    step: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """The points of one model, with its colour as CSS has it and its dashes (none for a whole line)."""

    label: str
    colour: str
    dashes: str
    points: Sequence[Point]

    @property
    def look(self) -> str:
        """Its attributes in a drawing."""
        dashes = f' stroke-dasharray="{escape(self.dashes)}"' if self.dashes else ""
        return f' style="--line:{escape(self.colour)}"{dashes}'


def key(line: Line) -> str:
    """Return a short piece of a line for a legend."""
    return (
        f'<svg class="key" viewBox="0 0 30 12" aria-hidden="true"{line.look}><line x1="1" y1="6" x2="29" y2="6"/></svg>'
    )


def chart(title: str, unit: str, lines: Sequence[Line]) -> str:
    """Return a chart as SVG with its title above and its unit beside the axis; nothing without points.

    Bands are the intervals of the points.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    ends = [end for point in points for end in (point.value, point.low, point.high) if end is not None]
    across = _Axis(_ticks(min(p.step for p in points), max(p.step for p in points)), _LEFT, WIDTH - _RIGHT)
    up = _Axis(_ticks(min(ends), max(ends)), HEIGHT - _BOTTOM, _TOP)
    label = escape(f"{title}, {unit}, over training steps: {'; '.join(map(_in_words, lines))}")
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
    parts += _frame(across, up)
    parts += [_band(line, across, up) for line in lines]
    parts += [_trace(line, across, up) for line in lines]
    heading = f"{escape(title)} <small>{escape(unit)}</small>"
    return f"<figure><figcaption>{heading}</figcaption>{''.join(parts)}</svg></figure>"


def _in_words(line: Line) -> str:
    first, last = line.points[0], line.points[-1]
    return minus.typeset(f"{line.label} from {first.value:.3g} at {first.step:g} to {last.value:.3g} at {last.step:g}")


@dataclass(frozen=True)
class _Axis:
    ticks: Sequence[float]
    start: float
    end: float

    def at(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers, evenly spaced, from below the lowest value to above the highest."""
    size = max(abs(low), abs(high))
    # Values that differ by rounding alone are drawn as equal ones; steps that small could not be told apart.
    span = high - low if high - low > 1e-9 * max(size, 1e-9) else max(size, 1e-9)
    raw = span / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in _STEPS if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _frame(across: _Axis, up: _Axis) -> Iterator[str]:
    for tick in up.ticks:
        y = up.at(tick)
        yield f'<path class="rule" d="M{across.start:g} {y:.1f}H{across.end:g}"/>'
        yield f'<text x="{across.start - 6:g}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
    for tick in across.ticks:
        yield f'<text x="{across.at(tick):.1f}" y="{up.start + 15:g}" text-anchor="middle">{_number(tick)}</text>'
    middle = (across.start + across.end) / 2
    yield f'<text x="{middle:g}" y="{HEIGHT - 4}" text-anchor="middle">step</text>'


def _number(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-12 else value:.6g}".replace("-", "−")


def _band(line: Line, across: _Axis, up: _Axis) -> str:
    ends = [(point.step, point.low, point.high) for point in line.points]
    known = [(step, low, high) for step, low, high in ends if low is not None and high is not None]
    if len(known) < 2:
        return ""
    over = [f"{across.at(step):.1f} {up.at(high):.1f}" for step, _, high in known]
    under = [f"{across.at(step):.1f} {up.at(low):.1f}" for step, low, _ in reversed(known)]
    return f'<path class="band"{line.look} d="M{"L".join([*over, *under])}Z"/>'


def _trace(line: Line, across: _Axis, up: _Axis) -> str:
    places = [(across.at(point.step), up.at(point.value)) for point in line.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    every = max(1, len(places) // _MARK_EVERY)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in places[::every])
    return f'<g{line.look}><path d="M{path}"/><g class="dots">{dots}</g></g>'
