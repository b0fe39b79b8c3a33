"""Where in a block, for print: bits by layer, a panel an offset, a line a site."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from probekit.reports.analysis.rows import RunRows
from probekit.reports.analysis.sites import BITS, draw_sites, site_lines
from probekit.reports.components.line_figures import Point
from probekit.reports.publication.export import Drawing
from probekit.reports.publication.layout import columns_of, grid, mark_series, series_legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RIGHT, _LEFT = 0.3, 0.55  # inches beside axes, each with a scale of its own


def site_drawings(run: RunRows, inks: Sequence[str]) -> Iterator[Drawing]:
    """Yield the figure of the sites, if several were read."""
    by_offset = site_lines(run)
    if not by_offset:
        return
    rows = [
        {"domain": run.domains[0], "positions": "all", "metric": BITS.name, "unit": "bits",
         "kind": site, "offset": offset, "layer": int(layer), "value": value, "low": low,
         "high": high}
        for offset, lines in by_offset.items()
        for site, points in lines.items()
        for layer, value, low, high in points
    ]  # fmt: skip
    yield Drawing("sites", partial(_figure, by_offset), rows, inks)


def _figure(by_offset: Mapping[int, Mapping[str, Sequence[Point]]]) -> "Figure":
    names = list(next(iter(by_offset.values())))
    legend = series_legend(names, {"band": "95 % interval"})
    figure, every = grid([f"t+{offset}" for offset in by_offset], [legend], _RIGHT, _LEFT)
    for number, (axes, lines) in enumerate(zip(every, by_offset.values(), strict=True)):
        draw_sites(axes, lines)
        mark_series(axes)
        if number % columns_of(len(every)):
            axes.set_ylabel("")
    return figure
