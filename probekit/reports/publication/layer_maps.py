"""The map of layers by offsets for print, with its numbers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from probekit.reports.analysis.layer_maps import map_scale
from probekit.reports.analysis.page_budget import scored_metrics
from probekit.reports.analysis.rows import RunRows
from probekit.reports.components.colours import STEPS, map_steps
from probekit.reports.components.numbers import Metric, fixed
from probekit.reports.components.svg import INK, MARK
from probekit.reports.publication.export import COLUMN, Drawing, drawable
from probekit.reports.publication.layout import Legend, label, place_legends

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import BoundaryNorm
    from matplotlib.figure import Figure

_PLAIN = re.compile(r"(?!readout-)[a-z0-9]+(-[a-z0-9]+)*")
_NAN = float("nan")
_ROW, _HEAD, _BELOW, _BAR, _FOOT = 0.19, 0.2, 0.36, 0.09, 0.5  # heights, inches
_LEFT, _RIGHT = 0.42, 0.06  # inches
_MOST_TICKS = 16
_WRITTEN = 9  # layers, the most that leave room for numbers in cells


@dataclass(frozen=True)
class MapGrid:
    """The map of one domain.

    Attributes:
        layers: Layers, ascending.
        offsets: Offsets, ascending.
        values: A row an offset, a value a layer, in shown units; NaN where there is none.
        best: The best layer of each offset, None where it is not marked.
    """

    layers: Sequence[int]
    offsets: Sequence[int]
    values: Sequence[Sequence[float]]
    best: Sequence[int | None]


@dataclass(frozen=True)
class MapScale:
    """The colour scale that all domains of a map share.

    Attributes:
        label: What is drawn, with its unit.
        low: Lower end, in shown units.
        high: Upper end, in shown units.
        rising: True if more is better.
        digits: Digits after the point.
    """

    label: str
    low: float
    high: float
    rising: bool
    digits: int

    def colours(self) -> "tuple[Sequence[tuple[str, str]], BoundaryNorm]":
        """Return (colour, text on it) of each step, and the step of a value; best is darkest."""
        from matplotlib.colors import BoundaryNorm

        light, _ = map_steps()
        low = self.low if self.high > self.low else self.high - 1.0
        borders = [low + (self.high - low) * step / STEPS for step in range(STEPS + 1)]
        return light if self.rising else light[::-1], BoundaryNorm(borders, STEPS, clip=True)


def map_drawings(run: RunRows, inks: Sequence[str]) -> Iterator[Drawing]:
    """Yield the map of every layered readout and metric, a panel a domain."""
    for number, readout in enumerate(run.layered()):
        name = readout if _PLAIN.fullmatch(readout) else f"readout-{number}"
        for metric in scored_metrics(run):
            grids = {domain: _grid(run, readout, metric, domain) for domain in run.domains}
            rows = [
                row
                for domain, grid in grids.items()
                for row in _rows(grid, readout, domain, metric)
            ]
            if rows:
                draw = partial(map_figure, grids, _scale(run, readout, metric))
                yield Drawing(f"map-{name}-{metric.name.replace('_', '-')}", draw, rows, inks)


def _grid(run: RunRows, readout: str, metric: Metric, domain: str) -> MapGrid:
    layers = run.layers(readout)
    where = (domain, "all")
    values = [
        [metric.shown(run.score(readout, layer, k, where)) for layer in layers] for k in run.offsets
    ]
    marks = readout == run.probe
    best = [run.special(k, domain).get("best_layer") if marks else None for k in run.offsets]
    return MapGrid(layers, run.offsets, values, best)


def _scale(run: RunRows, readout: str, metric: Metric) -> MapScale:
    ends = [map_scale(run, readout, metric, domain) for domain in run.domains]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    what = f"{metric.label}, {drawable([readout])[0]}"
    return MapScale(what, low * metric.scale, high * metric.scale, metric.rising, metric.digits)


def _rows(grid: MapGrid, readout: str, domain: str, metric: Metric) -> Iterator[dict[str, object]]:
    row: dict[str, object] = {"domain": domain, "positions": "all", "metric": metric.name}
    row["unit"] = metric.suffix.strip()
    for offset, values, best in zip(grid.offsets, grid.values, grid.best, strict=True):
        for layer, value in zip(grid.layers, values, strict=True):
            if value == value:  # noqa: PLR0124  NaN differs from itself
                kind = "best layer" if layer == best else "layer"
                row |= {"kind": kind, "readout": readout, "offset": offset, "layer": layer}
                yield row | {"value": value, "low": "", "high": ""}


def map_figure(grids: Mapping[str, MapGrid], scale: MapScale) -> "Figure":
    """Draw maps one above the other, their colour scale below."""
    from matplotlib.figure import Figure

    heights = [len(grid.offsets) * _ROW for grid in grids.values()]
    top = height = sum(heights) + len(grids) * _HEAD + _BELOW + _BAR + _FOOT
    figure = Figure(figsize=(COLUMN, height))

    def place(y: float, tall: float) -> "Axes":
        width = (COLUMN - _LEFT - _RIGHT) / COLUMN
        return figure.add_axes((_LEFT / COLUMN, y / height, width, tall / height))

    for tall, name, grid in zip(heights, drawable(list(grids)), grids.values(), strict=True):
        top -= _HEAD + tall
        axes = place(top, tall)
        label(axes, name)
        _cells(axes, grid, scale)
        axes.tick_params(labelbottom=top < _HEAD + _BELOW + _BAR + _FOOT)
    axes.set_xlabel("Layer", labelpad=2)
    _bar(place(_FOOT, _BAR), scale)
    if any(layer is not None for grid in grids.values() for layer in grid.best):
        place_legends(figure, [_ring_legend()])
    return figure


def _cells(axes: "Axes", grid: MapGrid, scale: MapScale) -> None:
    import numpy as np
    from matplotlib.colors import ListedColormap
    from seaborn import despine

    steps, norm = scale.colours()
    colours = ListedColormap([colour for colour, _ in steps])
    mesh = axes.pcolormesh(np.array(grid.values), cmap=colours, norm=norm)
    mesh.set(edgecolor="white", linewidth=0.6, gid=f"{MARK}cells")
    for y, values in enumerate(grid.values):
        for x, value in enumerate(values):
            if value == value:  # noqa: PLR0124  NaN differs from itself
                _cell(axes, (x, y), grid, steps[int(norm(value))][1], _text(grid, value, scale))
    axes.invert_yaxis()
    axes.set_yticks([y + 0.5 for y in range(len(grid.offsets))], [f"t+{k}" for k in grid.offsets])
    every = max(1, -(-len(grid.layers) // _MOST_TICKS))
    shown = range(0, len(grid.layers), every)
    axes.set_xticks([x + 0.5 for x in shown], [str(grid.layers[x]) for x in shown])
    axes.tick_params(length=0, pad=2)
    despine(ax=axes, left=True, bottom=True)


def _text(grid: MapGrid, value: float, scale: MapScale) -> str:
    return fixed(value, min(scale.digits, 2)) if len(grid.layers) <= _WRITTEN else ""


def _cell(axes: "Axes", place: tuple[int, int], grid: MapGrid, ink_on: str, text: str) -> None:
    from matplotlib.patches import Rectangle

    x, y = place
    axes.text(x + 0.5, y + 0.52, text, ha="center", va="center", color=ink_on, fontsize=6)
    if grid.layers[x] == grid.best[y]:
        inset = min(0.45, 0.011 * len(grid.layers))  # about 1.5 points
        ring = Rectangle((x + inset, y + 0.1), 1 - 2 * inset, 0.8, fill=False, linewidth=0.9)
        ring.set(edgecolor=ink_on, gid=f"{MARK}best")
        axes.add_patch(ring)


def _bar(axes: "Axes", scale: MapScale) -> None:
    """Draw the colour scale as one patch a step: a colour bar would be an image."""
    from matplotlib.ticker import MaxNLocator

    steps, norm = scale.colours()
    for (colour, _), left, right in zip(steps, norm.boundaries, norm.boundaries[1:], strict=False):
        axes.axvspan(float(left), float(right), facecolor=colour, edgecolor=colour, linewidth=0.2)
    axes.set_xlim(float(norm.boundaries[0]), float(norm.boundaries[-1]))
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.tick_params(length=2, pad=2)
    axes.set_xlabel(scale.label, labelpad=1.5, color=INK, parse_math=False)


def _ring_legend() -> Legend:
    from matplotlib.patches import Rectangle

    ring = Rectangle((0, 0), 1, 1, fill=False, edgecolor=INK, linewidth=0.9)
    return Legend([ring], ["best layer, chosen on validation text"])
