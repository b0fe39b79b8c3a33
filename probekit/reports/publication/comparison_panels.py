"""Figures over several runs for print: legends name runs, and marks tell series without colour."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from probekit.reports.comparison.axis_positions import name_rows
from probekit.reports.comparison.drawing import DepthPanel, Line, SizePanel, draw_lines, draw_sizes
from probekit.reports.components.svg import INK, MARK, ink
from probekit.reports.publication.layout import (
    Legend,
    grid,
    inner,
    kind_legend,
    marked,
    number_legend,
    offset_legend,
    opened,
    run_legend,
    series_legend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LETTER, _ROW = 0.055, 0.12  # width and height of a run's number over the axes, inches
_BESIDE = 0.4  # room beside axes for ceilings and the scale of the next axes, inches
_CEILING = 0.1  # how far ceilings stand from the axes, inches


def offsets_figure(
    panels: Mapping[str, SizePanel], offsets: Sequence[int], runs: Mapping[str, str]
) -> "Figure":
    """Draw a quantity and its ceiling against parameters, a panel a domain.

    Args:
        panels: By domain.
        offsets: Whose colours and marks the legend shows.
        runs: What each run is called, in order of size; of a number, what it stands for.
    """
    legends = [offset_legend(offsets), kind_legend(_words(panels)), *_stand_for(runs)]
    figure, every = grid(list(panels), legends, right=0.06)
    for axes, panel in zip(every, panels.values(), strict=True):
        _draw(axes, panel, runs)
    inner(every)
    return figure


def domains_figure(panel: SizePanel, domains: Sequence[str], runs: Mapping[str, str]) -> "Figure":
    """Draw a quantity against parameters, a series a domain."""
    alone = len(domains) == 1
    words = {"interval": "95 % interval"} if _has_intervals(panel) else {}
    legends = [series_legend([] if alone else domains, words), *_stand_for(runs)]
    figure, (axes,) = grid(domains if alone else [""], legends, right=0.06)
    _draw(axes, panel, runs)
    return figure


def depth_figure(panels: Mapping[int, DepthPanel], runs: Sequence[str], probe: str) -> "Figure":
    """Draw curves over relative depth, a panel an offset, each on a scale of its own.

    Args:
        panels: By offset.
        runs: Short names of all runs, in order.
        probe: What the curves are of, in words.
    """
    lines = [line for panel in panels.values() for line in panel.lines]
    drawn = {line.run: runs[line.run] for line in sorted(lines, key=lambda line: line.run)}
    banded = any(panel.banded for panel in panels.values())
    words = {"probe": probe} | ({"band": "95 % interval"} if banded else {})
    words |= {"open": "ceiling"} if any(not math.isnan(line.ceiling) for line in lines) else {}
    names = [f"t+{offset}" for offset in panels]
    figure, every = grid(names, [run_legend(drawn), kind_legend(words)], right=_BESIDE)
    for axes, panel in zip(every, panels.values(), strict=True):
        draw_lines(axes, panel)
        axes.set_xlabel("Layer / number of blocks")
        curves = [one for one in axes.lines if str(one.get_gid()).startswith(f"{MARK}r ")]
        for curve, line in zip(curves, panel.lines, strict=True):
            marked(curve, line.run + 1)
        _ceilings(axes, panel.lines)
    inner(every)
    for axes in every:
        axes.tick_params(labelleft=True)
    return figure


def _stand_for(runs: Mapping[str, str]) -> list[Legend]:
    return [number_legend(runs)] if all(runs.values()) else []


def _draw(axes: "Axes", panel: SizePanel, runs: Mapping[str, str]) -> None:
    """Draw a quantity, its series marked as in the legend, and the numbers of the runs."""
    places = draw_sizes(axes, panel)
    marks = [line for line in axes.lines if line.get_linestyle() == "None"]
    for line, trace in zip(marks, panel.traces, strict=True):
        marked(line, trace.ink or trace.style + 1).set_markevery(1)
        if trace.kind == "ceiling":
            opened(line)
    _numbers(axes, places, list(runs))


def _numbers(axes: "Axes", places: Sequence[float], numbers: Sequence[str]) -> None:
    """Write what runs are called at the top of the axes, clear of what is drawn."""
    box = axes.get_window_extent()
    width, height = box.width / axes.figure.dpi, box.height / axes.figure.dpi
    rows = name_rows(places, numbers, _LETTER / width)
    low, high = axes.get_ylim()
    axes.set_ylim(low, low + (high - low) / (1 - _ROW / height * (1 + max(rows))))
    for place, row, number in zip(places, rows, numbers, strict=True):
        text = axes.text(place, 1 - _ROW / height * row, number, transform=axes.transAxes)
        text.set(ha="center", va="top", fontsize="small", color=INK)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})


def _ceilings(axes: "Axes", lines: Sequence[Line]) -> None:
    """Mark each run's ceiling beside the axes, open and in the shape of its curve's marks."""
    place = 1 + _CEILING * axes.figure.dpi / axes.get_window_extent().width
    for line in lines:
        if not math.isnan(line.ceiling):
            mark = axes.plot([place], [line.ceiling], color=ink(line.run + 1), clip_on=False)[0]
            opened(marked(mark, line.run + 1))
            mark.set(transform=axes.get_yaxis_transform(), gid=f"{MARK}r r{line.run + 1} ceiling")


def _words(panels: Mapping[str, SizePanel]) -> dict[str, str]:
    """Return the words of the line kinds that are drawn."""
    kinds = {trace.kind for panel in panels.values() for trace in panel.traces}
    words = {"filled": "best probe", "open": "ceiling"} if "ceiling" in kinds else {}
    some = any(map(_has_intervals, panels.values()))
    return words | ({"interval": "95 % interval"} if some else {})


def _has_intervals(panel: SizePanel) -> bool:
    return any(not math.isnan(low) for trace in panel.traces for _, _, low, _ in trace.points)
