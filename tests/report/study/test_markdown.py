import pytest

from salsa.report.markup import escape
from salsa.report.study import markdown, reading, tables
from salsa.report.study.schema import printable
from tests.report.study import examples
from tests.report.study.odd import EVERY


def page(name: str) -> str:
    return markdown.page(printable(EVERY[name]()))


def test_the_verdict_comes_first_and_everything_follows() -> None:
    text = page("table_1")
    order = (
        "# Table 1: SALSA against PPO",
        "**SALSA beats PPO over all families",
        "Does a policy",
        "8 replicates  ·  tiny models with the architecture of Llama2, Mistral, Gemma (not the published weights)",
        "regime V1: 200 demonstrations, 240 steps",
        "> **Missing:** replicate 3 of Gemma is missing from all rows: sft 2 failed: out of memory",
        "> **Missing:** replicate 5 of Gemma is missing from start+ref soup: align failed: NaN at step 40",
        "**What the arms are**",
        "* start+ref soup: KL reference: the soup; start: the soup; `soup.alpha=.5`",
        "## Other verdicts",
        '"Decided" means that the 95% interval lies on one side',
        "**Warning:** The coefficient of PPO",
        "## Win rates against PPO\n",
        "Columns: win rate against PPO, %.",
        "|  | policy | single | two_turn | hard | unseen | mean |",
        "| Llama2 | SFT1 | 44.3 [42.3, 46.3] |",
        "## Win rates against PPO: the paper",
        "## What the paper reports",
        "> * Paper: all cells are above 50 %, from 50.10 % (Gemma, hard) to 56.20 %",
        "(**does not hold here**)",
        "## Divergence",
        "## How to read it",
        "## How the KL coefficients were chosen",
        "## Notes",
        "## Settings",
        examples.fingerprint("study"),
    )
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "| study.name | table\\_1 |" in text or "| study.name | table_1 |" in text
    assert examples.fingerprint("Gemma", "SALSA", "unseen", 5) not in text, "study.json has those"
    assert "missing² |" in text
    assert "² missing: replicate 3 of Gemma: sft 2 failed: out of memory; replicate 5 of Gemma: align failed" in text


@pytest.mark.parametrize("name", EVERY)
def test_rows_of_a_table_have_as_many_cells_as_its_heading(name: str) -> None:
    widths = set()
    for line in page(name).split("\n"):
        if not line.startswith("|"):
            widths = set()
            continue
        widths.add(line.replace(r"\|", "").count("|"))
        assert len(widths) == 1


def test_odd_names_show_as_themselves() -> None:
    text = page("names")
    assert escape(printable(EVERY["names"]())["title"]) in text
    assert "<d>" not in text


def sentences(name: str) -> str:
    study = printable(EVERY[name]())
    shown = tables.tables(study)
    return " ".join([*reading.sentences(study, shown), *reading.marks(study, shown, coloured=True)])


def test_only_what_is_shown_is_explained() -> None:
    whole, bare = sentences("table_1"), sentences("frontier")
    for part in ("means over 8 replicates", "95% interval", "▲", "The paper's figures", "missing: ", "–: "):
        assert part in whole
    for part in ("▲", "The paper's", "missing: "):
        assert part not in bare
    assert "–: " in bare
    assert "–: " not in sentences("empty")
    assert sentences("empty").count(".") == 1


def test_one_replicate_is_called_an_illustration() -> None:
    text = sentences("one replicate")
    assert text.startswith("One replicate, so this is an illustration")
    assert "interval" not in text
    told = reading.about(printable(EVERY["one replicate"]()))
    assert told.startswith("1 replicate  ·  tiny models")
    assert told.endswith("regime V1: 200 demonstrations, 240 steps")
    with_intervals = printable(examples.table_1() | {"replicates": 1})
    shown = tables.tables(with_intervals)
    assert "hold for these trained models only" in " ".join(reading.sentences(with_intervals, shown))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 seconds"), (119, "119 seconds"), (120, "2.0 minutes"), (16200, "4.5 hours")]
)
def test_times_are_in_the_unit_that_a_reader_grasps(seconds: float, text: str) -> None:
    assert reading.duration(seconds) == text


def test_costs_that_are_not_known_are_left_out() -> None:
    assert reading.cost(examples.study(cost={"stages": 1200, "cpu_seconds": None})) == "1,200 stages"
    assert reading.cost(examples.study(cost=None)) == ""
