"""Axes of figures: their size, labels, ticks and grid, the same on every page and in print."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from probekit.reports.components.svg import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

TICK_STEPS = (1.0, 2.0, 5.0, 10.0)  # of the first digit
SIZE = (4.6, 3.4)  # inches
EDGES = (0.125, 0.91, 0.975, 0.135)  # left, right, top and bottom of the axes, shares of the size


def one_panel(
    draw: "Callable[[Axes], object]",
    size: tuple[float, float] = SIZE,
    edges: tuple[float, float, float, float] = EDGES,
) -> "Figure":
    """Return a figure with one panel.

    Args:
        draw: Draws the panel.
        size: Width and height in inches.
        edges: Left, right, top and bottom of the axes, as shares of the size.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    left, right, top, bottom = edges
    figure.subplots_adjust(left=left, right=right, top=top, bottom=bottom)
    draw(figure.add_subplot())
    return figure


def dress(axes: "Axes", x_label: str, y_label: str, steps: Sequence[float] = TICK_STEPS) -> None:
    """Label axes, rule them across at ticks of these steps, and leave out the frame."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label, parse_math=False)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=steps))
    rule(axes)


def rule(axes: "Axes") -> None:
    """Rule axes across, behind what is drawn, and leave out the frame."""
    from seaborn import despine

    axes.grid(axis="y", color=INK, alpha=0.1, linewidth=0.6)
    axes.set_axisbelow(True)
    despine(ax=axes)


def whole_ticks(axes: "Axes") -> None:
    """Put at most eight ticks below axes, at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def mark_alone(line: "Line2D") -> None:
    """Mark points of a line that have no neighbour: no stroke would show them."""
    there = (~np.isnan(np.asarray(line.get_ydata(), dtype=float))).tolist()
    around = zip([False, *there], there, [*there[1:], False], strict=False)
    alone = [i for i, (before, here, after) in enumerate(around) if here and not before | after]
    if alone:
        line.set(marker="o", markersize=4, markevery=alone)


def span_of(values: Iterable[float], room: float, alone: float = 0.0) -> tuple[float, float]:
    """Return the range of values that are no NaN, with room below and above; 0 to 1 without any.

    Args:
        values: What is drawn.
        room: Room at either end, a share of the range.
        alone: The same where all values are equal, a share of their size; 0 stands for 1.0.

    >>> span_of([1.0, float("nan"), 3.0], room=0.5)
    (0.0, 4.0)
    """
    there = [value for value in values if not math.isnan(value)]
    if not there:
        return (0.0, 1.0)
    low, high = min(there), max(there)
    margin = room * (high - low) or alone * abs(high) or 1.0
    return low - margin, high + margin
