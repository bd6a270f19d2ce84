from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salsa.report.grid import BLANK, MISSING, Cell, Column, Grid, caption, mark_best, measured, number, to_html
from salsa.report.schema import Metric

HIGH, LOW = Metric("a", "", 2, better="high"), Metric("b", "", 1, better="low")


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(1.005, 1, "1.0"), (-0.001, 2, "0.00"), (-0.2, 1, "-0.2"), (12345.6, 2, "12,346"), (3.2e7, 1, "3.20e+07")],
)
def test_numbers_are_shown_with_as_many_decimals_as_mean_something(value: float, decimals: int, text: str) -> None:
    assert number(value, decimals) == text


def test_an_estimate_has_its_interval_in_two_forms_and_the_metrics_scale() -> None:
    cell = measured({"value": 0.522, "low": 0.49, "high": 0.56}, Metric("win", "%", 1, 100.0), "f1")
    assert (cell.text, cell.spread, cell.interval, cell.source) == ("52.2", "±3.5", "[49.0, 56.0]", "f1")
    assert measured(0.5, HIGH) == Cell("0.50", value=0.5)
    assert measured(None, HIGH) is MISSING
    assert measured({"value": None, "low": None, "high": None}, HIGH) is MISSING


def test_the_best_is_what_reads_best_and_nothing_where_all_read_the_same() -> None:
    rows = [[measured(1.001, HIGH), measured(3.0, LOW)], [measured(1.003, HIGH), measured(2.0, LOW)]]
    rows += [[measured(0.5, HIGH), MISSING], [BLANK, measured(9.0, LOW)]]
    marked = mark_best(rows, [HIGH, LOW])
    assert [row[0].best for row in marked] == [True, True, False, False]
    assert [row[1].best for row in marked] == [False, True, False, False]
    same = mark_best(rows[:2], [HIGH, None])
    assert not any(cell.best for row in same for cell in row)


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="table 'T': a row has 1 cells, there are 2 columns"):
        Grid("T", "", [Column("a"), Column("b")], [[Cell("1")]])


def test_a_caption_explains_only_what_the_medium_shows() -> None:
    grid = Grid("T", "Said.", [Column("a")], [[Cell("1", spread="±1", tone="better")]])
    assert caption(grid, half_widths=False, coloured=False) == "Said."
    assert "±" in caption(grid, half_widths=True, coloured=False)
    assert "Green" in caption(grid, half_widths=False, coloured=True)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.tags: list[str] = []

    def handle_data(self, data: str) -> None:
        self.seen.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


@given(st.text(alphabet="<>&\"'`abc/=", max_size=20))
def test_html_shows_any_text_as_itself(text: str) -> None:
    grid = Grid("T", "", [Column("a")], [[Cell(f"x{text}", source=text)]])
    parser = _Text()
    parser.feed(to_html(grid))
    parser.close()
    assert f"x{text}" in "".join(parser.seen)
    assert parser.tags == ["section", "h2", "div", "table", "thead", "tr", "th", "tbody", "tr", "td"]


def test_a_table_is_reached_by_the_keyboard_and_named_and_has_no_heading_of_nothing() -> None:
    columns = [Column("model", left=True), Column("a", "group"), Column("b", "group")]
    text = to_html(Grid('<T> "x"', "", columns, [[Cell("m", tone="name"), Cell("1"), Cell("2")]]))
    label = "&lt;T&gt; &quot;x&quot;"
    assert f'<div class="wide" tabindex="0" role="region" aria-label="{label}"><table aria-label="{label}">' in text
    assert '<tr><td colspan="1"></td><th scope="colgroup" colspan="2" class="group">group</th></tr>' in text
