"""Figures of the page of a study of heads: dots with intervals, learning curves, layers read."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from probekit.readout import LINEAR
from probekit.reports.components.axes import one_panel
from probekit.reports.components.end_labels import end_labels
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.numbers import METRICS, Metric, known
from probekit.reports.components.rows import Row
from probekit.reports.components.svg import INK, MARK
from probekit.reports.heads.panels import (
    Dots,
    draw_dots,
    draw_learning,
    draw_sweep,
    learned,
    probe_on_validation,
    score_dots,
    scores_at,
    strategies_of,
    sweep_rows,
    validated,
)
from probekit.reports.heads.tables import READOUTS, domains, in_figures, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _AXIS = 0.3, 0.62  # inches: a row of dots; the axis below them with what is around
_NAMED = 0.17  # inches: a row of names of lines
FLOOR, CEILING = "linear probe, the floor", "the model, marginalized"
_WIDTH, _LETTER = 4.6, 0.0155  # of a figure, inches; of a letter, share of it


def strategy_figures(document: Row) -> list[PageFigure]:
    """Return dot plots of bits and top-5 for each offset, of the first domain."""
    domain = domains(document["scores"])[0]
    figures = []
    for offset in sorted({row["offset"] for row in document["scores"]}):
        for metric in (METRICS["bits"], METRICS["top5"]):
            rows = _known(scores_at(document, domain, offset), metric)
            if rows:
                best = _best(rows, metric)
                message = f"Best at t+{offset}: {in_words(best['strategy'])}, "
                message += metric.text(best[metric.name])
                dots = score_dots(document, (domain, offset), metric)
                figures.append(
                    PageFigure(
                        f"s{offset}{metric.name}",
                        message,
                        partial(_dots, dots, in_figures(strategies_of(document))),
                        title=metric.label,
                        note=_better(metric),
                        group=metric.name,
                        offset=offset,
                    )
                )
    return figures


def _known(rows: Sequence[Row], metric: Metric) -> list[Row]:
    return [row for row in rows if known(row.get(metric.name)) is not None]


def _best(rows: Sequence[Row], metric: Metric) -> Row:
    return (max if metric.rising else min)(rows, key=lambda row: float(row[metric.name]))


def _better(metric: Metric) -> str:
    return "higher is better" if metric.rising else "lower is better"


def _dots(dots: Dots, names: Sequence[str]) -> "Figure":
    from seaborn import despine

    marks = [(FLOOR, dots.probe), (CEILING, dots.line)]
    there = [(name, at) for name, at in marks if at is not None]
    above = 0.05 + _NAMED * len(there)
    height = _AXIS + _ROW * (len(names) + 0.2) + above
    left = 0.04 + _LETTER * max(map(len, names))
    draw = partial(draw_dots, dots=dots, names=names)
    edges = (left, 0.97, 1 - above / height, (_AXIS - 0.1) / height)
    figure = one_panel(draw, (_WIDTH, height), edges)
    despine(figure, left=True)
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    for row, (name, at) in enumerate(there):
        # In a row of its own, and towards the middle: no two names meet, and none leaves the axis.
        side = "left" if at < (low + high) / 2 else "right"
        text = axes.annotate(name, (at, 1), (0, 3 + 72 * _NAMED * row), fontsize=8.5, ha=side)
        text.xycoords, text.anncoords = axes.get_xaxis_transform(), "offset points"
        text.set(color=INK, gid=f"{MARK}name")
    return figure


def learning_figures(document: Row) -> list[PageFigure]:
    """Return the validation curves of all strategies, a figure an offset."""
    figures = []
    for offset in validated(document):
        draw = partial(_draw_learning, document=document, offset=offset)
        last = {name: points[-1][1] for name, points in learned(document, offset).items()}
        ends = ", ".join(f"{in_words(name)} {nats:.3f}" for name, nats in last.items())
        message = f"Cross-entropy on the validation text at the last evaluation: {ends} nats"
        names = [*in_figures(list(last)), READOUTS[LINEAR]]
        figures.append(PageFigure(f"l{offset}", message, _panel(draw, names), title=f"t+{offset}"))
    return figures


def _draw_learning(axes: "Axes", document: Row, offset: int) -> None:
    from matplotlib.ticker import MaxNLocator

    draw_learning(axes, document, offset)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    names = [row["strategy"] for row in document["training"]]
    called = dict(zip(names, in_figures(names), strict=True))
    ends = {called[name]: points[-1][1] for name, points in learned(document, offset).items()}
    probe = probe_on_validation(document, offset)
    ends |= {} if probe is None else {READOUTS[LINEAR]: probe}
    _name_lines(axes, ends)


def _name_lines(axes: "Axes", ends: Mapping[str, float]) -> None:
    labels = [(at, name, f"{MARK}name{i}") for i, (name, at) in enumerate(ends.items(), 1)]
    end_labels(axes, 1.02, labels)


def sweep_figures(document: Row) -> list[PageFigure]:
    """Return heads and linear probes by the layer read: cross-entropy and top-1."""
    if not document["sweep"]:
        return []
    domain = domains(document["sweep"])[0]
    figures = []
    for metric in (METRICS["nats"], METRICS["top1"]):
        draw = partial(_draw_sweep, document=document, domain=domain, metric=metric)
        parts = []
        for readout, rows in sweep_rows(document, domain):
            # As everywhere: chosen on validation text, told of test text.
            best = min(_known(rows, metric), key=lambda row: float(row["validation_nats"]))
            value = metric.text(best[metric.name])
            where = f"layer {best['layer']} by validation, {value}"
            parts.append(f"{READOUTS[readout]} best at {where}")
        figures.append(
            PageFigure(
                f"w{metric.name}",
                "; ".join(parts),
                _panel(draw, list(READOUTS.values())),
                title=metric.label,
                note=_better(metric),
            )
        )
    return figures


def _draw_sweep(axes: "Axes", document: Row, domain: str, metric: Metric) -> None:
    draw_sweep(axes, document, domain, metric)
    ends = {READOUTS[name]: rows[-1] for name, rows in sweep_rows(document, domain)}
    _name_lines(axes, {name: metric.with_ends(row)[0] for name, row in ends.items()})


def _panel(draw: "Callable[[Axes], None]", names: Sequence[str]) -> "Callable[[], Figure]":
    """Return what draws a figure of one panel with room for names at the ends of lines."""
    right = 0.96 - _LETTER * max(map(len, names))
    return partial(one_panel, draw, (_WIDTH, 3.2), (0.13, right, 0.97, 0.14))
