"""What a result was made from as a small drawing: a box a kind of stage, with how many there are and what they took."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from salsa.report.compendium.contents import cpu_seconds
from salsa.store.artifact import Artifact
from salsa.store.lineage import Lineage
from salsa.store.quantities import shown_duration

_WIDTH, _HEIGHT = 104, 50
_ACROSS, _DOWN, _EDGE = 30, 14, 8


@dataclass(frozen=True)
class Box:
    """A kind of stage: its place, how many artifacts there are, and their CPU seconds."""

    kind: str
    column: int
    row: int
    count: int
    seconds: float

    @property
    def left(self) -> float:
        """Where it begins from the left."""
        return _EDGE + self.column * (_WIDTH + _ACROSS)

    @property
    def top(self) -> float:
        """Where it begins from above."""
        return _EDGE + self.row * (_HEIGHT + _DOWN)


def drawn(lineage: Lineage, identities: set[str], title: str) -> str:
    """Return the kinds of these artifacts as SVG, from what was first on the left to what was made of it."""
    boxes = _boxes(lineage, identities)
    if not boxes:
        return ""
    width = max(box.left for box in boxes.values()) + _WIDTH + _EDGE
    height = max(box.top for box in boxes.values()) + _HEIGHT + _EDGE
    label = escape(f"{title}: {'; '.join(f'{box.count} {box.kind}' for box in boxes.values())}")
    parts = [f'<svg class="graph" viewBox="0 0 {width:g} {height:g}" style="min-width:{0.72 * width:.0f}px" ']
    parts.append(f'role="img" aria-label="{label}">')
    parts += [_edge(boxes[first], boxes[second]) for first, second in _edges(lineage, identities)]
    parts += [_box(box) for box in boxes.values()]
    return "".join([*parts, "</svg>"])


def _boxes(lineage: Lineage, identities: set[str]) -> dict[str, Box]:
    """Return a box for each kind; its column is the longest way to any of its artifacts from one without inputs."""
    depths = _depths(lineage, identities)
    kinds: dict[str, list[Artifact]] = {}
    for identity in sorted(identities, key=lambda each: (depths[each], lineage.artifacts[each].kind)):
        kinds.setdefault(lineage.artifacts[identity].kind, []).append(lineage.artifacts[identity])
    deepest = {kind: max(depths[each.fingerprint] for each in own) for kind, own in kinds.items()}
    columns = {depth: place for place, depth in enumerate(sorted(set(deepest.values())))}
    taken: dict[int, int] = {}
    boxes = {}
    for kind in sorted(kinds, key=lambda each: (deepest[each], each)):
        column = columns[deepest[kind]]
        row = taken.get(column, 0)
        taken[column] = row + 1
        boxes[kind] = Box(kind, column, row, len(kinds[kind]), cpu_seconds(kinds[kind]))
    return boxes


def _depths(lineage: Lineage, identities: set[str]) -> dict[str, int]:
    """Return for each artifact the length of the longest way to one without inputs; without recursion."""
    depths: dict[str, int] = {}
    left = [(identity, False) for identity in sorted(identities)]
    entered: set[str] = set()
    while left:
        identity, expanded = left.pop()
        inputs = [each for each in lineage.inputs(identity).values() if each in identities]
        if expanded:
            depths[identity] = 1 + max((depths.get(each, 0) for each in inputs), default=-1)
        elif identity not in entered:
            entered.add(identity)
            left.append((identity, True))
            left += [(each, False) for each in inputs]
    return depths


def _edges(lineage: Lineage, identities: set[str]) -> Sequence[tuple[str, str]]:
    kinds: Mapping[str, str] = {identity: lineage.artifacts[identity].kind for identity in identities}
    pairs = (
        (kinds[each], kinds[identity])
        for identity in sorted(identities)
        for each in lineage.inputs(identity).values()
        if each in identities
    )
    return [pair for pair in dict.fromkeys(pairs) if pair[0] != pair[1]]


def _edge(first: Box, second: Box) -> str:
    start, end = (first.left + _WIDTH, first.top + _HEIGHT / 2), (second.left, second.top + _HEIGHT / 2)
    bend = max(16.0, (end[0] - start[0]) / 2)
    curve = f"{start[0] + bend:g} {start[1]:g} {end[0] - bend:g} {end[1]:g} {end[0]:g} {end[1]:g}"
    return f'<path class="edge" d="M{start[0]:g} {start[1]:g}C{curve}"/>'


def _box(box: Box) -> str:
    return "".join(_texts(box))


def _texts(box: Box) -> Iterator[str]:
    middle = box.left + _WIDTH / 2
    yield f'<rect x="{box.left:g}" y="{box.top:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
    yield f'<text class="kind" x="{middle:g}" y="{box.top + 20:g}">{escape(box.kind)}</text>'
    told = f"{box.count:,} × · {shown_duration(box.seconds)}" if box.count > 1 else shown_duration(box.seconds)
    yield f'<text x="{middle:g}" y="{box.top + 38:g}">{escape(told)}</text>'
