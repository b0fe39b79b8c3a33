"""Figures of a measured draft: predicted against measured, speed, what a pass costs."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from probekit.reports.components.axes import dress, one_panel
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.numbers import fixed, known
from probekit.reports.components.rows import Row
from probekit.reports.components.svg import INK, MARK, ink
from probekit.reports.drafting.rows import domains, in_figures, of_domain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _AXIS, _ABOVE = 0.27, 0.55, 0.22  # inches: a row of dots; the axis below; what is above
_WIDTH, _LETTER = 4.9, 0.0145  # of a figure, inches; of a letter, share of it
MEASURED, PREDICTED = 1, 2  # series


def answer_figures(document: Row) -> list[PageFigure]:
    """Return accepted tokens a pass, predicted and measured, and the speed, of the first text."""
    rows = of_domain(document, domains(document)[0])
    if not rows:
        return []
    apart = [
        f"{name} {fixed(row['accepted'], 2)}, predicted {fixed(row['predicted'], 2)}"
        for name, row in zip(in_figures(rows), rows, strict=True)
        if known(row["accepted"]) is not None and known(row["predicted"]) is not None
    ]
    fastest = max(zip(in_figures(rows), rows, strict=True), key=lambda each: each[1]["speed"])
    return [
        PageFigure(
            "accepted",
            f"Accepted tokens a pass: {'; '.join(apart) or 'none predicted'}",
            partial(_dots, rows, "accepted", "predicted", "Drafted tokens accepted a pass"),
            title="Accepted a pass: predicted and measured",
        ),
        PageFigure(
            "speed",
            f"Fastest: {fastest[0]}, {fixed(fastest[1]['speed'], 2)} times greedy decoding",
            partial(_dots, rows, "speed", "flat_speed", "Times as fast as greedy decoding"),
            title="Speed: measured here, and on a flat cost curve",
        ),
    ]


def _dots(rows: Sequence[Row], measured: str, other: str, label: str) -> "Figure":
    names = in_figures(rows)
    height = _AXIS + _ROW * (len(names) + 0.2) + _ABOVE
    left = 0.03 + _LETTER * max(map(len, names))
    edges = (left, 0.97, 1 - _ABOVE / height, (_AXIS - 0.08) / height)
    draw = partial(_draw_dots, rows=rows, names=names, columns=(measured, other), label=label)
    return one_panel(draw, (_WIDTH, height), edges)


def _draw_dots(
    axes: "Axes", rows: Sequence[Row], names: Sequence[str], columns: tuple[str, str], label: str
) -> None:
    dress(axes, "", "")
    axes.set_xlabel(label, loc="right")  # beside long names the axis is short
    measured, other = columns
    for place, row in enumerate(rows, 1):
        _ends(axes, row, measured, place)
        for name, series, filled in ((other, PREDICTED, "none"), (measured, MEASURED, None)):
            value = known(row[name])
            if value is not None:
                dot = axes.plot([value], [place], "o", markersize=6, color=ink(series))[0]
                dot.set(markerfacecolor=filled or ink(series), gid=f"{MARK}{name}")
    if measured == "speed":
        axes.axvline(1.0, color=INK, linewidth=0.9, linestyle=(0, (7, 1.5)))
        text = axes.annotate("greedy decoding", (1.0, 1), (3, 3), textcoords="offset points")
        text.xycoords = axes.get_xaxis_transform()
        text.set(fontsize=8, color=INK)
    else:
        axes.set_xlim(left=0)
    axes.set_yticks(range(1, len(names) + 1), names)
    axes.set_ylim(len(names) + 0.6, 0.4)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=INK, alpha=0.1, linewidth=0.6)
    axes.spines["left"].set_visible(False)


def _ends(axes: "Axes", row: Row, name: str, place: int) -> None:
    low, high = known(row[f"{name}_low"]), known(row[f"{name}_high"])
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=ink(MEASURED), linewidth=1.6)


def cost_figure(document: Row) -> PageFigure | None:
    """Return what a forward pass costs by its tokens; None where it was not measured."""
    costs: Sequence[Row] = document["cost"]
    if not costs:
        return None
    last = costs[-1]
    return PageFigure(
        "cost",
        f"A pass over {last['tokens']} tokens costs {fixed(last['ratio'], 1)} times one over 1",
        partial(
            one_panel, partial(_draw_cost, costs=costs), (_WIDTH, 3.0), (0.12, 0.9, 0.96, 0.17)
        ),
        title="What a forward pass costs by its new tokens",
    )


def _draw_cost(axes: "Axes", costs: Sequence[Row]) -> None:
    dress(axes, "New tokens in the pass", "Time, multiples of a pass over one")
    places = [row["tokens"] for row in costs]
    line = axes.plot(places, [row["ratio"] for row in costs], "-o", color=ink(MEASURED))[0]
    line.set(linewidth=1.6, markersize=4)
    for values, name in ((places, "one by one"), ([1.0] * len(places), "flat, as on a GPU")):
        axes.plot(places, values, color=INK, linewidth=0.9, linestyle=(0, (4, 2)))
        at = (places[-1], values[-1])
        text = axes.annotate(name, at, (-3, 4), textcoords="offset points", ha="right")
        text.set(fontsize=8, color=INK)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
