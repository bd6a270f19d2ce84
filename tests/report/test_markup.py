import pytest

from salsa.report.markup import escape, one_line, quote, shorten, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("*x* [y](z) `c` #1", "\\*x\\* \\[y\\](z) \\`c\\` \\#1"),
        ("two_turn", "two_turn"),
        ("_x_ y_", "\\_x\\_ y\\_"),
        ("one\r\ntwo\nthree", "one<br>two<br>three"),
        ("back\\slash", "back\\\\slash"),
    ],
)
def test_text_shows_as_itself(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb\rc\td", "a\nb\nc\td"),
        ("\x1b[31m\x00", "\\x1b[31m\\x00"),
        ("\u202eevil\ufeff", "\\u202eevil\\ufeff"),
        ("\ud800", "\\ud800"),
        ("é 漢 👩\u200d🔬 \ufffd", "é 漢 👩\u200d🔬 \ufffd"),
    ],
)
def test_what_no_reader_sees_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_the_middle_of_long_text_is_left_out_and_counted() -> None:
    assert shorten("x" * 10, 10) == "x" * 10
    assert shorten("a" * 1500 + "z" * 1500, 1000) == f"{'a' * 500} […2,000 characters left out…] {'z' * 500}"


def test_a_quotation_keeps_its_lines_and_begins_no_list() -> None:
    assert quote("one\n\n- two\n12. three\n=") == "> one<br>\n><br>\n> \\- two<br>\n> &#49;2. three<br>\n> \\="


def test_a_heading_is_one_line() -> None:
    assert one_line(" a\r\nb\t c\x1b ") == "a b c\\x1b"
