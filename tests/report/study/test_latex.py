import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.report.study import latex
from salsa.report.study.schema import printable
from tests.report.study import examples
from tests.report.study.odd import EVERY, NAME

ENGINES = [name for name in ("pdflatex", "xelatex", "lualatex") if shutil.which(name)]


def body(text: str) -> str:
    """Return what stands between the start and the end of the document, without comments."""
    inside = text[text.index(r"\begin{document}") :]
    return "\n".join(line for line in inside.split("\n") if not line.startswith("%"))


def check_braces(text: str) -> None:
    depth = 0
    for brace in re.findall(r"\\.|[{}]", text, flags=re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        assert depth >= 0
    assert depth == 0


def check_environments(text: str) -> None:
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []


def check_rows(text: str) -> None:
    """Check that every row of a table has as many columns as the table."""
    for spec, inside in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        plain = re.sub(r"\\(toprule|midrule|bottomrule|addlinespace|cmidrule\(lr\)\{[\d-]+\})", "", inside)
        for row in (row for row in plain.split(r" \\") if row.strip()):
            spans = [int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", row)]
            assert len(re.findall(r"(?<!\\)&", row)) + 1 + sum(spans) == len(spec)
            assert row.lstrip()[0] not in "[*"


@pytest.mark.parametrize("name", EVERY)
def test_braces_environments_and_rows_are_balanced_and_specials_escaped(name: str) -> None:
    text = body(latex.document(printable(EVERY[name]())))
    check_braces(text)
    check_environments(text)
    check_rows(text)
    text = text.replace(latex.FIT, "")
    assert not re.search(r"(?<!\\)[$#_%]", text)
    assert not re.search(r"(?<!\\)\^|[~<>|\"`]", text)


@given(st.text())
def test_any_text_is_balanced_and_keeps_no_active_character(text: str) -> None:
    escaped = latex.escape(text)
    check_braces(escaped)
    active = re.sub(r"\\anyletter\{.\}\{[0-9A-F]+\}", "", escaped, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)[&%$#_]|(?<!\\)\^|[<>|\"`\n]", active)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 %, a_b & c", r"50 \%, a\_b \& c"),
        ("a\\b", r"a\textbackslash{}b"),
        ("{x}", r"\{x\}"),
        ("--x---", "-{}-x-{}-{}-"),
        ("α − é ²", r"\ensuremath{\alpha} \ensuremath{-} é \textsuperscript{2}"),
        ("中", r"\anyletter{中}{4E2D}"),
    ],
)
def test_text_is_set_as_itself(text: str, expected: str) -> None:
    assert latex.escape(text) == expected


def test_all_tables_are_there_with_bold_intervals_and_the_paper() -> None:
    text = latex.document(printable(examples.table_1()))
    assert text.count(r"\begin{tabular}") == 3
    assert r"\textbf{57.4} {\scriptsize [55.4, 59.4]}" in text
    assert r"\multicolumn{5}{c}{win rate against PPO, \%}" in text
    assert r"51.00 & \textit{not known to us} \\" in text
    assert r"\multicolumn{8}{l}{\textit{Gemma}}" in text
    assert r"\cmidrule(lr){2-6}\cmidrule(lr){7-8}" in text


@pytest.mark.slow
@pytest.mark.skipif(not ENGINES, reason="no LaTeX on this machine")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["table_1", "alpha", "names", "extreme", "empty"])
def test_the_document_compiles(name: str, engine: str, tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(latex.document(printable(EVERY[name]())), encoding="utf-8")
    command = [engine, "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_odd_name_has_every_special_character() -> None:
    assert set("|*<&_%$#\n\\{}^~[]-") <= set(NAME)
