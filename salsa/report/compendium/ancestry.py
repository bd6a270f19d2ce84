"""The section of lineage: what each result was made from, drawn by kinds and as trees, and all policies."""

from collections.abc import Iterator, Sequence

from salsa.report.compendium import elements, graph
from salsa.report.compendium.contents import Result, shown_cpu
from salsa.report.compendium.replies import models
from salsa.store.artifact import Artifact
from salsa.store.lineage import Lineage
from salsa.store.quantities import shown_duration
from salsa.store.selection import title

_MOST_POLICIES = 1000
POLICY = "align"
INTRO = (
    "From what was made first to what was made of it, with CPU time. Each fingerprint is that of an artifact: "
    "<code>salsa store show FINGERPRINT</code> tells its settings, metrics and files."
)


def section(lineage: Lineage, results: Sequence[Result], titles: dict[str, str]) -> Iterator[str]:
    """Yield the lineage of each of these results whose artifact is in the store, then the table of policies."""
    yield f'<p class="caption">{INTRO}</p>'
    for result in results:
        if result.fingerprint in lineage.artifacts:
            yield _of(result, titles[result.fingerprint], lineage)
    yield from _policies(lineage)


def _of(result: Result, name: str, lineage: Lineage) -> str:
    needed = lineage.needed([result.fingerprint])
    artifacts = [lineage.artifacts[identity] for identity in needed]
    inside = [
        f'<div class="wide" tabindex="0" role="region" aria-label="graph">{graph.drawn(lineage, needed, name)}</div>'
    ]
    about, roots = models(result)
    roots = [(label, identity) for label, identity in roots if identity in lineage.artifacts]
    if roots:
        caption = f"Its models{f' of {about}' if about else ''}; what was shown above is not unfolded again."
        inside.append(f'<p class="caption">{elements.line(caption)}</p>{_trees(roots, lineage)}')
    summary = (
        f"{elements.line(name)} {elements.short(result.fingerprint)} "
        f"<small>{elements.counted(len(artifacts), 'stage')}, {elements.line(shown_cpu(artifacts))}</small>"
    )
    return f'<div id="lineage-{result.anchor}">{elements.fold(summary, "".join(inside))}</div>'


def _trees(roots: Sequence[tuple[str, str]], lineage: Lineage) -> str:
    seen: set[str] = set()
    items = "".join(_tree(role, identity, lineage, seen) for role, identity in roots)
    return f'<ul class="tree">{items}</ul>'


def _tree(role: str, identity: str, lineage: Lineage, seen: set[str]) -> str:
    """Return an artifact with what it was made from; the depth of a lineage is that of the plan, so recursion ends."""
    label = f'<span class="sub">{elements.line(role)}:</span> '
    artifact = lineage.artifacts.get(identity)
    if artifact is None:
        return f"<li>{label}<code>{elements.line(identity[:16])}</code> is no longer in the store</li>"
    text = f"{label}{_named(artifact)}"
    inputs = lineage.inputs(identity)
    if identity in seen or not inputs:
        return f"<li>{text}{' <small>(above)</small>' if identity in seen and inputs else ''}</li>"
    seen.add(identity)
    inside = "".join(_tree(other, each, lineage, seen) for other, each in inputs.items())
    return f"<li>{elements.fold(text, f'<ul>{inside}</ul>')}</li>"


def _named(artifact: Artifact) -> str:
    return (
        f"{elements.line(title(artifact))} {elements.short(artifact.fingerprint)} <small>{_seconds(artifact)}</small>"
    )


def _seconds(artifact: Artifact) -> str:
    try:
        seconds = artifact.manifest.get("cpu_seconds")
    except (OSError, ValueError):
        return "unknown"
    return f"{shown_duration(seconds)} of CPU" if isinstance(seconds, int | float) else "unknown"


def _policies(lineage: Lineage) -> Iterator[str]:
    policies = [artifact for artifact in lineage.artifacts.values() if artifact.kind == POLICY]
    readable = [artifact for artifact in policies if artifact.fingerprint not in lineage.unreadable]
    shown = sorted(readable, key=lambda each: (-each.published, each.fingerprint))[:_MOST_POLICIES]
    if not shown:
        return
    rows = (
        [
            elements.line(str(policy.manifest.get("name", POLICY)).removeprefix(f"{POLICY} ")),
            elements.short(policy.fingerprint),
            ", ".join(
                f"{elements.line(role)} {elements.short(each)}"
                for role, each in lineage.inputs(policy.fingerprint).items()
            ),
            _seconds(policy),
        ]
        for policy in shown
    )
    caption = "Every policy and what it was made from, the newest first."
    caption += f" {len(policies) - len(shown):,} older ones are left out." if len(policies) > len(shown) else ""
    table = elements.listing(caption, ("policy", "fingerprint", "made from", "CPU time"), rows, "policies")
    yield elements.fold(f"All policies <small>{len(policies):,}</small>", table)
