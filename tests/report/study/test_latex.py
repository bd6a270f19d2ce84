import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
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
    """Return the file without comments, and without the macro that it brings."""
    lines = [line for line in text.split("\n") if not line.startswith(("%", r"\providecommand"))]
    return "\n".join(lines)


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
    assert text.count(r"\begin{tabular}") == 4
    assert r"\textbf{57.4} {\scriptsize [55.4, 59.4]}" in text
    assert r"\multicolumn{5}{c}{win rate against PPO, \%}" in text
    assert r"51.00 & \textit{not known to us} \\" in text
    assert r"\multicolumn{8}{l}{\textit{Gemma}}" in text
    assert r"\cmidrule(lr){2-6}\cmidrule(lr){7-8}" in text


def test_the_file_is_floats_and_small_print_and_says_what_it_needs() -> None:
    text = latex.document(printable(examples.table_1()))
    assert r"\documentclass" not in body(text)
    assert r"\usepackage" not in body(text)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == text.count(r"\caption") == 4
    assert r"% In a paper: \usepackage{booktabs,graphicx}" in text
    assert f"% By itself: {latex.ALONE}" in text


def test_columns_without_room_go_on_in_another_table_under_the_same_rows() -> None:
    study = examples.alpha()
    table = study["tables"][0]
    first = table["columns"][0]
    table["columns"] = [{**first, "key": str(number), "label": f"column {number}"} for number in range(17)]
    for row in table["rows"]:
        row["cells"] = {str(number): examples.cell(0.5, 0.02, number) for number in range(17)}
    table["paper"] = None
    text = latex.document(printable(study))
    parts = re.findall(r"% table alpha \((\d) of (\d)\)", text)
    assert [part for part, _ in parts] == [str(number) for number in range(1, int(parts[0][1]) + 1)]
    assert len(parts) > 2
    assert text.count("KL coefficient of PPO") == len(parts)
    heads = re.findall(r"column (\d+)", text)
    assert heads == [str(number) for number in range(17)]


def test_verdicts_failures_and_claims_are_there() -> None:
    text = latex.document(printable(examples.table_1()))
    assert r"53.4 \% [52.1, 54.7], 8 replicates.\par}" in text
    assert "Missing: replicate 3 of Gemma is missing from all rows" in text
    assert r"all cells are above 50 \%, from 50.10 \% (Gemma, hard) to 56.20 \% &" in text
    assert r"\raggedright does not hold here \tabularnewline" in text
    assert r"\textit{missing\textsuperscript{2}}" in text
    assert r"start+ref soup: KL reference: the soup; start: the soup; soup.alpha=.5.\par}" in text
    assert text.rindex("8 replicates.") < text.index("means that the 95\\% interval") < text.index("Warning: The coeff")


def outside(text: str) -> str:
    """Return what is in no float."""
    return re.sub(r"\\begin\{table\}.*?\\end\{table\}", "", text, flags=re.DOTALL)


def test_what_may_be_long_is_outside_of_floats_so_that_each_of_them_fits_on_a_page() -> None:
    study = examples.table_1()
    text = outside(latex.document(printable(study)))
    assert r"53.4 \% [52.1, 54.7], 8 replicates.\par}" in text
    assert "Missing: replicate 3 of Gemma" in text
    assert "2 of 8 replicates are missing" not in text, "two short notes stay with their table"
    for number, cell in enumerate(study["tables"][0]["rows"][0]["cells"].values()):
        cell["note"] = f"note {number} " + "that is long " * 9
    text = outside(latex.document(printable(study)))
    assert [f"note {number} that" in text for number in range(5)] == [True] * 5
    assert r"\textit{Win rates against PPO}" in text
    assert r"\begin{table}" not in latex.document(printable(examples.study()))


def test_the_heading_of_a_group_counts_and_is_set_in_lines_that_its_columns_have_room_for() -> None:
    study = examples.alpha()
    table = study["tables"][0]
    first = table["columns"][0]
    group = "what the rest took before RL, CPU seconds a replicate"
    table["columns"] = [{**first, "key": str(number), "group": f"{group} {number}"} for number in range(9)]
    for row in table["rows"]:
        row["cells"] = {str(number): examples.cell(0.5, None, number) for number in range(9)}
    table["paper"] = None
    text = latex.document(printable(study))
    heading = r"\multicolumn{1}{c}{\shortstack{what the rest\\took before RL,\\CPU seconds a\\replicate 0, \%}}"
    assert heading in text
    assert "table alpha (2 of 2)" in text, "nine headings of sixteen letters have no room beside the row's name"
    table["columns"] = [{**first, "key": str(number), "group": f"g {number}"} for number in range(9)]
    assert "(2 of 2)" not in latex.document(printable(study))


def overfull(log: str) -> list[float]:
    """Return by how many points lines are too wide, as a log tells it."""
    return [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide", log)]


def compiled(command: Sequence[str], folder: Path) -> str:
    """Return the log of a run that makes a PDF."""
    done = subprocess.run(
        [command[0], "-interaction=nonstopmode", "-halt-on-error", *command[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert len(list(folder.glob("*.pdf"))) == 1
    return "".join(path.read_text(errors="replace") for path in folder.glob("*.log"))


@pytest.mark.slow
@pytest.mark.skipif(not ENGINES, reason="no LaTeX on this machine")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["table_1", "names"])
def test_the_file_compiles_by_the_command_in_its_comment_and_stays_on_the_page(
    name: str, engine: str, tmp_path: Path
) -> None:
    text = latex.document(printable(EVERY[name]()))
    (tmp_path / "table.tex").write_text(text, encoding="utf-8")
    _, *command = shlex.split(next(line for line in text.split("\n") if "By itself: " in line).split(": ")[1])
    log = compiled([engine, *command], tmp_path)
    assert max(overfull(log), default=0.0) < 5
    assert "Float too large" not in log


@pytest.mark.slow
@pytest.mark.skipif("pdflatex" not in ENGINES, reason="no pdfLaTeX on this machine")
def test_all_tables_can_be_taken_by_a_paper_of_two_columns(tmp_path: Path) -> None:
    lines = [r"\documentclass[twocolumn]{article}", rf"\usepackage{{{','.join(latex.PACKAGES)}}}", r"\begin{document}"]
    # A name of forty letters without a blank has no place to break in a narrow column.
    for number, make in enumerate(make for name, make in EVERY.items() if name != "names"):
        (tmp_path / f"t{number}.tex").write_text(latex.document(printable(make())), encoding="utf-8")
        lines += ["A paragraph.", rf"\input{{t{number}}}", r"\clearpage"]
    (tmp_path / "paper.tex").write_text("\n".join([*lines, r"\end{document}"]), encoding="utf-8")
    assert max(overfull(compiled(["pdflatex", "paper.tex"], tmp_path)), default=0.0) < 5


def test_the_odd_name_has_every_special_character() -> None:
    assert set("|*<&_%$#\n\\{}^~[]-") <= set(NAME)
