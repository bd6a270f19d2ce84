"""Stage `data`: reads files or hub sets once, checks every row, and leaves canonical JSON lines in disjoint splits."""

from pathlib import Path
from typing import Any

from pipelines.work import Work
from salsa.data.hub import ingest_hub, ultra_sets
from salsa.data.ingestion import FileSet, IngestSettings, ingest


def run(work: Work) -> tuple[str, dict[str, Any]]:
    """Leave what `FolderSource` reads, and `report.json` with what was read, used and left out."""
    config, execution = work.config, work.stage.execution
    shares = config["shares"]
    settings = IngestSettings(shares["train"], shares["judge"], shares["validation"], shares["max_malformed"])
    suites = {name: Path(path) for name, path in execution["suites"].items()}
    if "sets" in config:
        report = ingest_hub(
            ultra_sets(*config["sets"]["demonstrations"], *config["sets"]["preferences"]),
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
    rows = sum(table["rows"] for table in report["tables"])
    malformed = sum(sum(table["malformed"].values()) for table in report["tables"])
    counts = report["counts"]
    says = f"{rows:,} rows; " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    if malformed:
        examples = [place for table in report["tables"] for places in table["examples"].values() for place in places]
        says += f"; {malformed} malformed rows left out, such as {'; '.join(examples[:3])}"
    return says
