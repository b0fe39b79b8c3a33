"""Names at the ends of lines, moved apart where they would overlap."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probekit.reports.components.svg import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = 8.8  # points: a figure of 4.6 inches can still be read where it is 360 pixels wide
_GAP = 0.062  # least distance of two labels, share of the axis' height


def end_labels(axes: "Axes", place: float, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write (value, text, id) in a column at their values, each below the one before it.

    Args:
        axes: Whose range of values is set.
        place: Where the column is, share of the axis' width.
        labels: What is written; equal values keep their order.
    """
    low, high = axes.get_ylim()
    gap = min(_GAP, 1.0 / max(len(labels), 1))
    ordered = sorted(labels, key=lambda one: one[0])
    heights = apart([(value - low) / (high - low) for value, _, _ in ordered], gap)
    for height, (_, name, gid) in zip(heights, ordered, strict=True):
        text = axes.text(place, height, name, transform=axes.transAxes, va="center")
        text.set(fontsize=_SIZE if gap == _GAP else "x-small", color=INK, parse_math=False)
        text.set_gid(gid)


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Return ascending places moved until neighbours are a gap apart, within the axis.

    >>> apart([0.5, 0.5, 1.2], 0.1)
    [0.5, 0.6, 1.0]
    """
    moved = list(places)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    for i in range(len(moved) - 1, -1, -1):
        most = 1.0 if i == len(moved) - 1 else moved[i + 1] - gap
        moved[i] = min(moved[i], most)
    return moved
