"""What each action of `salsa store` does; each returns the exit code. rich is imported only where it prints."""

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from salsa.store.artifact import Artifact, Store
from salsa.store.command import FAILED, emit
from salsa.store.export import chosen_files, copy_manifest, copy_model, is_adapter, merge_model
from salsa.store.garbage import Garbage, check_removable, collect, kept_results, warnings
from salsa.store.inspection import Finding, inspected, set_aside
from salsa.store.leftovers import Leftover, sweep
from salsa.store.lineage import Lineage
from salsa.store.listing import SORTS, rows, size, total
from salsa.store.quantities import shown_size
from salsa.store.removal import planned, removed
from salsa.store.selection import described, select


def show_list(args: argparse.Namespace, store: Store) -> int:
    """List artifacts."""
    before = None if args.older_than is None else time.time() - args.older_than
    chosen = sorted(
        rows(Lineage(store.artifacts(), store.broken()), args.kind, args.model, before), key=SORTS[args.sort]
    )
    if args.json:
        amount, seconds = total(chosen)
        emit({"artifacts": [asdict(row) for row in chosen], "bytes": amount, "seconds": seconds})
        return 0
    from salsa.store import display

    display.show_rows(chosen, display.console())
    return 0


def show_one(args: argparse.Namespace, store: Store) -> int:
    """Show one artifact: its manifest and its lineage."""
    lineage = Lineage(store.artifacts())
    artifact = select(lineage.artifacts.values(), args.prefix)
    manifest = artifact.manifest
    if args.json:
        above = lineage.needed([artifact.fingerprint])
        emit(
            {
                "path": str(artifact.path),
                "published": artifact.published,
                "manifest": manifest,
                "lineage": {identity: _node(lineage, identity) for identity in sorted(above)},
                "dependents": lineage.dependents(artifact.fingerprint),
            }
        )
        return 0
    from salsa.store import display

    out = display.console()
    display.show_manifest(artifact, out)
    out.print("[bold]made from[/]")
    out.print(display.lineage_tree(lineage, artifact.fingerprint))
    display.show_dependents(lineage, artifact.fingerprint, out)
    return 0


def verify(args: argparse.Namespace, store: Store) -> int:
    """Verify artifacts, and set aside those that are damaged if asked to."""
    from salsa.store import display

    known = [*store.artifacts(), *store.headless()]
    chosen = _selected(known, args.prefixes) if args.prefixes else known
    sizes = _sizes(chosen)
    with display.progress("verifying", sum(sizes.values())) as advance:
        findings = list(inspected(store, chosen, advance))
    moved = {finding.artifact: _move(store, finding) for finding in findings if finding.damaged and args.set_aside}
    damaged = [finding for finding in findings if finding.damaged]
    unjudged = [finding for finding in findings if finding.unjudged is not None]
    if args.json:
        told = [finding for finding in findings if finding.damaged or finding.unjudged or finding.extra]
        emit(
            {
                "verified": len(findings),
                "bytes": sum(sizes.values()),
                "findings": [_finding(finding, moved.get(finding.artifact)) for finding in told],
            }
        )
    else:
        out = display.console()
        for finding in findings:
            display.show_finding(finding, moved.get(finding.artifact), out)
        whole = len(findings) - len(damaged) - len(unjudged)
        out.print(
            f"{display.counted(whole, 'artifact')} whole, {len(damaged)} damaged, {shown_size(sum(sizes.values()))}"
        )
        if damaged and not args.set_aside:
            out.print("`salsa store verify --set-aside` moves them away; what needs them has them computed again")
    return FAILED if damaged or unjudged else 0


def remove(args: argparse.Namespace, store: Store) -> int:
    """Remove artifacts, or show what would be removed."""
    lineage = Lineage(store.artifacts())
    chosen = [artifact.fingerprint for artifact in _selected(lineage.artifacts.values(), args.prefixes)]
    plan = planned(store, lineage, chosen, args.with_dependents)
    sizes = _sizes(plan)
    if args.json:
        gone = list(removed(store, plan)) if args.yes else plan
        emit({"dry_run": not args.yes, "removed": _nodes(lineage, gone, sizes), "bytes": _sum(gone, sizes)})
        return 0
    from salsa.store import display

    out = display.console()
    display.show_removal(plan, sizes, out)
    gone = _remove_visibly(store, plan) if args.yes else plan
    _say_freed(out.print, args.yes, display.counted(len(gone), "artifact"), _sum(gone, sizes))
    return 0


def collect_garbage(args: argparse.Namespace, store: Store) -> int:
    """Remove what no kept result needs, or show what would be removed."""
    lineage = Lineage(store.artifacts(), store.broken())
    named = [artifact.fingerprint for artifact in _selected(lineage.artifacts.values(), args.keep)]
    after = None if args.keep_newer_than is None else time.time() - args.keep_newer_than
    garbage = collect(store, lineage, kept_results(store, lineage, named, after), args.unfinished_older_than)
    sizes = _sizes(garbage.removed)
    if args.yes:
        check_removable(garbage)
    if args.json:
        leftovers = [_leftover(leftover) for leftover in garbage.leftovers]
        if args.yes:
            _remove_garbage(store, garbage, args.unfinished_older_than)
        emit(_garbage(lineage, garbage, sizes, leftovers) | {"dry_run": not args.yes})
        return 0
    from salsa.store import display

    out = display.console()
    display.show_garbage(garbage, sizes, out)
    freed = _sum(garbage.removed, sizes) + sum(leftover.bytes for leftover in garbage.leftovers)
    if args.yes:
        _remove_garbage(store, garbage, args.unfinished_older_than)
    what = (
        f"{display.counted(len(garbage.removed), 'artifact')} and {display.counted(len(garbage.leftovers), 'leftover')}"
    )
    _say_freed(out.print, args.yes, what, freed)
    return 0


