"""Figures of the page of a study of heads: dots with intervals, learning curves, layers read."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from probekit.reports.components.axes import one_panel
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.numbers import METRICS, Metric, known
from probekit.reports.components.rows import Row
from probekit.reports.heads.panels import (
    Dots,
    draw_dots,
    draw_learning,
    draw_sweep,
    learned,
    score_dots,
    scores_at,
    strategies_of,
    sweep_rows,
    validated,
)
from probekit.reports.heads.tables import READOUTS, domains, in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _AXIS = 0.3, 0.62  # inches: a row of dots; the axis below them with what is around


def strategy_figures(document: Row) -> list[PageFigure]:
    """Return dot plots of cross-entropy and top-5 for each offset, of the first domain."""
    domain = domains(document["scores"])[0]
    figures = []
    for offset in sorted({row["offset"] for row in document["scores"]}):
        for metric in (METRICS["nats"], METRICS["top5"]):
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
                        partial(_dots, dots, len(strategies_of(document))),
                        title=metric.label,
                        note=_better(metric),
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


def _dots(dots: Dots, count: int) -> "Figure":
    from seaborn import despine

    # Names are not drawn: they are text of the run, and too long for a narrow page.
    height = _AXIS + _ROW * (count + 0.2)
    draw = partial(draw_dots, dots=dots, count=count)
    figure = one_panel(draw, (4.6, height), (0.06, 0.97, 0.98, (_AXIS - 0.1) / height))
    despine(figure, left=True)
    return figure


def learning_figures(document: Row) -> list[PageFigure]:
    """Return the validation curves of all strategies, a figure an offset."""
    figures = []
    for offset in validated(document):
        draw = partial(_draw_learning, document=document, offset=offset)
        last = {name: points[-1][1] for name, points in learned(document, offset).items()}
        ends = ", ".join(f"{in_words(name)} {nats:.3f}" for name, nats in last.items())
        message = f"Cross-entropy on the validation text at the last evaluation: {ends} nats"
        figures.append(PageFigure(f"l{offset}", message, _panel(draw), title=f"t+{offset}"))
    return figures


def _draw_learning(axes: "Axes", document: Row, offset: int) -> None:
    from matplotlib.ticker import MaxNLocator

    draw_learning(axes, document, offset)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def sweep_figures(document: Row) -> list[PageFigure]:
    """Return heads and linear probes by the layer read: cross-entropy and top-1."""
    if not document["sweep"]:
        return []
    domain = domains(document["sweep"])[0]
    figures = []
    for metric in (METRICS["nats"], METRICS["top1"]):
        draw = partial(draw_sweep, document=document, domain=domain, metric=metric)
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
                _panel(draw),
                title=metric.label,
                note=_better(metric),
            )
        )
    return figures


def _panel(draw: "Callable[[Axes], None]") -> "Callable[[], Figure]":
    """Return what draws a figure of one panel, a little lower than those of an analysis."""
    return partial(one_panel, draw, (4.6, 3.2), (0.13, 0.96, 0.97, 0.14))
