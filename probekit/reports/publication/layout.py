"""Small multiples and legends, in inches: what a figure for print is made of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probekit.reports.components.colours import DASHES
from probekit.reports.components.line_figures import KIND_DASHES
from probekit.reports.components.svg import INK, MARK, ink
from probekit.reports.publication.export import COLUMN, PAGE, drawable

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MARKERS = ("o", "^", "D", "v", "P", "X", "<", ">")  # of series by number, as their colours
_SIZES = {"o": 3.0, "D": 2.6}  # so that all look alike in size
_MOST_MARKS = 9  # on a line
_LEFT, _TOP, _BARE_TOP, _BOTTOM, _BETWEEN = 0.47, 0.19, 0.07, 0.38, 0.12  # inches around axes
_LEGEND_ROW, _LEGEND_EDGE = 0.128, 0.04  # inches
_HANDLE, _LETTER = 0.46, 0.051  # widths in a legend, inches
_HEIGHT = 1.62  # of axes, inches


@dataclass(frozen=True)
class Legend:
    """A legend below the axes: handles and their words."""

    handles: "Sequence[Artist]"
    words: Sequence[str]

    def columns(self, width: float) -> int:
        """Return how many columns fit into a width in inches, evenly filled."""
        longest = max(map(len, self.words), default=0)
        most = max(1, int(width / (_HANDLE + _LETTER * longest)))
        return math.ceil(len(self.words) / max(1, math.ceil(len(self.words) / most)))

    def height(self, width: float) -> float:
        """Return the height in inches."""
        if not self.words:
            return 0.0
        return math.ceil(len(self.words) / self.columns(width)) * _LEGEND_ROW + _LEGEND_EDGE


def columns_of(count: int) -> int:
    """Return how many panels stand side by side.

    >>> [columns_of(n) for n in (1, 2, 3, 4, 5, 6)]
    [1, 2, 3, 2, 3, 3]
    """
    return count if count <= 3 else 2 if count == 4 else 3


def grid(
    names: Sequence[str], legends: Sequence[Legend], right: float = 0.3, left: float = _LEFT
) -> "tuple[Figure, list[Axes]]":
    """Return a figure with axes for each name, as wide as a column for one, as a page for more.

    Args:
        names: What stands over each of the axes.
        legends: What stands below all axes, from the top.
        right: Room at the right of each of the axes, inches.
        left: Room at the left of the first of a row, inches.
    """
    from matplotlib.figure import Figure

    across = columns_of(len(names))
    down = math.ceil(len(names) / across)
    width = COLUMN if across == 1 else PAGE
    room = sum(legend.height(width) for legend in legends)
    head = _TOP if any(names) else _BARE_TOP
    height = down * (head + _HEIGHT + _BOTTOM) + room
    axes_width = (width - left - across * right - (across - 1) * _BETWEEN) / across
    figure = Figure(figsize=(width, height))
    all_axes = []
    for number, name in enumerate(drawable(names)):
        column, row = number % across, number // across
        x = left + column * (axes_width + right + _BETWEEN)
        y = height - (row + 1) * (head + _HEIGHT) - row * _BOTTOM
        axes = figure.add_axes((x / width, y / height, axes_width / width, _HEIGHT / height))
        label(axes, name)
        all_axes.append(axes)
    place_legends(figure, legends)
    return figure, all_axes


def label(axes: "Axes", name: str) -> None:
    """Write a small label over the left end of axes."""
    text = axes.annotate(name, (0, 1), (0, 4), xycoords="axes fraction")
    text.set(parse_math=False, fontweight="bold", color=INK, annotation_clip=False)
    text.anncoords = "offset points"


def place_legends(figure: "Figure", legends: Sequence[Legend]) -> None:
    """Put legends one below the other at the lower end of a figure."""
    width, height = figure.get_size_inches()
    top = sum(legend.height(width) for legend in legends)
    for legend in legends:
        drawn = figure.legend(
            legend.handles, legend.words, ncols=legend.columns(width), loc="upper center",
            bbox_to_anchor=(0.5, top / height), frameon=False, borderpad=0, borderaxespad=0,
            labelspacing=0.25, handlelength=2.6, columnspacing=1.4, handletextpad=0.6,
        )  # fmt: skip
        for text in drawn.get_texts():
            text.set_parse_math(False)
        top -= legend.height(width)


def inner(axes: "Sequence[Axes]") -> None:
    """Leave the labels of shared axes to those at the left and below."""
    across = columns_of(len(axes))
    for number, one in enumerate(axes):
        if number % across:
            one.set_ylabel("")
            one.tick_params(labelleft=False)
        if number + across < len(axes):
            one.set_xlabel("")


def marked(line: "Line2D", number: int) -> "Line2D":
    """Give a line the marker of series `number`, counted from 1, at a few of its points."""
    import numpy as np

    marker = MARKERS[(number - 1) % len(MARKERS)]
    line.set(marker=marker, markersize=_SIZES.get(marker, 3.4), markeredgewidth=0)
    line.set_markevery(max(1, math.ceil(len(np.atleast_1d(line.get_xdata())) / _MOST_MARKS)))
    return line


def mark_series(axes: "Axes") -> None:
    """Give each numbered line of axes its marker."""
    lines = (line for line in axes.lines if line.get_gid() == f"{MARK}series")
    for number, line in enumerate(lines, 1):
        marked(line, number)


def opened(line: "Line2D") -> "Line2D":
    """Draw the markers of a line open, as those of ceilings are."""
    line.set(markerfacecolor="white", markeredgewidth=0.9)
    return line


def offset_legend(offsets: Sequence[int]) -> Legend:
    """Return the legend of offsets: their colour and marker."""
    handles = [marked(legend_key(color=ink(offset), linewidth=1.4), offset) for offset in offsets]
    return Legend(handles, [f"t+{offset}" for offset in offsets])


def run_legend(names: Mapping[int, str]) -> Legend:
    """Return the legend of runs, counted from 0: their colour, line style and marker."""
    return Legend([_of_series(n, ink(n + 1)) for n in names], list(names.values()))


def number_legend(names: Mapping[str, str]) -> Legend:
    """Return the legend of runs that go by numbers."""
    handles = [legend_key(linestyle="none", marker=f"${n}$", markeredgewidth=0) for n in names]
    for handle, number in zip(handles, names, strict=True):
        handle.set_markersize(3.6 * len(number) + 0.6)
    return Legend(handles, list(names.values()))


def kind_legend(words: Mapping[str, str]) -> Legend:
    """Return the legend of line kinds by their words."""
    return Legend([_of_kind(kind) for kind in words], list(words.values()))


def series_legend(names: Sequence[str], words: Mapping[str, str]) -> Legend:
    """Return the legend of numbered series and of line kinds."""
    handles = [*(_of_series(n, INK) for n, _ in enumerate(names)), *map(_of_kind, words)]
    return Legend(handles, [*drawable(names), *words.values()])


def thin(line: "Line2D") -> None:
    """Draw the unigram floor as a thin line: without colour its dots would be another floor's."""
    line.set(linestyle="solid", linewidth=0.6, alpha=0.8)


