"""Stage `data`: reads files or hub sets once, checks every row, and leaves canonical JSON lines in disjoint splits."""

from pathlib import Path
from typing import Any

from pipelines.work import Work
from salsa.data.hub import ingest_hub
from salsa.data.ingestion import FileSet, IngestSettings, ingest
from salsa.data.sets import ultra_sets


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave what `FolderSource` reads, and `report.json` with what was read, used and left out."""
    config, execution = work.config, work.stage.execution
    shares = config["shares"]
    settings = IngestSettings(shares["train"], shares["judge"], shares["validation"], shares["max_malformed"])
    suites = {name: Path(path) for name, path in execution["suites"].items()}
    if "sets" in config:
        report = ingest_hub(
            ultra_sets(*execution["sets"]["demonstrations"], *execution["sets"]["preferences"]),
            work.folder,
            settings,
            work.progress,
            suites,
        )
    else:
        files = FileSet(
            demonstrations=tuple(map(Path, execution["demonstrations"])),
            preferences=tuple(map(Path, execution["preferences"])),
            prompts=suites,
            corpus=tuple(map(Path, execution["corpus"])),
        )
        report = ingest(files, work.folder, settings, work.progress)
    return _says(report), report


def _says(report: dict[str, Any]) -> str:
    """Return what was read, what was wrong with it (with the place of the first row of each kind), and what it gave."""
    counts, suites = report["counts"], report["suites"]
    parts = [_rows(report)]
    if counts["pairs_train"]:
        parts.append(
            f"pairs: {counts['pairs_train']:,} for the reward model, {counts['pairs_judge']:,} for the judge, "
            f"{counts['pairs_heldout']:,} held out"
        )
    parts.append(f"{counts['demonstrations']:,} demonstrations, {counts['corpus']:,} documents")
    parts.append("suites: " + ", ".join(f"{name} {count:,}" for name, count in suites.items()))
    parts += [f"left out: {count:,} {reason}" for reason, count in report["left_out"].items()]
    return "; ".join(parts)


def _rows(report: dict[str, Any]) -> str:
    tables = report["tables"]
    rows = sum(table["rows"] for table in tables)
    malformed = sum(table["rows"] - table["used"] for table in tables)
    if not malformed:
        return f"{rows:,} rows, none malformed"
    kinds = [
        f"{entry['count']} x {reason}, first {entry['first'][0].rsplit('/', 1)[-1]}"
        for table in tables
        for reason, entry in table["malformed"].items()
    ]
    return f"{rows:,} rows, {malformed:,} malformed and left out ({'; '.join(kinds)})"
