"""Figures of a study of heads: dots with intervals, learning curves, curves by layer read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from probekit.reports.figures import DASHES
from probekit.reports.heads_tables import READOUTS, domains, named
from probekit.reports.numbers import METRICS, Metric
from probekit.reports.svg import INK, MARK, ink, inline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
OFFSET = 2


@dataclass(frozen=True)
class Picture:
    """A figure and what goes with it.

    Attributes:
        title: What it is of.
        message: What it shows, in words.
        svg: The inline SVG.
        offset: The offset that it is of.
    """

    title: str
    message: str
    svg: str
    offset: int


def strategy_figures(document: Row) -> list[Picture]:
    """Return a dot plot of cross-entropy by strategy for each offset, of the first domain."""
    domain = domains(document["scores"])[0]
    rows = [
        row
        for row in document["scores"]
        if (row["domain"], row["positions"]) == (domain, "marginal")
    ]
    names = list(dict.fromkeys(row["strategy"] for row in document["scores"]))
    rows = [{"number": names.index(row["strategy"]) + 1, **row} for row in rows]
    found = []
    for offset in sorted({row["offset"] for row in rows}):
        own = [row for row in rows if row["offset"] == offset]
        for metric in (METRICS["nats"], METRICS["top5"]):
            best = (max if metric.rising else min)(own, key=lambda row: float(row[metric.name]))
            message = f"Best at t+{offset}: {named(best['strategy'])}, "
            message += metric.text(best[metric.name])
            svg = inline(partial(_dots, own, metric, offset), f"s{offset}{metric.name}-")
            found.append(Picture(metric.title, message, svg, offset))
    return found


def _dots(rows: Sequence[Row], metric: Metric, offset: int) -> "Figure":
    from matplotlib.figure import Figure
    from seaborn import despine

    # Names are not drawn: they are text of the run, and too long for a narrow page.
    figure = Figure(figsize=(4.6, 0.9 + 0.34 * len(rows)))
    figure.subplots_adjust(left=0.06, right=0.97, top=0.97, bottom=0.5 / (0.9 + 0.34 * len(rows)))
    axes = figure.add_subplot()
    for place, row in enumerate(reversed(rows)):
        value, low, high = (
            metric.scale * row[f"{metric.name}{end}"] for end in ("", "_low", "_high")
        )
        bar = axes.plot([low, high], [place, place], color=ink(offset), linewidth=1.6)[0]
        bar.set_gid(f"{MARK}bar")
        axes.plot([value], [place], "o", color=ink(offset), markersize=5)
    axes.set_yticks(range(len(rows)), [str(row["number"]) for row in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(metric.label)
    axes.grid(axis="x", color=INK, alpha=0.1, linewidth=0.6)
    despine(ax=axes, left=True)
    return figure


def learning_figures(document: Row) -> list[Picture]:
    """Return the validation curves of all strategies, a figure an offset."""
    names = [row["strategy"] for row in document["training"]]
    rows = [row for row in document["curves"] if row["part"] == "validation"]
    found = []
    for offset in sorted({row["offset"] for row in rows}):
        own = [row for row in rows if row["offset"] == offset]
        svg = inline(partial(_learning, own, names), f"l{offset}-")
        ends = [(name, _last(own, name)) for name in names if _last(own, name) is not None]
        said = ", ".join(f"{named(name)} {nats:.3f}" for name, nats in ends)
        message = f"Cross-entropy on the validation text at the last evaluation: {said} nats"
        found.append(Picture(f"t+{offset}", message, svg, offset))
    return found


def _last(rows: Sequence[Row], name: str) -> float | None:
    own = [row["nats"] for row in rows if row["strategy"] == name]
    return float(own[-1]) if own else None


def _learning(rows: Sequence[Row], names: Sequence[str]) -> "Figure":
    figure, axes = _panel("Tokens seen", "Validation cross-entropy (nats)")
    for number, name in enumerate(names):
        own = [row for row in rows if row["strategy"] == name]
        xs, ys = [row["tokens"] for row in own], [row["nats"] for row in own]
        line = axes.plot(xs, ys, color=ink(number + 1), linewidth=1.6)[0]
        line.set(linestyle=DASHES[number % len(DASHES)], gid=f"{MARK}s{number + 1}")
    axes.set_xlim(left=0)
    return figure


def sweep_figures(document: Row) -> list[Picture]:
    """Return heads and linear probes by the layer read: cross-entropy and top-1."""
    if not document["sweep"]:
        return []
    domain = domains(document["sweep"])[0]
    rows = [row for row in document["sweep"] if row["domain"] == domain]
    found = []
    for metric in (METRICS["nats"], METRICS["top1"]):
        svg = inline(partial(_sweep, rows, metric), f"w{metric.name}-")
        said = []
        for readout, label in READOUTS.items():
            own = [row for row in rows if row["readout"] == readout]
            best = (max if metric.rising else min)(own, key=lambda row: float(row[metric.name]))
            said.append(f"{label} best at layer {best['layer']}, {metric.text(best[metric.name])}")
        found.append(Picture(metric.title, "; ".join(said), svg, OFFSET))
    return found


def _sweep(rows: Sequence[Row], metric: Metric) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    figure, axes = _panel("Layer read", metric.label)
    for number, readout in enumerate(READOUTS):
        own = sorted((row for row in rows if row["readout"] == readout), key=lambda r: r["layer"])
        layers = [row["layer"] for row in own]
        values, low, high = (
            [metric.scale * row[f"{metric.name}{end}"] for row in own]
            for end in ("", "_low", "_high")
        )
        colour = ink(OFFSET) if readout == "head" else INK
        band = axes.fill_between(layers, low, high, color=colour, alpha=0.13, linewidth=0)
        band.set_gid(f"{MARK}band")
        line = axes.plot(layers, values, color=colour, linewidth=1.7, marker="o", markersize=3)[0]
        line.set(linestyle=DASHES[number], clip_on=False)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure


def _panel(x_label: str, y_label: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
    from seaborn import despine

    figure = Figure(figsize=(4.6, 3.2))
    figure.subplots_adjust(left=0.13, right=0.96, top=0.97, bottom=0.14)
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color=INK, alpha=0.1, linewidth=0.6)
    axes.set_axisbelow(True)
    despine(ax=axes)
    return figure, axes
