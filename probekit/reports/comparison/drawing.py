"""The figures over several runs: a quantity by parameters, and curves by relative depth."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.reports.comparison.axis_positions import (
    name_rows,
    places_of,
    share_of,
    step_of,
    ticks_of,
)
from probekit.reports.components.axes import dress, mark_alone, one_panel
from probekit.reports.components.colours import DASHES
from probekit.reports.components.end_labels import end_labels
from probekit.reports.components.line_figures import share_ends
from probekit.reports.components.svg import INK, MARK, ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RunPoint = tuple[
    int, float, float, float
]  # run, counted from 0; value; the interval's ends (or NaN)
_SIZE = (4.6, 3.1)  # inches
SHORT = 8  # letters of a name that stands at a ceiling too
_LETTER = 0.0165  # width of a letter of a run's name, share of the axis' width
_ROW = 0.062  # height of a row of names, share of the axis' height
_DEPTH = "Relative depth (layer / number of blocks)"


@dataclass(frozen=True)
class Trace:
    """One series over runs.

    Attributes:
        ink: Which series' colour it has, 0 for the colour of text.
        kind: "probe" (filled marks), "ceiling" (open marks) or "plain".
        style: Which line style and mark, counted from 0.
        points: One a run.
    """

    ink: int
    kind: str
    style: int
    points: Sequence[RunPoint]


@dataclass(frozen=True)
class SizePanel:
    """A quantity against parameters.

    Attributes:
        label: What is drawn, with its unit.
        sizes: Parameters of each run, ascending.
        names: Name of each run, as it stands in the figure.
        traces: The series.
        ladders: Runs that a line joins, counted from 0, in order of size.
        span: Range of the values.
    """

    label: str
    sizes: Sequence[float]
    names: Sequence[str]
    traces: Sequence[Trace]
    ladders: Sequence[Sequence[int]]
    span: tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A run's curve over relative depth.

    Attributes:
        run: The run, counted from 0.
        name: What stands at its end.
        depths: layer/L, ascending from 0 to 1.
        values: One a depth, in shown units.
        low: Lower ends of the intervals.
        high: Upper ends of the intervals.
        ceiling: The run's ceiling, NaN where there is none.
    """

    run: int
    name: str
    depths: Sequence[float]
    values: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    ceiling: float


@dataclass(frozen=True)
class DepthPanel:
    """Curves of several runs at one offset; `shares` are of what each model knows."""

    label: str
    lines: Sequence[Line]
    span: tuple[float, float]
    banded: bool
    shares: bool = False


def size_figure(panel: SizePanel) -> "Figure":
    """Draw a quantity against parameters; a series of offset k has the classes `o` and `ok`."""
    shares, _ = places_of(panel.sizes)
    rows = name_rows(shares, panel.names, _LETTER)

    def draw(axes: "Axes") -> None:
        draw_sizes(axes, panel)
        for share, row, name in zip(shares, rows, panel.names, strict=True):
            _name(axes, share, row, name)

    return _figure(draw, top=0.98 - 0.8 * _ROW * (max(rows) + 1))


def draw_sizes(axes: "Axes", panel: SizePanel) -> list[float]:
    """Draw a quantity against parameters, and return where each run stands on the axis, 0 to 1."""
    places, ends = places_of(panel.sizes)
    _dress(axes, "Parameters", panel.label, panel.span)
    guides = axes.plot(*_strokes([(place, 0.0, 1.0) for place in places]), color=INK)[0]
    guides.set(transform=axes.get_xaxis_transform(), alpha=0.12, linewidth=0.6)
    step = step_of(places, len(panel.traces))
    for number, trace in enumerate(panel.traces):
        shift = step * (number - (len(panel.traces) - 1) / 2)
        _trace(axes, trace, [place + shift for place in places], panel.ladders)
    ticks = ticks_of(*ends)
    axes.set_xticks([share_of(tick, ends) for tick in ticks], [short_count(t) for t in ticks])
    return places


def depth_lines(panel: DepthPanel) -> "Figure":
    """Draw curves by relative depth; run n, counted from 1, has the classes `r` and `rn`."""
    longest = max((len(line.name) for line in panel.lines), default=0)
    named = 0.02 + _LETTER * longest
    marked = 0.08 + (_LETTER * (longest - 1) if longest <= SHORT else 0.0)
    marked = 0.0 if panel.shares else marked
    ends = [(line, [y for y in line.values if not math.isnan(y)]) for line in panel.lines]

    def draw(axes: "Axes") -> None:
        draw_lines(axes, panel)
        end_labels(
            axes, 1.02, [(ys[-1], line.name, _gid(line.run, "name")) for line, ys in ends if ys]
        )
        lines = [line for line in panel.lines if not math.isnan(line.ceiling)]
        _ceilings(axes, (1.09 if longest <= SHORT else 1.06) + named, lines, longest <= SHORT)

    return _figure(draw, right=0.96 - 0.8 * (named + marked))


