import pytest

from salsa.report.markup import escape


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
