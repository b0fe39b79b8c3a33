"""Figures of the page of a study of heads: dots with intervals, learning curves, layers read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from probekit.reports.components.numbers import METRICS, Metric, known
from probekit.reports.components.rows import Row
from probekit.reports.components.svg import INK, inline
from probekit.reports.heads.panels import (
    Dots,
    draw_dots,
    draw_learning,
    draw_sweep,
    learned,
    order,
    read,
    score_dots,
    scored,
    validated,
)
from probekit.reports.heads.tables import READOUTS, domains, named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _AXIS = 0.3, 0.62  # inches: a row of dots; the axis below them with what is around


@dataclass(frozen=True)
class Picture:
    """A figure and what goes with it.

    Attributes:
        title: What it is of.
        message: What it shows, in words.
        svg: The inline SVG.
        offset: The offset that it is of.
        better: Which way is better, in a word; empty if the title says it.
    """

    title: str
    message: str
    svg: str
    offset: int
    better: str = ""


def strategy_figures(document: Row) -> list[Picture]:
    """Return dot plots of cross-entropy and top-5 for each offset, of the first domain."""
    domain = domains(document["scores"])[0]
    found = []
    for offset in sorted({row["offset"] for row in document["scores"]}):
        for metric in (METRICS["nats"], METRICS["top5"]):
            rows = _known(scored(document, domain, offset), metric)
            if rows:
                best = _best(rows, metric)
                message = f"Best at t+{offset}: {named(best['strategy'])}, "
                message += metric.text(best[metric.name])
                dots = score_dots(document, (domain, offset), metric)
                draw = partial(_dots, dots, len(order(document)))
                svg = inline(draw, f"s{offset}{metric.name}-")
                found.append(Picture(metric.label, message, svg, offset, _better(metric)))
    return found


def _known(rows: Sequence[Row], metric: Metric) -> list[Row]:
    return [row for row in rows if known(row.get(metric.name)) is not None]


def _best(rows: Sequence[Row], metric: Metric) -> Row:
    return (max if metric.rising else min)(rows, key=lambda row: float(row[metric.name]))


def _better(metric: Metric) -> str:
    return "higher is better" if metric.rising else "lower is better"


def _dots(dots: Dots, count: int) -> "Figure":
    from matplotlib.figure import Figure
    from seaborn import despine

    # Names are not drawn: they are text of the run, and too long for a narrow page.
    height = _AXIS + _ROW * (count + 0.2)
    figure = Figure(figsize=(4.6, height))
    figure.subplots_adjust(left=0.06, right=0.97, top=0.98, bottom=(_AXIS - 0.1) / height)
    axes = figure.add_subplot()
    draw_dots(axes, dots, count)
    despine(ax=axes, left=True)
    return figure


def learning_figures(document: Row) -> list[Picture]:
    """Return the validation curves of all strategies, a figure an offset."""
    found = []
    for offset in validated(document):
        draw = partial(draw_learning, document=document, offset=offset)
        last = {name: points[-1][1] for name, points in learned(document, offset).items()}
        said = ", ".join(f"{named(name)} {nats:.3f}" for name, nats in last.items())
        message = f"Cross-entropy on the validation text at the last evaluation: {said} nats"
        found.append(Picture(f"t+{offset}", message, inline(_panel(draw), f"l{offset}-"), offset))
    return found


def sweep_figures(document: Row) -> list[Picture]:
    """Return heads and linear probes by the layer read: cross-entropy and top-1."""
    if not document["sweep"]:
        return []
    domain = domains(document["sweep"])[0]
    found = []
    for metric in (METRICS["nats"], METRICS["top1"]):
        draw = partial(draw_sweep, document=document, domain=domain, metric=metric)
        said = []
        for readout, rows in read(document, domain):
            # As everywhere: chosen on validation text, told of test text.
            best = min(_known(rows, metric), key=lambda row: float(row["validation_nats"]))
            value = metric.text(best[metric.name])
            said.append(f"{READOUTS[readout]} best at layer {best['layer']} by validation, {value}")
        svg = inline(_panel(draw), f"w{metric.name}-")
        found.append(Picture(metric.label, "; ".join(said), svg, 2, _better(metric)))
    return found


def _panel(draw: "Callable[[Axes], None]") -> "Callable[[], Figure]":
    """Return what draws a figure of one panel."""

    def figure() -> "Figure":
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
        from seaborn import despine

        found = Figure(figsize=(4.6, 3.2))
        found.subplots_adjust(left=0.13, right=0.96, top=0.97, bottom=0.14)
        axes = found.add_subplot()
        axes.xaxis.set_major_locator(MaxNLocator(5))
        draw(axes)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.grid(axis="y", color=INK, alpha=0.1, linewidth=0.6)
        axes.set_axisbelow(True)
        despine(ax=axes)
        return found

    return figure