def draw_lines(axes: "Axes", panel: DepthPanel) -> None:
    """Draw curves by relative depth with their bands, without names and ceilings."""
    _dress(axes, _DEPTH, panel.label, panel.span)
    for line in panel.lines:
        _line(axes, line, panel.banded)
    if panel.shares:
        share_ends(axes)


def short_count(value: float) -> str:
    """Return a count of parameters as it stands at an axis.

    >>> short_count(400e3), short_count(1.53e6), short_count(7e9)
    ('400K', '1.53M', '7B')
    """
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def _figure(
    draw: "Callable[[Axes], None]", *, top: float = 0.975, right: float = 0.975
) -> "Figure":
    return one_panel(draw, _SIZE, (0.135, right, top, 0.15))


def _dress(axes: "Axes", x_label: str, y_label: str, span: tuple[float, float]) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(*span)
    dress(axes, x_label, y_label)


def _name(axes: "Axes", place: float, row: int, name: str) -> None:
    half = 0.5 * _LETTER * (len(name) + 1)
    text = axes.text(min(max(place, half), 1 - half), 1.02 + _ROW * row, name)
    text.set(transform=axes.get_xaxis_transform(), ha="center", fontsize="small", color=INK)
    text.set(parse_math=False, gid=f"{MARK}name")


_ROOMY = 10  # runs; the marks of more are smaller
_FACES = ("o", "s", "^", "D")


def _trace(
    axes: "Axes", trace: Trace, places: Sequence[float], ladders: Sequence[Sequence[int]]
) -> None:
    colour = ink(trace.ink) if trace.ink else INK
    name = f"{MARK}o o{trace.ink} {trace.kind}" if trace.ink else f"{MARK}{trace.kind}"
    there = {run: (places[run], value) for run, value, _, _ in trace.points}
    for ladder in ladders:
        joined = [there[run] for run in ladder if run in there]
        if len(joined) > 1:
            dashes = (0, (2, 2)) if trace.kind == "ceiling" else DASHES[trace.style % len(DASHES)]
            line = axes.plot(*zip(*joined, strict=True), color=colour, linewidth=0.9)[0]
            line.set(linestyle=dashes, alpha=0.7, gid=f"{name} ladder")
    ends = [(places[run], low, high) for run, _, low, high in trace.points]
    ends = [end for end in ends if not any(map(math.isnan, end))]
    bars = axes.plot(*_strokes(ends), color=colour, linewidth=1.3, clip_on=False)[0]
    bars.set_gid(f"{name} bar")
    marks = axes.plot(*zip(*there.values(), strict=True), linestyle="none", color=colour)[0]
    size = 5.0 if len(places) <= _ROOMY else 3.5
    marks.set(marker=_FACES[trace.style % len(_FACES)], markersize=size, gid=name, clip_on=False)
    if trace.kind == "ceiling":
        marks.set(marker="D", markerfacecolor="none", markeredgewidth=1.0)


def _strokes(ends: Sequence[tuple[float, float, float]]) -> tuple[list[float], list[float]]:
    """Return upright strokes at (place, low, high) as one line with gaps: one path, not many."""
    gap = float("nan")
    places = [at for place, _, _ in ends for at in (place, place, gap)]
    return places, [at for _, low, high in ends for at in (low, high, gap)]


def _line(axes: "Axes", line: Line, banded: bool) -> None:
    colour, name = ink(line.run + 1), f"{MARK}r r{line.run + 1}"
    if banded:
        band = axes.fill_between(line.depths, line.low, line.high, color=colour, alpha=0.13)
        band.set(linewidth=0, gid=f"{name} band")
    drawn = axes.plot(line.depths, line.values, color=colour, linewidth=1.7, clip_on=False)[0]
    drawn.set(linestyle=DASHES[line.run % len(DASHES)], gid=name)
    mark_alone(drawn)


def _ceilings(axes: "Axes", place: float, lines: Sequence[Line], by_name: bool) -> None:
    """Mark each run's ceiling in a column of its own, with the run's name or number."""
    for line in lines:
        mark = axes.plot([place], [line.ceiling], "D", color=ink(line.run + 1), clip_on=False)[0]
        mark.set(markersize=4.5, markerfacecolor="none", markeredgewidth=1.2)
        mark.set(gid=_gid(line.run, "ceiling"), transform=axes.get_yaxis_transform())
    levels = [
        (line.ceiling, line.name if by_name else str(line.run + 1), _gid(line.run, "name"))
        for line in lines
    ]
    end_labels(axes, place + 0.025, levels)


def _gid(run: int, what: str) -> str:
    return f"{MARK}r r{run + 1} {what}"
