"""The style sheet of a study's page, in light and dark."""

from collections.abc import Mapping
from types import MappingProxyType

from salsa.report.study.looks import swatch
from salsa.report.study.schema import ROLES

_CSS = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #24292f; --soft: #57606a; --rule: #d5dae0;
  --wash: #f4f6f8; --better: #116329; --worse: #a40e26; --own: #b34700; --note: #fff8c5; --decided: #0b6e4f;
  --open: #8a6100; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6e9ec; --soft: #9aa4ae; --rule: #363d45;
  --wash: #1c2229; --better: #56d364; --worse: #ff8a80; --own: #ff9d5c; --note: #3b3413; --decided: #4fd1a5;
  --open: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.6rem 1.5rem 4rem; max-width: 75rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1rem; font-weight: 600; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
.headline { font-size: 1.75rem; line-height: 1.25; font-weight: 650; margin: .5rem 0 .6rem; padding-left: 1rem;
  border-left: .35rem solid var(--open); text-wrap: balance; }
.headline.second { font-size: 1.3rem; }
.headline.decided { border-color: var(--decided); }
.question { font-size: 1.05rem; margin: 0 0 .2rem; } .sub, .caption, .interval, .blank, caption { color: var(--soft); }
.sub { margin: .2rem 0; } .caption, figcaption, caption { font-size: .87rem; }
.caption, figcaption, .prose, .question { max-width: 56rem; } figcaption { color: var(--soft); }
.warning { border: 1px solid var(--worse); border-left-width: .35rem; padding: .45rem .9rem; margin: .8rem 0;
  border-radius: .4rem; list-style: none; max-width: 56rem; }
.arms h2 { font-size: .95rem; margin: .9rem 0 .2rem; } .arms dl { margin: 0 0 .8rem; display: grid; font-size: .92rem;
  grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); gap: .1rem 1.4rem; }
.arms dt { display: inline; font-weight: 600; } .arms dt::after { content: ": "; } .arms dd { display: inline;
  margin: 0; }
.claims { border: 1px solid var(--rule); border-radius: .4rem; background: var(--wash); padding: .7rem 1rem .9rem;
  margin: 1.6rem 0 0; max-width: 56rem; } .claims h2 { margin: 0; } .claims .caption { margin: .2rem 0 .5rem; }
.claims dl { margin: 0; display: grid; grid-template-columns: 1fr 1fr; gap: .35rem 1.4rem; }
.claims dt::before { content: "Paper: "; color: var(--soft); } .claims dd::before { content: "Here: ";
  color: var(--soft); } .claims dd { margin: 0; }
.holds { font-weight: 600; white-space: nowrap; } .holds.yes { color: var(--better); }
.holds.no { color: var(--worse); } .holds.open { color: var(--open); }
.prints { font-size: .82rem; columns: 10rem; } .prints code { display: block; }
.verdicts { list-style: none; padding: 0; margin: .6rem 0 0; }
.verdicts li { padding: .12rem 0 .12rem 1.4rem; position: relative; }
.verdicts li::before { content: "○"; position: absolute; left: .1rem; color: var(--open); }
.verdicts li.decided::before { content: "●"; color: var(--decided); }
.wide { overflow-x: auto; } .wide:focus-visible { outline: 2px solid var(--own); }
table { border-collapse: collapse; overflow-wrap: break-word; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 .5rem; max-width: min(56rem, calc(100vw - 3rem)); }
th, td { padding: .22rem .6rem; text-align: right; white-space: nowrap; font-weight: normal; }
th.left, td.left, th[scope=row], th.family { text-align: left; }
thead th { color: var(--soft); vertical-align: bottom; }
th[scope=row] { position: sticky; left: 0; background: var(--paper); white-space: normal; max-width: 16rem;
  min-width: min(10rem, 28vw); }
th:has(> .mark) { padding-left: 1.9rem; text-indent: -1.3rem; }
thead th.group { text-align: center; white-space: normal; box-shadow: inset 0 -1px var(--rule); }
tbody { border-top: 1px solid var(--ink); } tbody + tbody { border-color: var(--rule); }
tbody:last-child { border-bottom: 1px solid var(--ink); }
tr.section > * { border-bottom: 1px dashed var(--rule); } th.family { font-weight: 600; padding-top: .5rem; }
.interval { font-size: .8em; } .best { font-weight: 650; } .best .interval { font-weight: normal; }
.better { color: var(--better); } .worse { color: var(--worse); } .arrow { font-size: .6em; padding-right: .35em;
  vertical-align: .15em; } .own { font-weight: 650; } .missing { color: var(--soft); font-style: italic; }
.paper { background: var(--wash); white-space: normal; } td.paper { max-width: 9rem; }
thead th { white-space: normal; max-width: 14rem; } thead th.group { max-width: none; } td.paper { min-width: 5rem; }
td.paper.missing { font-size: .82em; line-height: 1.15; }
.mark { display: inline-block; width: .85rem; height: .85rem; margin-right: .45rem; vertical-align: -.08rem; }
.whole { white-space: nowrap; }
figure { margin: 0; } figure svg { display: block; max-width: 100%; min-width: calc(.7 * var(--own, 48rem));
  height: auto;
  margin-bottom: .3rem; }
details { border-top: 1px solid var(--rule); padding: .45rem 0; } summary { cursor: pointer; }
details + section, section + details { margin-top: 1.5rem; }
.list td, .list th { white-space: normal; text-align: left; vertical-align: top; position: static; }
.list td { font-family: ui-monospace, monospace; font-size: .82rem; overflow-wrap: anywhere; }
code { font-family: ui-monospace, monospace; }
@media (max-width: 40rem) { .claims dl { display: block; } .claims dd { margin: 0 0 .6rem 1rem; }
  thead th.group { text-align: left; } body { padding: 1rem .8rem 3rem; } .headline { font-size: 1.35rem; }
  .headline.second { font-size: 1.12rem; } }
@media print { .wide { overflow: visible; } details { display: none; } }
"""


def sheet(scheme: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the style sheet; `scheme` says which colours of figures the page exchanges for its own."""
    marks = (f".mark.{role} {{ color: {scheme.get(swatch(role), swatch(role))}; }}" for role in ROLES)
    return _CSS + "\n".join(marks) + "\n"
