"""The style sheet of the page, in light and dark, for narrow windows and for paper."""

from salsa.report.figures import INK
from salsa.report.study import style

_CSS = """
html { scroll-behavior: smooth; } body { max-width: 78rem; }
main > section > h2 { font-size: 1.35rem; margin: 2.8rem 0 .8rem; padding-top: .6rem;
  border-top: 2px solid var(--ink); }
h1 { font-size: 1.6rem; } h3 { display: inline; font-size: 1.1rem; margin: 0; }
.skip { position: absolute; left: -99rem; } .skip:focus { left: .5rem; top: .5rem; background: var(--paper); }
a { color: var(--link); } a:focus-visible, summary:focus-visible { outline: 2px solid var(--own); }
:root { --link: #0550ae; } @media (prefers-color-scheme: dark) { :root { --link: #79b8ff; } }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: .8rem 0; }
.facts { display: flex; flex-wrap: wrap; gap: .6rem 2rem; margin: 1rem 0; } .facts div { min-width: 6rem; }
.facts dt { color: var(--soft); font-size: .85rem; } .facts dd { margin: 0; font-weight: 650; }
.headlines, .verdicts { list-style: none; padding: 0; } .headlines li { padding: .1rem 0 .1rem .9rem;
  border-left: .3rem solid var(--open); margin: .6rem 0; line-height: 1.35; }
.headlines li.decided { border-left-color: var(--decided); }
.headlines .sentence { font-weight: 600; } .headlines .main .sentence { font-size: 1.12rem; }
.verdicts li, .verdicts li.decided { padding: .12rem 0; } .verdicts li::before,
.verdicts li.decided::before { content: none; }
p.verdict { font-size: 1.25rem; font-weight: 600; line-height: 1.35; margin: .5rem 0; text-wrap: balance; }
.badge { font-size: .8rem; font-weight: 600; white-space: nowrap; border: 1px solid; border-radius: 1rem;
  padding: .05rem .55rem; vertical-align: .08em; }
.badge.decided { color: var(--decided); } .badge.undecided { color: var(--open); border-style: dashed; }
.variant { font-size: .85rem; font-weight: normal; background: var(--wash); border: 1px solid var(--rule);
  border-radius: .3rem; padding: .05rem .4rem; }
article { margin: 0 0 1.2rem; padding-top: .8rem; border-top: 1px solid var(--rule); scroll-margin-top: .5rem; }
article > details, .problems details { border-top: 0; } small { color: var(--soft); font-weight: normal; }
.links { font-size: .9rem; } figure svg * { stroke-linejoin: round; } .wide { margin: .4rem 0; }
.asked { white-space: pre-line; border-left: 3px solid var(--rule); padding-left: .8rem; max-width: 56rem; }
details details { margin-left: .8rem; } .list.replies th { white-space: nowrap; }
.list.plain td { font: inherit; overflow-wrap: break-word; min-width: 6.5rem; }
article th, article td { padding: .2rem .42rem; } .replies td { font: inherit; white-space: pre-line; }
.replies td:last-child { min-width: 12rem; }
.replies td:not(:last-child) { text-align: right; white-space: nowrap; }
.replies caption { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
.list.replies table { width: 100%; }
.replies td:last-child, .replies th:last-child { width: 75%; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: .8rem; }
.charts figcaption { font-weight: 600; color: inherit; } figure svg.chart { min-width: 0; width: 100%; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; } svg.key { width: 30px; height: 12px; }
.chart text, .graph text { font: 12.5px system-ui, sans-serif; fill: var(--soft); stroke: none; }
.chart .rule { stroke: var(--rule); fill: none; }
.key line, .chart g path { fill: none; stroke: var(--line); stroke-width: 2; }
.chart .dots { fill: var(--line); } .chart .band { fill: var(--line); opacity: .13; stroke: none; }
figure .wide > svg { min-width: 34rem; }
.graph { display: block; width: 100%; max-width: 70rem; height: auto; } .graph text { text-anchor: middle; }
.graph .kind { fill: var(--ink); font-weight: 600; font-size: 13px; } .graph rect { fill: var(--wash);
  stroke: var(--rule); } .graph .edge { fill: none; stroke: var(--soft); opacity: .55; stroke-width: 1.3; }
.tree, .tree ul { list-style: none; padding-left: 1.1rem; } .tree { padding-left: 0; } .tree details { border: 0;
  padding: 0; margin: 0; } .tree li { padding: .08rem 0; }
code { font-size: .85em; color: var(--soft); overflow-wrap: anywhere; }
@media (max-width: 40rem) { p.verdict { font-size: 1.08rem; } .headlines .main .sentence { font-size: 1rem; }
  th, td { padding: .2rem .35rem; } }
@media print { :root { color-scheme: light; --paper: #ffffff; --ink: #24292f; --soft: #57606a; --rule: #d5dae0;
    --wash: #f4f6f8; --link: #24292f; } body { max-width: none; font-size: 11px; } nav, .skip { display: none; }
  details { display: block; } details:not([open]) { display: none; } figure, tr, .headlines li { break-inside: avoid; }
  h2, h3 { break-after: avoid; } }
"""


def sheet() -> str:
    """Return the style sheet: that of a study's page, with what this page has more."""
    return f"{style.sheet({INK: 'currentColor'})}{_CSS}"
