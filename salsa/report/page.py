"""One self-contained HTML page of an experiment: tables, figures, samples and settings, in light and dark."""

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from salsa.report import figures, judging, samples, tables
from salsa.report.grid import scrollable, to_html
from salsa.report.markup import shorten

# The colours of the figures (see figures.py) and what stands for them on the page, whatever its scheme.
_SCHEME = {"#24292f": "currentColor", "#d5dae0": "var(--rule)", "#ffffff": "var(--paper)"}
_SUMMARY_CHARACTERS = 120
_TITLES = {
    "scores": "Judge score of every model on every suite",
    "curves": "Curves over the policies' training, on fixed prompts",
    "calibration": "Calibration of the reward model on held-out pairs",
}

_CSS = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #24292f; --soft: #57606a; --rule: #d5dae0;
  --better: #116329; --worse: #a40e26; --own: #0550ae; --note: #fff8c5; --best: #ddf4e4; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6e9ec; --soft: #9aa4ae; --rule: #363d45;
  --better: #56d364; --worse: #ff8a80; --own: #79b8ff; --note: #3b3413; --best: #1d3526; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.sub, .caption, .interval, .blank { color: var(--soft); } .caption { font-size: .87rem; max-width: 60rem; }
.note { background: var(--note); padding: .6rem .9rem; border-radius: .4rem; }
.warning { border: 1px solid var(--worse); padding: .6rem .9rem; border-radius: .4rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; font-weight: normal; }
th.left, td.left, th[scope=row] { text-align: left; } thead th { color: var(--soft); }
thead th.group { text-align: center; border-bottom: 1px solid var(--rule); }
tbody { border-top: 1px solid var(--ink); } tr.section > * { border-bottom: 1px solid var(--rule); }
.interval { font-size: .8em; } .best { font-weight: bold; background: var(--best); }
.best .interval { font-weight: normal; } .better { color: var(--better); } .worse { color: var(--worse); }
.own { color: var(--own); font-weight: bold; } .missing { color: var(--soft); font-style: italic; }
figure { margin: 0; } figure svg { max-width: 100%; height: auto; }
details { border-top: 1px solid var(--rule); padding: .4rem 0; } summary { cursor: pointer; }
.question { white-space: pre-line; border-left: 3px solid var(--rule); padding-left: .8rem; max-width: 60rem; }
.replies td:last-child { min-width: 24rem; overflow-wrap: anywhere; }
.replies td, .replies th, .settings td { white-space: pre-line; vertical-align: top; text-align: left; }
.settings td { font-family: ui-monospace, monospace; font-size: .85rem; overflow-wrap: anywhere; }
"""


def html(experiment: Mapping[str, Any], drawings: Mapping[str, str] | None = None) -> str:
    """Return the page; `drawings` are SVG documents by name, placed inline in their order, by default all figures.

    The page loads nothing and runs no script, and every text of the experiment is escaped.
    """
    if drawings is None:
        drawings = {name: figures.to_svg(figure) for name, figure in figures.figures(experiment).items()}
    title = escape(experiment["title"])
    about = f"{experiment['model']}; experiment {experiment['fingerprint'][:12]}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_CSS}</style></head><body>",
        f'<h1>{title}</h1><p class="sub">{escape(about)}</p>',
        f'<p class="note">{_prose(experiment["note"])}</p>',
    ]
    parts += [f'<p class="warning">Warning: {escape(warning)}.</p>' for warning in experiment["warnings"]]
    main, *others = tables.grids(experiment)
    parts.append(to_html(main))
    for name, svg in drawings.items():
        heading = escape(_TITLES.get(name, name))
        parts.append(f"<section><h2>{heading}</h2><figure>{inline(svg, name, heading)}</figure></section>")
    parts += [to_html(grid) for grid in others]
    for name, line in judging.lines(experiment):
        parts.append(f"<section><h2>Judging</h2><p>{escape(name)}: {escape(line)}</p></section>")
    parts.append("<section><h2>Reward model</h2>")
    parts += [f"<p>{name}: {escape(line)}</p>" for name, line in tables.reward_model_lines(experiment)]
    parts.append("</section>")
    parts.append(_samples(experiment))
    parts.append(f'<div class="settings">{to_html(tables.settings_grid(experiment))}</div>')
    parts.append(f'<div class="settings">{to_html(tables.fingerprints_grid(experiment))}</div>')
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _prose(note: str) -> str:
    """Return a sentence of ours as HTML: commands stand in backticks, as in Markdown."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(note))


def inline(svg: str, name: str, label: str) -> str:
    """Return an SVG document as an element of a page: in the page's colours, named for screen readers.

    Every identifier gets the figure's name in front, because those of two figures would clash on one page.
    """
    start = svg.find("<svg")
    if start < 0:
        raise ValueError(f"figure {name!r} is not an SVG document: there is no <svg> in it")
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[start:], flags=re.DOTALL)
    prefix = re.sub(r"[^A-Za-z0-9-]", "-", name)
    element = re.sub(r'(\bid="|href="#|url\(#)', lambda found: f"{found[1]}{prefix}-", element)
    for colour, variable in _SCHEME.items():
        element = element.replace(colour, variable)
    return element.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _samples(experiment: Mapping[str, Any]) -> str:
    count = len(experiment["samples"])
    intro = f"{count} prompts, evenly spaced in each suite and chosen without looking at the replies."
    parts = [f'<section class="replies"><h2>Sample replies</h2><p class="caption">{intro}</p>']
    for number, sample in enumerate(experiment["samples"]):
        # The first few are open, so that a reader sees at once what improved.
        opened = " open" if number < 3 else ""
        question = samples.asked(sample)
        line = shorten(" ".join(question.split()), _SUMMARY_CHARACTERS)
        parts.append(f"<details{opened}><summary>{escape(sample['suite'])}: {escape(line)}</summary>")
        if line != question:
            parts.append(f'<p class="question">{escape(question)}</p>')
        parts.append(f"{scrollable(line)}<table><tbody>")
        for row in experiment["rows"]:
            none = samples.no_score(experiment, sample["suite"], row)
            shown = samples.shown(sample["replies"].get(row["name"]), none)
            text, score = (escape(part) for part in shown)
            parts.append(f'<tr><th scope="row">{escape(row["name"])}</th><td>{score}</td><td>{text}</td></tr>')
        parts.append("</tbody></table></div></details>")
    return "".join([*parts, "</section>"])
