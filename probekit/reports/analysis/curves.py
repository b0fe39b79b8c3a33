"""From score rows to the curves of the report, and what each of them says in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from probekit.readout import FURTHER, LENS, MARGINAL, RANDOM, SKIP_BIGRAM, UNIGRAM
from probekit.reports.analysis.page_budget import MOST_POINTS, fitting, scored_metrics
from probekit.reports.analysis.rows import RunRows
from probekit.reports.components.axes import EDGES, SIZE, one_panel, span_of
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.line_figures import (
    Curve,
    LayerPanel,
    Level,
    draw_curves,
    draw_depths,
    draw_shares,
)
from probekit.reports.components.numbers import DASH, Metric, fixed, known
from probekit.reports.components.rows import ceiling
from probekit.reports.components.tables import Cell, Table

_NAN = float("nan")
SHARE = Metric(
    "share", "Share of what is known", "Read of what the model knows (%)",
    "share of what the model knows beyond the floor", 100.0, 0, " %", True,
)  # fmt: skip


def curve_figures(run: RunRows) -> list[PageFigure]:
    """Return one figure for every metric, set of positions and domain."""
    if run.probe is None:
        return []
    return [
        PageFigure(
            f"c{metric.name}{positions[0]}{number}",
            curve_message(run, metric, (domain, positions)),
            partial(one_panel, partial(drawn_by(metric), panel=panel), *_size(run)),
            group=metric.name,
            positions=positions,
            domain=domain,
        )
        for metric in curve_metrics(run)
        for positions in positions_of(run, metric)
        for number, (domain, panel) in enumerate(panels(run, metric, positions).items())
    ]


def positions_of(run: RunRows, metric: Metric) -> tuple[str, ...]:
    """Return the sets of positions that a metric is drawn on: of shares there is one."""
    if metric is not SHARE:
        return run.positions()
    # In runs of earlier versions it is that with a ceiling.
    known = {key[4] for key, row in run.scores.items() if row.get(SHARE.name) is not None}
    return tuple(name for name in reversed(run.positions()) if name in known)[:1]


def drawn_by(metric: Metric) -> "Callable[..., None]":
    """Return what draws the panels of a metric."""
    return draw_shares if metric is SHARE else draw_curves


def _size(run: RunRows) -> tuple[tuple[float, float], tuple[float, float, float, float]]:
    """Return size and edges of a panel, of which three stand side by side where there are three."""
    few = len(run.domains) < 3
    return (SIZE, EDGES) if few else ((3.7, 3.0), (0.155, 0.885, 0.975, 0.155))


def panels(run: RunRows, metric: Metric, positions: str) -> dict[str, LayerPanel]:
    """Return the panel of each domain that has values; all have one scale, to be compared."""
    by_domain = {domain: _panel(run, metric, (domain, positions)) for domain in run.domains}
    span = _span(list(by_domain.values()))
    drawn = {d: replace(p, span=span) for d, p in by_domain.items() if not p.empty}
    return drawn or dict(list(by_domain.items())[:1])


def of_probes(panel: LayerPanel) -> LayerPanel:
    """Return the lines of the probes alone, in their own range."""
    alone = replace(
        panel, curves=[each for each in panel.curves if each.kind == "probe"], levels=()
    )
    return replace(alone, span=_span([alone]))


def curve_metrics(run: RunRows) -> tuple[Metric, ...]:
    """Return the metrics that curves are drawn for, the share of what is known first."""
    panels = len(run.domains) * len(run.positions())
    points = len(_layers(run)) + len(run.contrasted(RANDOM))
    metrics = with_share(run, scored_metrics(run))
    return fitting(metrics, points * len(run.few_offsets) * panels, MOST_POINTS)


def with_share(run: RunRows, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """Return metrics with the share of what is known before them, where it is known."""
    return (SHARE, *metrics) if run.measured(SHARE.name) else metrics


def curve_message(run: RunRows, metric: Metric, where: tuple[str, str]) -> str:
    """Say in words what a panel of curves shows."""
    domain, positions = where
    which = "the positions with a ceiling" if positions == "marginal" else "all test positions"
    parts = [_offset_message(run, metric, offset, where) for offset in run.few_offsets]
    return f"{domain}: {metric.short} of {run.probe} by layer, on {which}. " + " ".join(parts)


def _offset_message(run: RunRows, metric: Metric, offset: int, where: tuple[str, str]) -> str:
    rows = [run.score(run.probe or "", layer, offset, where) for layer in _layers(run)]
    values = [(known(row.get(metric.name)), row) for row in rows]
    scored = [(value, row["layer"]) for value, row in values if value is not None]
    if not scored:
        return f"t+{offset}: not scored."
    value, layer = max(scored) if metric.rising else min(scored)
    first, last = scored[0][0], scored[-1][0]
    text = (
        f"t+{offset}: from {metric.bare(first)} at layer {scored[0][1]} to {metric.text(value)} "
        f"at layer {layer}, its best, and {metric.bare(last)} at layer {scored[-1][1]}"
    )
    for name in (ceiling(offset), SKIP_BIGRAM):
        level = known(run.score(name, None, offset, where).get(metric.name))
        loose = " (an estimate)" if name == MARGINAL and run.is_estimate(offset, where[0]) else ""
        text += "" if level is None else f"; {name} {metric.bare(level)}{loose}"
    return text + _untrained_message(run, metric, offset, where) + "."


def _untrained_message(run: RunRows, metric: Metric, offset: int, where: tuple[str, str]) -> str:
    fits = [run.seeds(RANDOM, layer, offset, where) for layer in run.contrasted(RANDOM)]
    values = [
        value for rows in fits if rows and (value := known(rows[0].get(metric.name))) is not None
    ]
    if not values:
        return ""
    best = max(values) if metric.rising else min(values)
    return f"; the probe behind untrained blocks {metric.bare(best)} at its best"


def _layers(run: RunRows) -> tuple[int, ...]:
    return run.layers(run.probe or "")


def _panel(run: RunRows, metric: Metric, where: tuple[str, str]) -> LayerPanel:
    curves = [
        _curve(run, metric, (kind, name, offset), where)
        for offset in run.few_offsets
        for kind, name in (("probe", run.probe or ""), *((n, n) for n in (LENS, *FURTHER)))
        if run.layers(name) and (kind == "probe" or metric is not SHARE)
    ]
    curves += [
        _untrained(run, metric, offset, where)
        for offset in run.few_offsets
        if run.contrasted(RANDOM, offset) and metric is not SHARE
    ]
    levels = [level for offset in run.few_offsets for level in _levels(run, metric, offset, where)]
    return LayerPanel(metric.label, curves, levels, (0.0, 1.0))


def _curve(
    run: RunRows, metric: Metric, what: tuple[str, str, int], where: tuple[str, str]
) -> Curve:
    kind, name, offset = what
    layers = run.layers(name)
    rows = [run.score(name, layer, offset, where) for layer in layers]
    ends = ([metric.shown(row, end) for row in rows] for end in ("", "_low", "_high"))
    return Curve(kind, offset, layers, *ends)


def _untrained(run: RunRows, metric: Metric, offset: int, where: tuple[str, str]) -> Curve:
    """Return the line of untrained blocks: the run's own seed, the band of all its seeds.

    The control has no line: its targets are not the text's.
    """
    layers = run.contrasted(RANDOM, offset)
    values = [_seeds(run, metric, (RANDOM, layer, offset), where) for layer in layers]
    own_seed = [seeds[0] if seeds else _NAN for seeds in values]
    low, high = ([end(seeds) if len(seeds) > 1 else _NAN for seeds in values] for end in (min, max))
    return Curve(RANDOM, offset, layers, own_seed, low, high)


def _seeds(
    run: RunRows, metric: Metric, what: tuple[str, int, int], where: tuple[str, str]
) -> list[float]:
    """Return the values of a fit in shown units, one a seed, the run's own first."""
    values = (known(row.get(metric.name)) for row in run.seeds(*what, where))
    return [value * metric.scale for value in values if value is not None]


