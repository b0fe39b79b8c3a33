"""What a parser makes of a page: tags, text, rows by section, the exact numbers of the maps."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """A page taken apart.

    Attributes:
        tags: Every start tag with its attributes.
        text: All text.
        rows: By section, the texts of the cells of every row.
        cells: By metric, readout and domain, what each cell of a map says exactly.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: dict[str, list[list[str]]] = {}
        self.cells: dict[tuple[str, ...], list[str]] = {}
        self._view: tuple[str, ...] = ()
        self._section = ""
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append((tag, named))
        if tag == "section":
            self._section = named["id"] or ""
        if tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        if tag in {"td", "th"}:
            self.rows[self._section][-1].append("")
            self._cell = True
        self._of_map(tag, named)

    def _of_map(self, tag: str, named: dict[str, str | None]) -> None:
        if "map-view" in (named.get("class") or ""):
            keys = ("data-metric", "data-readout", "data-domain")
            self._view = tuple(named[key] or "" for key in keys)
            self.cells[self._view] = []
        if tag == "td" and "title" in named:
            self.cells[self._view].append(named["title"] or "")

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.rows[self._section][-1][-1] += data

    def all(self, name: str) -> list[str]:
        """Return the values of an attribute."""
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]
