"""The figures of a study of heads for print, each with its numbers."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from probekit.readout import LINEAR
from probekit.reports.components.axes import TICK_STEPS
from probekit.reports.components.colours import DASHES, offset_colours
from probekit.reports.components.numbers import METRICS, Metric
from probekit.reports.components.rows import Row
from probekit.reports.components.svg import MARK
from probekit.reports.heads.panels import (
    Dots,
    difference_dots,
    draw_dots,
    draw_learning,
    draw_sweep,
    learned,
    probe_on_validation,
    score_dots,
    scores_at,
    strategies_of,
    sweep_rows,
    sweep_style,
    validated,
)
from probekit.reports.heads.tables import NAMES, READOUTS, domains, in_figures, require_study
from probekit.reports.publication.export import PRINT_INK, Drawing, drawable
from probekit.reports.publication.layout import (
    Legend,
    grid,
    inner,
    kind_legend,
    legend_key,
    marked,
    offset_legend,
    opened,
    run_legend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LETTER = 0.06  # width of a letter of a strategy's name, inches
PanelKey = tuple[str, int]  # domain and offset


def heads_drawings(document: Row) -> Iterator[Drawing]:
    """Yield every figure of a study of heads; none is drawn before it is asked for."""
    require_study(document)
    offsets = sorted({row["offset"] for row in document["scores"]})
    inks = (PRINT_INK, *offset_colours(max(2, *offsets))[0])
    places = [(domain, offset) for offset in offsets for domain in domains(document["scores"])]
    places = [place for place in places if scores_at(document, *place)]
    for name in ("nats", "top1", "top5"):
        made = {place: score_dots(document, place, METRICS[name]) for place in places}
        yield _strategies(document, made, f"strategies-{name}", METRICS[name], inks)
    for name in ("nats", "top5"):
        made = {place: difference_dots(document, place, METRICS[name]) for place in places}
        made = {place: dots for place, dots in made.items() if dots.points}
        if made:
            yield _strategies(document, made, f"differences-{name}", METRICS[name], inks)
    if validated(document):
        yield _learning(document)
    if document["sweep"]:
        for name in ("nats", "top1"):
            yield _sweep(document, METRICS[name], inks)


def _strategies(
    document: Row, made: Mapping[PanelKey, Dots], name: str, metric: Metric, inks: Sequence[str]
) -> Drawing:
    kind = name.partition("-")[0].removesuffix("s")
    rows = [
        {
            "kind": kind, "domain": domain, "positions": "marginal", "offset": offset,
            "strategy": strategy, "metric": metric.name, "unit": _unit(metric, kind),
            "value": value, "low": low, "high": high,
        }
        for (domain, offset), dots in made.items()
        for strategy, (_, value, low, high) in dots.points.items()
    ]  # fmt: skip
    return Drawing(name, partial(_dots_figure, made, strategies_of(document)), rows, inks)


def _unit(metric: Metric, kind: str) -> str:
    return "points" if kind == "difference" and metric.scale == 100 else metric.suffix.strip()


def _dots_figure(made: Mapping[PanelKey, Dots], strategies: Sequence[str]) -> "Figure":
    """Draw a panel a domain and offset, a row a strategy."""
    several = len({domain for domain, _ in made}) > 1
    names = [f"t+{k}, {domain}" if several else f"t+{k}" for domain, k in made]
    offsets = sorted({offset for _, offset in made})
    rows = _rows(strategies)
    legends = [_dot_legend(made), *([offset_legend(offsets)] if len(offsets) > 1 else [])]
    figure, every = grid(names, legends, right=0.1, left=0.1 + _LETTER * max(map(len, rows)))
    for axes, dots in zip(every, made.values(), strict=True):
        draw_dots(axes, dots, rows)
        for line in axes.lines:
            if line.get_gid() == f"{MARK}dot":
                hollow = line.get_markerfacecolor() == "none"
                marked(line, dots.offset).set_markersize(line.get_markersize() + 1)
                if hollow:
                    opened(line)
        _bare(axes)
    inner(every)
    return figure


def _rows(strategies: Sequence[str]) -> list[str]:
    """Return what rows of strategies are called; names that are not ours as far as they fit."""
    others = [name for name in strategies if name not in NAMES]
    words = dict(zip(others, drawable(others), strict=True))
    called = zip(strategies, in_figures(strategies), strict=True)
    return [words.get(name, short) for name, short in called]


def _shown(strategies: Sequence[str]) -> list[str]:
    """Return the strategies in words; names that are not ours as far as a figure can hold them."""
    others = [name for name in strategies if name not in NAMES]
    words = NAMES | dict(zip(others, drawable(others), strict=True))
    return [words[name] for name in strategies]


def _dot_legend(made: Mapping[PanelKey, Dots]) -> Legend:
    legend = kind_legend({"filled": "with heads", "open": "the model itself"})
    handles, words = list(legend.handles), list(legend.words)
    if any(dots.line is not None for dots in made.values()):
        handles.append(legend_key(linewidth=0.9, alpha=0.7, linestyle=DASHES[1]))
        words.append("the baseline")
    if any(dots.probe is not None for dots in made.values()):
        handles.append(_probe_key())
        words.append(READOUTS[LINEAR])
    return Legend([*handles, legend_key(linewidth=1.5)], [*words, "95 % interval"])


def _probe_key() -> Any:
    return legend_key(linewidth=0.9, alpha=0.7, linestyle=DASHES[2])


def _bare(axes: "Axes") -> None:
    from seaborn import despine

    despine(ax=axes, left=True)
    axes.tick_params(axis="y", length=0)


def _learning(document: Row) -> Drawing:
    names = [row["strategy"] for row in document["training"]]
    offsets = validated(document)
    rows = [
        {
            "strategy": strategy, "part": "validation", "offset": offset, "tokens": tokens,
            "metric": "nats", "unit": "nats", "value": nats,
        }
        for offset in offsets
        for strategy, points in learned(document, offset).items()
        for tokens, nats in points
    ]  # fmt: skip
    probes = {k: nats for k in offsets if (nats := probe_on_validation(document, k)) is not None}
    # It is fitted to its minimum, not step by step.
    rows += [
        rows[0] | {"strategy": LINEAR, "offset": k, "tokens": math.nan, "value": nats}
        for k, nats in probes.items()
    ]
    panels = {f"t+{k}": partial(_learned, document, k) for k in offsets}
    legends = partial(_learning_legend, names, bool(probes))
    inks = (PRINT_INK, *offset_colours(max(len(names), 1))[0])
    return Drawing("learning", partial(_panels, panels, legends, scales=True), rows, inks)


def _learned(document: Row, offset: int, axes: "Axes") -> None:
    names = [row["strategy"] for row in document["training"]]
    draw_learning(axes, document, offset, TICK_STEPS)
    curves = [line for line in axes.lines if line.get_gid() != f"{MARK}probe"]
    for name, line in zip(learned(document, offset), curves, strict=True):
        marked(line, names.index(name) + 1)


def _learning_legend(names: Sequence[str], with_probe: bool) -> list[Legend]:
    runs = run_legend(dict(enumerate(_shown(names))))
    return [runs, Legend([_probe_key()], [READOUTS[LINEAR]])] if with_probe else [runs]


def _sweep(document: Row, metric: Metric, inks: Sequence[str]) -> Drawing:
    drawn_domains = domains(document["sweep"])
    rows = [
        {
            "domain": domain, "offset": row["offset"], "readout": readout, "layer": row["layer"],
            "metric": metric.name, "unit": metric.suffix.strip(),
            **dict(zip(("value", "low", "high"), metric.with_ends(row), strict=True)),
        }
        for domain in drawn_domains
        for readout, readout_rows in sweep_rows(document, domain)
        for row in readout_rows
    ]  # fmt: skip
    panels = {
        domain: partial(
            draw_sweep, document=document, domain=domain, metric=metric, steps=TICK_STEPS
        )
        for domain in drawn_domains
    }
    return Drawing(f"sweep-{metric.name}", partial(_panels, panels, _sweep_legend), rows, inks)


def _sweep_legend() -> list[Legend]:
    band = kind_legend({"band": "95 % interval"})
    lines = []
    for readout in READOUTS:
        colour, dashes = sweep_style(readout)
        style = {"linestyle": dashes, "linewidth": 1.5, "marker": "o", "markersize": 3}
        lines.append(legend_key(color=colour, **style))
    return [Legend([*lines, *band.handles], [*READOUTS.values(), *band.words])]


def _panels(
    panels: "Mapping[str, Callable[[Axes], None]]",
    legends: Callable[[], list[Legend]],
    scales: bool = False,
) -> "Figure":
    """Draw a panel a name; with `scales`, each on a scale of its own."""
    figure, every = grid(list(panels), legends(), right=0.22 if scales else 0.1)
    for axes, draw in zip(every, panels.values(), strict=True):
        draw(axes)
    if not scales:
        low, high = zip(*(axes.get_ylim() for axes in every), strict=True)
        for axes in every:
            axes.set_ylim(min(low), max(high))
    inner(every)
    for axes in every:
        axes.tick_params(labelleft=scales or axes.get_ylabel() != "")
    return figure
