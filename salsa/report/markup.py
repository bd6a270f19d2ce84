"""Escapes for text that a model or a user wrote, so that it shows as itself in Markdown."""

_ESCAPED = str.maketrans({character: f"\\{character}" for character in "\\`*_[]|#~$"})


def escape(text: str) -> str:
    """Return text that shows as itself in a Markdown table cell: no markup, no HTML, lines joined by `<br>`."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").translate(_ESCAPED)
    return "<br>".join(plain.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
