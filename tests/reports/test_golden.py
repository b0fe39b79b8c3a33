"""The structure of each page against the one that is kept: sections, switches, columns.

`python tests/reports/test_golden.py` writes what is kept again, to be read in the diff.
"""

import sys
from collections.abc import Callable, Mapping
from html.parser import HTMLParser

import pytest

from probekit.reports import render, render_comparison
from probekit.reports.drafting.page import render_draft
from probekit.reports.heads.page import render_heads
from probekit.reports.reproduction.page import render_reproduction
from support.pages import synthetic_draft, synthetic_heads, synthetic_reproduction
from support.pages.synthetic_comparison import document
from support.pages.synthetic_passages import Held, passages
from support.pages.synthetic_run import Size, results
from support.paths import ROOT

FOLDER = ROOT / "tests" / "golden"
SIZE = Size(layers=3, offsets=2, seeds=1, codelength=True)
PAGES: Mapping[str, Callable[[], str]] = {
    "report": lambda: render(results(SIZE), passages(SIZE, Held(tokens=30))),
    "comparison": lambda: render_comparison(document()),
    "heads": lambda: render_heads(synthetic_heads.document()),
    "draft": lambda: render_draft(synthetic_draft.document()),
    "figure-1": lambda: render_reproduction(synthetic_reproduction.figure_1()),
    "table-1": lambda: render_reproduction(synthetic_reproduction.table_1()),
}
SPOKEN = {"h1", "h2", "h3", "legend", "caption", "summary", "dt"}
COUNTED = {"figure": "figure", "tr": "row", "label": "choice"}


class Outline(HTMLParser):
    """Headings, names of columns and parts; how many figures, rows and choices follow each."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.depth = 0
        self.said: list[str] | None = None
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("section", "nav", "header", "main"):
            self._line(f"<{tag}{'#' + str(given['id']) if 'id' in given else ''}>")
            self.depth += 1
        if tag in SPOKEN or (tag == "th" and given.get("scope") == "col"):
            self.said = [tag]
        if tag in COUNTED:
            self.counts[COUNTED[tag]] = self.counts.get(COUNTED[tag], 0) + 1

    def handle_data(self, data: str) -> None:
        if self.said is not None:
            self.said.append(data)

    def handle_endtag(self, tag: str) -> None:
        if self.said is not None and tag == self.said[0]:
            words = " ".join(" ".join(self.said[1:]).split())
            self.said = None
            self._line(f"{tag}: {words}")
        if tag in ("section", "nav", "header", "main"):
            self._flush()
            self.depth -= 1

    def _line(self, text: str) -> None:
        self._flush()
        if text.startswith("th: ") and self.lines[-1].lstrip().startswith("th: "):
            self.lines[-1] += " | " + text.removeprefix("th: ")
        else:
            self.lines.append("  " * self.depth + text)

    def _flush(self) -> None:
        found = ", ".join(f"{n} {name}{'s' * (n > 1)}" for name, n in self.counts.items())
        if found:
            self.lines.append("  " * self.depth + f"({found})")
        self.counts = {}


def outline(page: str) -> str:
    parser = Outline()
    parser.feed(page)
    return "\n".join(parser.lines) + "\n"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_structure_that_is_kept(name: str) -> None:
    assert outline(PAGES[name]()) == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def test_an_outline_sees_a_lost_section_and_a_renamed_column() -> None:
    page = (
        "<main><section id='a'><h2>A</h2><th scope='col'>B</th><figure></figure></section></main>"
    )
    assert outline(page) == "<main>\n  <section#a>\n    h2: A\n    th: B\n    (1 figure)\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES if len(sys.argv) == 1 else sys.argv[1:]:
        (FOLDER / f"{name}.txt").write_text(outline(PAGES[name]()), encoding="utf-8")