def legend_key(**style: Any) -> "Line2D":
    """Return a handle of a legend: a line, in the colour of text unless told another."""
    from matplotlib.lines import Line2D

    return Line2D([0], [0], **({"color": INK} | style))


def _of_series(number: int, colour: str) -> "Line2D":
    dashes = DASHES[number % len(DASHES)]
    return marked(legend_key(color=colour, linewidth=1.4, linestyle=dashes), number + 1)


def _of_kind(kind: str) -> "Artist":
    from matplotlib.patches import Patch

    if kind == "band":
        return Patch(facecolor=INK, alpha=0.2, linewidth=0)
    if kind == "estimate":
        return Patch(facecolor="none", edgecolor=INK, linewidth=0, hatch="////////")
    if kind in {"filled", "open"}:
        mark = marked(legend_key(linestyle="none"), 1)
        return mark if kind == "filled" else opened(mark)
    if kind == "interval":
        return legend_key(linestyle="none", marker="|", markersize=6)
    handle = legend_key(linewidth=1.4 if kind == "probe" else 0.9)
    handle.set(linestyle=KIND_DASHES.get(kind, "solid"))
    if kind == "random":
        handle.set(marker="s", markersize=4, markerfacecolor="none", markeredgewidth=0.8)
    if kind == "unigram":
        thin(handle)
    return handle
