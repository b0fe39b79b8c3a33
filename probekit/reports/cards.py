"""What a finished job of any kind shows in a notebook: a card, its figures, its page."""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import pandas as pd

from probekit.errors import SettingsError
from probekit.reports.analysis import first_screen
from probekit.reports.analysis.rows import index as index_run
from probekit.reports.comparison.rows import index as index_comparison
from probekit.reports.comparison.tables import answer_table as compared
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Table
from probekit.reports.components.templates import environment
from probekit.reports.components.visible_text import clean
from probekit.reports.drafting import tables as drafting
from probekit.reports.drafting.rows import domains as drafted_domains
from probekit.reports.drafting.rows import of_domain
from probekit.reports.heads import first_screen as heads
from probekit.reports.publication.analysis import SPECIALIZATION
from probekit.reports.publication.export import Drawing, drawn
from probekit.reports.publication.figure_files import drawings, write_figures
from probekit.reports.reproduction import sentences
from probekit.reports.reproduction.tables import measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = "figures"  # the folder of the files
WIDTH = 100  # characters of a table in a terminal
_LONGEST = 28  # characters of its cells
# What the frame of a page may do: its switches work, and nothing of the notebook is in reach.
_SANDBOX = "allow-scripts allow-popups allow-downloads"


class Card:
    """What a notebook shows of a finished job; its classes have their numbers besides."""

    if TYPE_CHECKING:
        # What a finished job has: the content of its JSON file, its page, and where it is.
        @property
        def document(self) -> Row: ...  # noqa: D102
        @property
        def html(self) -> str: ...  # noqa: D102
        @property
        def place(self) -> str: ...  # noqa: D102

    @property
    def verdict(self) -> str:
        """The findings, a sentence a line."""
        return "\n".join(_said(self.document))

    @property
    def headlines(self) -> pd.DataFrame:
        """The numbers that decide, of all texts together."""
        return pd.DataFrame(list(_kind(self.document).rows(self.document)))

    @property
    def figures(self) -> list[str]:
        """Names of the figures, that of the card first."""
        return list(_drawings(self.document))

    def figure(self, name: str) -> "Figure":
        """Draw a figure of the page for print, as matplotlib has it.

        Raises:
            SettingsError: If there is none of this name.
        """
        found = _drawings(self.document)
        if name not in found:
            names = ", ".join(found) or "none"
            raise SettingsError(f"there is no figure {name!r}; the figures are {names}")
        figure = drawn(found[name])
        # IPython shows it by this, where matplotlib is not set up for the notebook.
        vars(figure)["_repr_png_"] = partial(_png, figure)
        return figure

    def show(self, height: int = 800) -> "Frame":
        """Return the page in a frame, as a notebook shows it.

        Args:
            height: Of the frame, in pixels.
        """
        return Frame(self.html, height)

    def __repr__(self) -> str:
        table = _kind(self.document).table(self.document)
        said = [f"  {sentence}" for sentence in _said(self.document)[:1]]
        lines = [f"{type(self).__name__}: {self.place}", *said, *(_lines(table) if table else [])]
        return clean("\n".join(lines))

    def _repr_html_(self) -> str:
        hero = next(iter(_drawings(self.document).values()), None)
        values = {
            "title": f"{type(self).__name__}: {self.place}",
            "verdict": _said(self.document),
            "found": _kind(self.document).table(self.document),
            "image": base64.b64encode(_png(drawn(hero))).decode() if hero else "",
        }
        return environment().get_template("card.html.j2").render(values)


@dataclass(frozen=True, repr=False)
class InFolder(Card):
    """A finished job in a folder.

    Attributes:
        folder: Where it is.
        document: The content of its JSON file.
    """

    folder: Path
    document: Row

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def write_figures(self) -> Path:
        """Write the figures for print into a folder beside the report, and return its path.

        Raises:
            RunError: If it cannot be written.
        """
        write_figures(self.document, self.folder / FIGURES)
        return self.folder / FIGURES

    @property
    def html(self) -> str:
        """The report's text."""
        return self.report.read_text(encoding="utf-8")

    @property
    def place(self) -> str:
        """The folder, as text."""
        return str(self.folder)


