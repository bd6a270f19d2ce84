"""Measures the fault matrix of judges: `python -m tests.judging --document docs/reliability.md` writes it there."""

import argparse
import tempfile
from pathlib import Path

from tests.judging.disasters import full, killed
from tests.judging.faults import FAULTS, MARKS, measured, table


def main() -> None:
    """Measure all faults and print the table, or put it between its marks in a document."""
    parser = argparse.ArgumentParser(prog="python -m tests.judging", description=__doc__)
    parser.add_argument("--document", type=Path, metavar="FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = (Path(name) / str(number) for number in range(1000))
        rows = [measured(fault, _made(next(folders)))[0] for fault in FAULTS]
        rows += [killed(_made(next(folders)), 5), full(_made(next(folders)))[0]]
    shown = table(rows)
    print(shown)
    if args.document is not None:
        before, _, rest = args.document.read_text(encoding="utf-8").partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        args.document.write_text(f"{before}{MARKS[0]}\n{shown}\n{MARKS[1]}{after}", encoding="utf-8")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
