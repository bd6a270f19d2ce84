"""The section of landscapes: what each line and plane shows, with its figure."""

from collections.abc import Iterator
from pathlib import Path

from salsa.report.compendium import elements, pictures
from salsa.report.compendium.contents import Result

_FIGURES = ("line", "plane")
_DRAWN = 6
"""Landscapes, the newest ones, of which a figure is placed on the page; others are linked."""


def title(landscape: Result) -> str:
    """Return what a landscape is called."""
    told = landscape.told
    about = f": {told['title']}" if told.get("title") else ""
    return f"Landscape between {', '.join(told['models'])}{about}"


def section(landscape: Result, page: Path, number: int) -> str:
    """Return one landscape: its verdicts, one figure, and where its tables are; the first one is unfolded."""
    told = landscape.told
    inside = [
        f'<p class="sub">{elements.counted(told["replies"], "reply", "replies")} a point · '
        f"{elements.short(landscape.fingerprint)}</p>"
    ]
    inside += [f'<ul class="prose">{"".join(_verdicts(landscape))}</ul>']
    drawn = [name for name in _FIGURES if told.get(name)]
    placed = drawn[-1:] if number < _DRAWN else []
    inside += [figure for name in placed for figure in _figure(landscape, name)]
    files = [("its own page", "landscape.md"), *((f"{name}.csv", f"{name}.csv") for name in drawn)]
    files += [(f"figure: {name}", f"{name}.svg") for name in drawn if name not in placed]
    links = [elements.link(landscape.folder / file, page, text) for text, file in files]
    inside.append(f'<p class="links">{" · ".join(links)}</p>')
    summary = f"<h3>{elements.line(title(landscape))}</h3> <small>{elements.day(landscape.published)}</small>"
    return f'<article id="{landscape.anchor}">{elements.fold(summary, "".join(inside), number == 0)}</article>'


def _verdicts(landscape: Result) -> Iterator[str]:
    for kind in _FIGURES:
        for key, verdict in (landscape.told.get(kind) or {"verdicts": {}})["verdicts"].items():
            label = landscape.told["quantities"][key]["label"]
            yield f"<li>{elements.sentence(f'{kind.capitalize()}, {label}: {verdict}')}</li>"


def _figure(landscape: Result, name: str) -> list[str]:
    try:
        return [pictures.inlined(landscape.folder, name, landscape.anchor, f"{title(landscape)}, {name}")]
    except (OSError, ValueError) as error:
        return [f'<p class="warning">The figure is not shown: {elements.line(error)}</p>']
