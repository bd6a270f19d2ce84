import io
import subprocess
import sys

import pytest
from rich.console import Console

from salsa.report.study.terminal import show
from tests.report.study import examples
from tests.report.study.odd import EVERY


def printed(name: str, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(EVERY[name](), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_verdict_stands_above_all_else_but_the_title() -> None:
    lines = [line.strip() for line in printed("table_1").split("\n") if line.strip()]
    assert lines[0].startswith("Table 1: SALSA against PPO")
    assert lines[1] == "● SALSA beats PPO over all families and suites: 53.4 % [52.1, 54.7], 8 replicates"
    assert "○ The data do not decide between SALSA and ref SFT2: 49.2 % [47.9, 50.6], 8 replicates" in lines
    text = "\n".join(lines)
    assert "Missing: replicate 3 of Gemma is missing from all rows: sft 2 failed: out of memory" in text
    assert "start+ref soup: KL reference: the soup; start: the soup; soup.alpha=.5" in text
    verdicts, warned = text.rindex("○ The data do not decide"), text.index("Warning: The coefficient of PPO")
    assert verdicts < text.index('"Decided" means') < warned < text.index("Win rates against PPO")
    assert "What the paper reports" in text
    assert "Paper: SALSA is above PPO over all" in text
    assert "Here: 53.4 % [52.1, 54.7] (holds here)" in text
    assert "56.7 ±2.0" in text
    assert "Win rates against PPO: the paper" in text
    assert "How the KL coefficients were chosen" in text


def test_a_second_verdict_stands_below_the_first() -> None:
    console = Console(file=io.StringIO(), width=120)
    show(examples.table_1() | {"second": 4}, console)
    assert isinstance(console.file, io.StringIO)
    lines = [line.strip() for line in console.file.getvalue().split("\n") if line.strip()]
    assert lines[2].startswith("● PPO beats start+ref soup for Gemma")
    assert sum("PPO beats start+ref soup" in line for line in lines) == 1


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("name", EVERY)
def test_every_study_fits_any_width(name: str, width: int) -> None:
    text = printed(name, width)
    assert "\x1b" not in text
    assert max(map(len, text.split("\n"))) <= width


def test_showing_a_study_needs_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, salsa.report.study.terminal, salsa.report.study.schema;"
        "print(sorted({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