def _levels(run: RunRows, metric: Metric, offset: int, where: tuple[str, str]) -> list[Level]:
    top = "estimate" if offset > 1 and run.is_estimate(offset, where[0]) else "ceiling"
    names = {UNIGRAM: UNIGRAM, SKIP_BIGRAM: SKIP_BIGRAM, ceiling(offset): top}
    if metric.name == "bits_given_token":
        del names[UNIGRAM]  # far below what this counts from, and another line an offset
    rows = ((kind, run.score(name, None, offset, where)) for name, kind in names.items())
    return [
        Level(kind, offset, *metric.with_ends(row))
        for kind, row in rows
        if known(row.get(metric.name)) is not None
    ]


def _span(panels: Sequence[LayerPanel]) -> tuple[float, float]:
    """Return the range of all but lenses, whose lines far below the floor may leave it."""
    unfitted = {LENS, *FURTHER}
    lines = [curve for panel in panels for curve in panel.curves if curve.kind not in unfitted]
    values = [y for curve in lines for y in (*curve.values, *curve.low, *curve.high)]
    values += [level.value for panel in panels for level in panel.levels]
    return span_of(values, room=0.05)


@dataclass(frozen=True)
class Divergence:
    """The lens' divergence by depth.

    Attributes:
        positions: The set of positions that it was measured on.
        layers: Layers, ascending.
        depths: Relative depth of each layer.
        series: KL(lens ‖ model's output) in nats, one a layer, by domain.
    """

    positions: str
    layers: Sequence[int]
    depths: Sequence[float]
    series: Mapping[str, Sequence[float]]


