"""The files of a study: for programs, for papers, and for readers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salsa.report.study import figures, latex, markdown, page, records
from salsa.report.study.schema import NAME, checked, printable, to_json

MARKDOWN, CSV, LATEX, PAGE = "table.md", "table.csv", "table.tex", "page.html"


def write(study: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write study.json, table.md, table.csv, table.tex, page.html, and each figure as PNG, SVG and PDF.

    The folder must exist. Equal studies give equal files. Raises ValueError naming what is wrong with a study.
    """
    shown = printable(study)
    drawn, inline = figures.write_all(shown, folder)
    texts = {
        NAME: to_json(checked(study)),
        MARKDOWN: markdown.page(shown),
        CSV: records.to_csv(shown),
        LATEX: latex.document(shown),
        PAGE: page.page(shown, inline),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [*(folder / name for name in texts), *drawn]
