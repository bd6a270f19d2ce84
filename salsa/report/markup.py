"""Makes text that a model or a user wrote fit to be shown: as itself, with nothing invisible in it, and not endless."""

import re

# An underscore inside a word is plain text in Markdown; the names of suites and settings stay readable.
_SPECIAL = re.compile(r"[\\`*\[\]|#~$]|(?<![^\W_])_|_(?![^\W_])")
# What would begin a list or underline a heading at the start of a line that is not a table cell.
_LINE_START = re.compile(r"^(\s*)([-+=]|\d+(?=[.)]))")
# Control characters (but line breaks and tabs), line separators, byte order marks, halves of surrogate pairs, and marks
# that turn the direction of writing: a terminal obeys some of them, a reader sees none.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)

_WORD = 30  # characters within which a cut moves to the end of a word


def visible(text: str) -> str:
    """Return text with line breaks as newlines, and characters that no reader would see as escapes such as `\\x1b`."""
    return _INVISIBLE.sub(_as_escape, text.replace("\r\n", "\n").replace("\r", "\n"))


def one_line(text: str) -> str:
    """Return visible text on one line, as a heading or a table needs it: each run of blanks and breaks is a blank."""
    return " ".join(visible(text).split())


def _as_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def shorten(text: str, limit: int) -> str:
    """Return text of about `limit` characters: the middle of a longer one is left out, and it is said how much."""
    if len(text) <= limit:
        return text
    half = limit // 2
    space = text.rfind(" ", max(0, half - _WORD), half)
    start = text[: space if space >= 0 else half]
    begin = len(text) - half
    end = text[text.find(" ", begin, begin + _WORD) + 1 or begin :]
    return f"{start} […{len(text) - len(start) - len(end):,} characters left out…] {end}"


def escape(text: str) -> str:
    """Return text that shows as itself in a Markdown table cell: no markup, no HTML, lines joined by `<br>`."""
    return "<br>".join(_SPECIAL.sub(r"\\\g<0>", line) for line in _lines(text))


def quote(text: str) -> str:
    """Return text as a block quotation of Markdown that shows as itself, line by line."""
    lines = (_SPECIAL.sub(r"\\\g<0>", line) for line in _lines(text))
    return "<br>\n".join(f"> {_LINE_START.sub(_guarded, line)}".rstrip() for line in lines)


def _guarded(found: re.Match[str]) -> str:
    # A backslash cannot stand before a digit, so a number becomes a character reference by its first digit.
    mark = found[2]
    return f"{found[1]}&#{ord(mark[0])};{mark[1:]}" if mark[0].isdigit() else f"{found[1]}\\{mark}"


def _lines(text: str) -> list[str]:
    plain = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return plain.split("\n")
