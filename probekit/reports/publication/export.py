"""Figures for print as files: SVG, PDF, PNG, and the numbers that each was drawn from."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probekit.errors import RunError
from probekit.reports.components.svg import style
from probekit.reports.components.visible_text import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PRINT_INK = "#1a1a1a"  # the colour of text
FORMATS = ("svg", "pdf", "png")
COLUMN, PAGE = 3.3, 6.9  # inches: the width of a column, and of two with what is between them
_FONT = "DejaVu Sans"  # comes with matplotlib, so that every machine draws the same
_POINTS = 7.5  # size of text
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_DPI_ON_SCREEN = 200  # so that a column's width is sharp where it is shown larger
_LONGEST = 22  # letters of a name in a figure
# What would name the software, its version or the time.
_SILENT: Mapping[str, Mapping[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
_OUTSIDE = re.compile(rb"<!DOCTYPE.*?>\s*|<metadata>.*?</metadata>\s*|<!--.*?-->\s*", re.DOTALL)


@dataclass(frozen=True)
class Drawing:
    """A figure and its numbers.

    Attributes:
        name: Of its files, without an ending: small letters, digits, dots and hyphens.
        draw: Draws it in the colours `INK` and `ink(n)` of `components.svg`, at the size at
            which it is printed.
        rows: What is drawn, one row a point, all rows with the same columns; NaN is no number.
        inks: The colour of text, then those of series 1, 2, ...
    """

    name: str
    draw: "Callable[[], Figure]"
    rows: Sequence[Mapping[str, object]]
    inks: Sequence[str]


def exported(drawings: Iterable[Drawing]) -> dict[str, bytes]:
    """Return the files of figures: the same bytes for the same figures.

    Fonts are embedded as TrueType in a PDF and are outlines in an SVG; a PNG has 300 dots an
    inch. Neither names a date or the software, and none refers to another file.

    Args:
        drawings: The figures.

    Returns:
        What each file holds by its name: SVG, PDF, PNG and CSV of each figure.

    Raises:
        RunError: If a name is not fit for a file, or is that of two figures.
    """
    files: dict[str, bytes] = {}
    for drawing in drawings:
        if not _NAME.fullmatch(drawing.name) or f"{drawing.name}.csv" in files:
            raise RunError(f"figures need different, plain names, got {drawing.name!r}")
        with print_style(drawing.inks):
            figure = drawn(drawing)
            for kind in FORMATS:
                files[f"{drawing.name}.{kind}"] = _saved(figure, kind)
        files[f"{drawing.name}.csv"] = _table(drawing.rows)
    return files


def drawn(drawing: Drawing) -> "Figure":
    """Draw a figure that keeps its colours and sizes, whoever saves or shows it."""
    from matplotlib.colors import to_hex

    with print_style(drawing.inks):
        figure = drawing.draw()
        figure.set_dpi(_DPI_ON_SCREEN)
        for artist in figure.findobj():
            artist.set_gid(None)  # classes of the page, which are no ids
            for name in ("color", "markerfacecolor", "markeredgecolor"):
                colour = getattr(artist, f"get_{name}", lambda: None)()
                if isinstance(colour, str) and colour.startswith("C"):
                    getattr(artist, f"set_{name}")(to_hex(colour))
    return figure


def drawable(names: Sequence[str]) -> list[str]:
    r"""Return what a figure calls things of these names: short, and what the font can draw.

    Names that would look the same are numbered.

    >>> drawable(["prose", "\u4e2d\u6587", "a\x00b"])
    ['prose', '��', 'a⟨U+0000⟩b']
    >>> drawable(["the same beginning, then 1", "the same beginning, then 2"])
    ['1: the same beginning, t…', '2: the same beginning, t…']
    """
    from matplotlib.font_manager import findfont, get_font

    glyphs = get_font(findfont(_FONT)).get_charmap()
    texts = ("".join(c if ord(c) in glyphs else "�" for c in clean(name)) for name in names)
    shown = [
        text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1].rstrip()}…" for text in texts
    ]
    if len(set(shown)) == len(shown):
        return shown
    return [f"{number}: {text}" for number, text in enumerate(shown, 1)]


@contextmanager
def print_style(inks: Sequence[str]) -> Iterator[None]:
    """Draw in the report's style at the sizes of print, whatever matplotlib was told before."""
    import matplotlib as mpl

    settings: Any = {
        "font.size": _POINTS,
        "font.sans-serif": [_FONT],
        "axes.labelsize": _POINTS,
        "xtick.labelsize": _POINTS - 0.5,
        "ytick.labelsize": _POINTS - 0.5,
        "legend.fontsize": _POINTS - 0.5,
        "axes.linewidth": 0.6,
        "hatch.linewidth": 0.5,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "pdf.fonttype": 42,
        "svg.fonttype": "path",
        "savefig.dpi": 300,
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        with style(inks), mpl.rc_context(settings):
            yield


def _saved(figure: "Figure", kind: str) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, metadata=dict(_SILENT[kind]))
    return _OUTSIDE.sub(b"", stream.getvalue()) if kind == "svg" else stream.getvalue()


def _table(rows: Sequence[Mapping[str, object]]) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(rows[0] if rows else ())
    writer.writerows([_entry(value) for value in row.values()] for row in rows)
    return stream.getvalue().encode()


def _entry(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    return "" if value != value else value  # noqa: PLR0124  NaN differs from itself