def export(args: argparse.Namespace, store: Store) -> int:
    """Copy a model out of the store; of an adapter, the full model that it makes of its base."""
    from salsa.store import display

    known = list(store.artifacts())
    artifact = select(known, args.prefix)
    folder = args.folder.absolute()
    files: list[str]
    if is_adapter(artifact):
        files = merge_model(artifact, known, folder)
        amount = sum((folder / name).stat().st_size for name in files)
    else:
        entries = chosen_files(artifact, known)
        files, amount = list(entries), sum(entry["bytes"] for entry in entries.values())
        with display.progress("copying", amount) as advance:
            copy_model(artifact, entries, folder, advance)
    if args.with_manifest:
        copy_manifest(artifact, folder)
    if args.json:
        emit({"fingerprint": artifact.fingerprint, "folder": str(folder), "files": files, "bytes": amount})
        return 0
    display.console().print(
        f"{described(artifact)}: {display.counted(len(files), 'file')}, {shown_size(amount)} in {folder}", markup=False
    )
    return 0


def _selected(known: Iterable[Artifact], prefixes: Iterable[str]) -> list[Artifact]:
    """Return the artifacts that are meant, each once."""
    listed = list(known)
    return list(dict.fromkeys(select(listed, prefix) for prefix in prefixes))


def _sizes(artifacts: Iterable[Artifact]) -> dict[str, int]:
    """Return the bytes of artifacts by fingerprint; those whose manifests are unreadable or gone are left out."""
    sizes = {}
    for artifact in artifacts:
        try:
            sizes[artifact.fingerprint] = size(artifact)
        except (OSError, ValueError):
            continue
    return sizes


def _sum(artifacts: Iterable[Artifact], sizes: dict[str, int]) -> int:
    return sum(sizes.get(artifact.fingerprint, 0) for artifact in artifacts)


def _node(lineage: Lineage, identity: str) -> dict[str, Any]:
    artifact = lineage.artifacts[identity]
    name = None if identity in lineage.unreadable else artifact.manifest.get("name")
    return {"kind": artifact.kind, "name": name, "inputs": dict(lineage.inputs(identity))}


def _nodes(lineage: Lineage, artifacts: Iterable[Artifact], sizes: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {"fingerprint": artifact.fingerprint, "bytes": sizes.get(artifact.fingerprint)}
        | {key: value for key, value in _node(lineage, artifact.fingerprint).items() if key != "inputs"}
        for artifact in artifacts
    ]


def _finding(finding: Finding, place: str | None) -> dict[str, Any]:
    return {
        "kind": finding.artifact.kind,
        "fingerprint": finding.artifact.fingerprint,
        "damaged": list(finding.damaged),
        "extra": list(finding.extra),
        "unknown": finding.unjudged,
        "set_aside": place,
    }


def _move(store: Store, finding: Finding) -> str | None:
    """Set a damaged artifact aside and return what became of it, in words."""
    try:
        place: Path | None = set_aside(store, finding.artifact, finding.damaged)
    except BlockingIOError as error:
        return f"not moved: {error}"
    return "not moved: another process has mended it or moved it" if place is None else str(place)


def _leftover(leftover: Leftover) -> dict[str, Any]:
    return {"path": str(leftover.path), "what": leftover.what, "bytes": leftover.bytes}


def _garbage(
    lineage: Lineage, garbage: Garbage, sizes: dict[str, int], leftovers: list[dict[str, Any]]
) -> dict[str, Any]:
    freed = _sum(garbage.removed, sizes) + sum(leftover["bytes"] for leftover in leftovers)
    return {
        "results": dict(garbage.roots),
        "kept": sorted(garbage.kept),
        "removed": _nodes(lineage, garbage.removed, sizes),
        "leftovers": leftovers,
        "bytes": freed,
        "notes": warnings(garbage),
    }


def _remove_garbage(store: Store, garbage: Garbage, idle_seconds: float | None) -> None:
    sweep(store, idle_seconds)  # first: checkpoints of what is removed would look like those of unfinished stages
    _remove_visibly(store, garbage.removed)


def _remove_visibly(store: Store, artifacts: list[Artifact]) -> list[Artifact]:
    """Remove artifacts behind a bar: weights of hundreds of gigabytes take their time."""
    from salsa.store import display

    with display.progress("removing", sum(_sizes(artifacts).values())) as advance:
        gone = []
        for artifact in removed(store, artifacts):
            gone.append(artifact)
            advance(_sizes([artifact]).get(artifact.fingerprint, 0))
        return gone


def _say_freed(say: Callable[[str], None], done: bool, what: str, amount: int) -> None:
    say(
        f"removed {what}, {shown_size(amount)}" if done else f"would remove {what}, {shown_size(amount)}; --yes does it"
    )
