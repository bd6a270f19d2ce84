"""The figures of a landscape: along the line, on the plane, over the layers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from salsa.report.figures import to_png, to_svg
from salsa.report.landscape import layers, line, plane


def figures(landscape: Mapping[str, Any]) -> dict[str, Figure]:
    """Return every figure that the landscape has data for, by file name without suffix."""
    drawn = {"line": line.draw(landscape), "plane": plane.draw(landscape), "layers": layers.draw(landscape)}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def write_all(landscape: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write every figure as PNG and SVG into an existing folder; equal landscapes give equal files."""
    paths = []
    for name, figure in figures(landscape).items():
        for suffix, data in (("png", to_png(figure)), ("svg", to_svg(figure).encode())):
            path = folder / f"{name}.{suffix}"
            path.write_bytes(data)
            paths.append(path)
    return paths
