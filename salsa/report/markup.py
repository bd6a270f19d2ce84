"""Escapes for text that a model or a user wrote, so that it shows as itself in Markdown."""

import re

# An underscore inside a word is plain text in Markdown; the names of suites and settings stay readable.
_SPECIAL = re.compile(r"[\\`*\[\]|#~$]|(?<![^\W_])_|_(?![^\W_])")


def escape(text: str) -> str:
    """Return text that shows as itself in a Markdown table cell: no markup, no HTML, lines joined by `<br>`."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    lines = plain.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "<br>".join(_SPECIAL.sub(r"\\\g<0>", line) for line in lines)
