"""Reads a page as a browser would: its elements, whether they are closed, and what it would load or run."""

from html.parser import HTMLParser

VOID = {"meta", "br", "path", "line", "rect", "circle", "use"}
"""Elements that have no end; those of SVG end themselves."""


class Page(HTMLParser):
    """A parsed page; `unbalanced` names the ends that close another element than the one that is open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.unbalanced: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.unbalanced.append(f"</{tag}> in {'/'.join(self._open[-4:])}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text.append(data)

    @property
    def left_open(self) -> list[str]:
        """Elements that nothing closes."""
        return self._open

    @property
    def ids(self) -> list[str]:
        """Identifiers of elements."""
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]

    @property
    def links(self) -> list[str]:
        """Targets of links, and of what a drawing uses again."""
        return [str(attributes["href"]) for _, attributes in self.elements if "href" in attributes]