@dataclass(frozen=True)
class Frame:
    """A page in a frame of a notebook.

    Attributes:
        html: The page.
        height: Of the frame, in pixels.
    """

    html: str
    height: int

    def __repr__(self) -> str:
        return f"Frame of a page of {len(self.html):,} characters"

    def _repr_html_(self) -> str:
        # Else its links to its own parts would lead to those of the notebook.
        page = self.html.replace("<head>", '<head><base href="about:srcdoc">', 1)
        return (
            f'<iframe srcdoc="{escape(page)}" sandbox="{_SANDBOX}" '
            f'style="width:100%;height:{self.height}px;border:0"></iframe>'
        )


def _run_table(document: Row) -> Table | None:
    return first_screen.offset_table(index_run(document))


def _run_rows(document: Row) -> Iterator[dict[str, Any]]:
    """Yield what was found at each offset of the first domain, as numbers."""
    run = index_run(document)
    for row in document["offsets"]:
        special = run.special(row["offset"], run.domains[0])
        top1 = {"top1" if k == "best" else f"top1_{k.removeprefix('best_')}": v
                for k, v in row["top1"].items()}  # fmt: skip
        known = {name: special[name] for name in special if name.startswith("recovered")}
        bits = {f"{name}_bits": special[f"{name}_bits"] for name in ("read", "room", "forgotten")}
        yield {"offset": row["offset"], "best_layer": special["best_layer"], **top1, **bits,
               **known, "late_loss": row["late_loss"]}  # fmt: skip


def _heads_rows(document: Row) -> Iterator[Row]:
    domain = document["scores"][0]["domain"]
    return (row for row in document["scores"] if row["domain"] == domain)


def _draft_rows(document: Row) -> Iterator[dict[str, Any]]:
    for row in of_domain(document, drafted_domains(document)[0]):
        yield {name: value for name, value in row.items() if name != "offsets"}


@dataclass(frozen=True)
class _Kind:
    """What a card takes of a document: its table, its numbers, the names of its first figure."""

    table: Callable[[Row], Table | None]
    rows: Callable[[Row], "Iterator[Row]"]
    figures: Sequence[str] = ()


_KINDS = {
    "results": _Kind(_run_table, _run_rows, (SPECIALIZATION,)),
    "comparison": _Kind(
        lambda document: compared(index_comparison(document)),
        lambda document: iter(document["headlines"]),
        ("depth-share-0", "depth-bits-0"),
    ),
    "heads": _Kind(heads.answer_table, _heads_rows),
    "draft": _Kind(drafting.answer_table, _draft_rows),
    "reproduction": _Kind(measured, lambda document: iter(document["rows"])),
}


def _kind(document: Row) -> _Kind:
    return _KINDS[document["schema"].removeprefix("probekit.").partition("/")[0]]


def _said(document: Row) -> Sequence[str]:
    told: Sequence[str] | None = document.get("verdict")
    return sentences.verdict(document) if told is None else told


def _drawings(document: Row) -> dict[str, Drawing]:
    found = {drawing.name: drawing for drawing in drawings(document)}
    first = [name for name in _kind(document).figures if name in found]
    return {name: found[name] for name in dict.fromkeys([*first, *found])}


def _lines(table: Table) -> list[str]:
    """Return the first columns of a table, as many as fit into a line."""
    lines, taken = [""] * (len(table.rows) + 1), 0
    for name, *cells in zip(table.head, *table.rows, strict=True):
        texts = [name, *(shorten(cell.text, _LONGEST, placeholder="…") for cell in cells)]
        taken += max(map(len, texts)) + 2
        if taken <= WIDTH:
            both = zip(lines, texts, strict=True)
            lines = [f"{line}  {text}".ljust(taken) for line, text in both]
    return [line.rstrip() for line in lines]


def _png(figure: "Figure") -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