def divergence(run: RunRows) -> Divergence | None:
    """Return KL(lens ‖ model's output) by relative depth, None where the lens was not scored.

    Depth is (layer - 1)/(L - 2) for layers 1 .. L - 1, as the points of figure 2 of Mehra et al.
    2025 are spaced; layer/L where the model has fewer than 3 blocks.
    """
    where = "all" if "all" in {key[4] for key in run.scores if key[0] == LENS} else "marginal"
    paper = depth_is_as_in_paper(run)
    layers = [layer for layer in run.layers(LENS) if not paper or 0 < layer < run.n_layers]
    series = {
        domain: [_kl(run, layer, (domain, where)) for layer in layers] for domain in run.domains
    }
    series = {
        d: values for d, values in series.items() if any(known(v) is not None for v in values)
    }
    if not series:
        return None
    depths = [(n - 1) / (run.n_layers - 2) if paper else n / run.n_layers for n in layers]
    return Divergence(where, layers, depths, series)


def depth_is_as_in_paper(run: RunRows) -> bool:
    """Return whether depth is scaled as in figure 2 of the paper: from 3 blocks on."""
    return run.n_layers > 2


def depth_curve(run: RunRows) -> PageFigure | None:
    """Return the lens' divergence by depth, None where the lens was not scored."""
    lens = divergence(run)
    if lens is None:
        return None
    message = " ".join(_depth_message(d, lens.layers, v) for d, v in lens.series.items())
    draw = partial(draw_depths, depths=lens.depths, series=list(lens.series.values()))
    return PageFigure(
        "kl",
        message,
        partial(one_panel, draw),
        series=tuple(lens.series),
        table=_depth_table(lens),
    )


def _depth_table(lens: Divergence) -> Table:
    """Return the numbers of the lens' divergence."""
    cells = [
        [
            Cell(str(layer)),
            Cell(fixed(lens.depths[i], 2)),
            *(Cell(_nats(values[i])) for values in lens.series.values()),
        ]
        for i, layer in enumerate(lens.layers)
    ]
    return Table("KL divergence in nats", ["Layer", "Relative depth", *lens.series], cells)


def _kl(run: RunRows, layer: int, where: tuple[str, str]) -> float:
    value = known(run.score(LENS, layer, 1, where).get("kl_nats"))
    return _NAN if value is None else value


def _nats(value: float) -> str:
    return DASH if known(value) is None else fixed(value, 3)


def _depth_message(domain: str, layers: Sequence[int], values: Sequence[float]) -> str:
    there = [(n, v) for n, v in zip(layers, values, strict=True) if known(v) is not None]
    (first, start), (last, end) = there[0], there[-1]
    return (
        f"{domain}: the lens differs from the model's output by {fixed(start, 2)} nats at layer "
        f"{first} and by {fixed(end, 2)} nats at layer {last}."
    )
