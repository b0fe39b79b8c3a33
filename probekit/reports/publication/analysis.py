"""The figures of a run for print, each with its numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from probekit.readout import LENS, MODEL
from probekit.reports.analysis.curves import (
    divergence,
    drawn_by,
    of_probes,
    panels,
    positions_of,
    with_share,
)
from probekit.reports.analysis.first_screen import depth_shown
from probekit.reports.analysis.horizon import SERIES, horizon_lines
from probekit.reports.analysis.learning import ROLES, LearningLine, draw_learning, learning_lines
from probekit.reports.analysis.nucleus_size import by_position, point
from probekit.reports.analysis.page_budget import scored_metrics
from probekit.reports.analysis.rows import RunRows, index
from probekit.reports.components.colours import offset_colours
from probekit.reports.components.line_figures import (
    LayerPanel,
    draw_bits,
    draw_depths,
    draw_positions,
)
from probekit.reports.components.numbers import Metric
from probekit.reports.components.rows import ceiling
from probekit.reports.components.svg import MARK
from probekit.reports.publication.export import PRINT_INK, Drawing, drawable
from probekit.reports.publication.layer_maps import map_drawings
from probekit.reports.publication.layout import (
    grid,
    inner,
    kind_legend,
    mark_series,
    marked,
    offset_legend,
    series_legend,
    thin,
)
from probekit.reports.publication.sites import site_drawings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# The figure that stands first.
SPECIALIZATION = "specialization"


def run_drawings(results: Mapping[str, Any]) -> Iterator[Drawing]:
    """Yield every figure of a run; none is drawn before it is asked for."""
    run = index(results)
    inks = (PRINT_INK, *offset_colours(max(run.offsets, default=1))[0])
    if run.probe is not None:
        yield _specialization(run, inks)
    for metric in with_share(run, scored_metrics(run)):
        for positions in positions_of(run, metric):
            yield _curves(run, metric, positions, inks)
    for each in (_divergence, _horizon, _entropy, _learning):
        yield from each(run, inks)
    yield from site_drawings(run, inks)
    yield from map_drawings(run, inks)


def _specialization(run: RunRows, inks: Sequence[str]) -> Drawing:
    """Return the curve that stands first on the page."""
    metric, (domain, positions) = depth_shown(run)
    panel = of_probes(panels(run, metric, positions)[domain])
    found = _layers(SPECIALIZATION, run, (metric, positions), {domain: panel}, inks)
    # A name over the only panel would stand in the way of that of its upper end.
    words = _words(run, {"": panel})
    return replace(
        found, draw=partial(curves_figure, {"": panel}, run.few_offsets, words, drawn_by(metric))
    )


def _curves(run: RunRows, metric: Metric, positions: str, inks: Sequence[str]) -> Drawing:
    by_domain = {name: _printed(panel) for name, panel in panels(run, metric, positions).items()}
    where = "ceiling" if positions == "marginal" else "all"
    name = f"curves-{metric.name.replace('_', '-')}-{where}"
    return _layers(name, run, (metric, positions), by_domain, inks)


def _layers(
    name: str,
    run: RunRows,
    of: tuple[Metric, str],
    by_domain: Mapping[str, LayerPanel],
    inks: Sequence[str],
) -> Drawing:
    metric, positions = of
    rows = [
        {"domain": domain, "positions": positions, "metric": metric.name,
         "unit": metric.suffix.strip(), **row}
        for domain, panel in by_domain.items()
        for row in _curve_rows(run, panel)
    ]  # fmt: skip
    words = _words(run, by_domain)
    draw = partial(curves_figure, by_domain, run.few_offsets, words, drawn_by(metric))
    return Drawing(name, draw, rows, inks)


def _printed(panel: LayerPanel) -> LayerPanel:
    """Keep what the page shows before anything is switched on: the lens of the first offset."""
    first = min((curve.offset for curve in panel.curves), default=1)
    kept = [curve for curve in panel.curves if curve.kind != "lens" or curve.offset == first]
    return LayerPanel(panel.label, kept, panel.levels, panel.span)


def _curve_rows(run: RunRows, panel: LayerPanel) -> Iterator[dict[str, object]]:
    names = {"probe": run.probe}
    for curve in panel.curves:
        band = {"probe": "95 % interval", "random": "lowest and highest seed"}.get(curve.kind, "")
        for points in zip(curve.layers, curve.values, curve.low, curve.high, strict=True):
            if points[1] == points[1]:  # NaN differs from itself
                entries = (
                    curve.kind,
                    names.get(curve.kind, curve.kind),
                    curve.offset,
                    *points,
                    band,
                )
                yield dict(zip(_CURVE_COLUMNS, entries, strict=True))
    for level in panel.levels:
        readout = ceiling(level.offset) if level.kind in {"ceiling", "estimate"} else level.kind
        values = (level.value, level.low, level.high)
        flat = (level.kind, readout, level.offset, "", *values, "")
        yield dict(zip(_CURVE_COLUMNS, flat, strict=True))


_CURVE_COLUMNS = ("kind", "readout", "offset", "layer", "value", "low", "high", "band")


def _words(run: RunRows, by_domain: Mapping[str, LayerPanel]) -> dict[str, str]:
    """Return the words of the line kinds that are drawn, in the order of the legend."""
    rows = [row for key, row in run.scores.items() if key[0] == run.probe]
    seen = ", ".join(sorted({"blind" if row["blind"] else "token-fed" for row in rows}))
    words = {
        "probe": f"{drawable([run.probe or ''])[0]} probe ({seen})",
        "band": "95 % interval",
        "lens": "logit lens",
        "jacobian-lens": "Jacobian lens",
        "mask-token": "mask token",
        "ceiling": "ceiling",
        "estimate": "ceiling, an estimate",
        "skip-bigram": "skip-bigram floor",
        "unigram": "unigram floor",
        "random": "untrained blocks",
    }
    kinds = {curve.kind for panel in by_domain.values() for curve in panel.curves}
    kinds |= {level.kind for panel in by_domain.values() for level in panel.levels}
    first = min(run.offsets, default=1)
    words["lens"] += f" at t+{first}" if len(run.offsets) > 1 else ""
    return {kind: text for kind, text in words.items() if kind in kinds | {"band"}}


def curves_figure(
    by_domain: Mapping[str, LayerPanel],
    offsets: Sequence[int],
    words: Mapping[str, str],
    draw: "Callable[..., None]",
) -> "Figure":
    """Draw curves over layers, a panel a domain, with the legend below."""
    legends = [offset_legend(offsets), kind_legend(words)]
    figure, every = grid(list(by_domain), legends)
    for axes, panel in zip(every, by_domain.values(), strict=True):
        draw(axes, panel)
        _mark_offsets(axes)
    inner(every)
    return figure


def _mark_offsets(axes: "Axes") -> None:
    """Give each offset's probe a marker, and drop what the page hides."""
    for line in axes.lines:
        names = str(line.get_gid()).removeprefix(MARK).split()
        if names[-1] in {"probe", "name"}:
            marked(line, int(names[1].removeprefix("o")))
        elif names[-1] == "unigram":
            thin(line)
    for text in list(axes.texts):
        if str(text.get_gid()).endswith(" label"):
            text.remove()


def _divergence(run: RunRows, inks: Sequence[str]) -> Iterator[Drawing]:
    lens = divergence(run)
    if lens is None:
        return
    rows = [
        {"domain": domain, "positions": lens.positions, "metric": "kl", "unit": "nats",
         "kind": LENS, "readout": LENS, "offset": 1, "layer": layer, "depth": depth,
         "value": value, "low": "", "high": ""}
        for domain, values in lens.series.items()
        for layer, depth, value in zip(lens.layers, lens.depths, values, strict=True)
        if value == value  # noqa: PLR0124  NaN differs from itself
    ]  # fmt: skip
    draw = partial(draw_depths, depths=lens.depths, series=list(lens.series.values()))
    figure = partial(_series_figure, draw, list(lens.series), {})
    yield Drawing("lens-divergence", figure, rows, inks)


def _horizon(run: RunRows, inks: Sequence[str]) -> Iterator[Drawing]:
    lines = dict(zip(SERIES, horizon_lines(run), strict=False))
    if not lines:
        return
    rows = [
        {"domain": run.domains[0], "metric": "bits_given_token", "unit": "bits", "kind": kind,
         "offset": int(offset), "value": value, "low": low, "high": high}
        for kind, points in lines.items()
        for offset, value, low, high in points
    ]  # fmt: skip
    draw = partial(draw_bits, series=list(lines.values()))
    yield Drawing("horizon", partial(_series_figure, draw, list(lines), {}), rows, inks)


def _entropy(run: RunRows, inks: Sequence[str]) -> Iterator[Drawing]:
    parts = by_position(run)
    if not parts:
        return
    rows = [
        {"domain": domain, "positions": "all", "metric": "entropy", "unit": "nats",
         "kind": MODEL, "readout": MODEL, "offset": 1, "position": place,
         "positions_from": row["positions_from"], "positions_to": row["positions_to"],
         "value": value, "low": low, "high": high}
        for domain, parts_of_domain in parts.items()
        for row in parts_of_domain
        for place, value, low, high in (point(row),)
    ]  # fmt: skip
    points = [[point(row) for row in part] for part in parts.values()]
    draw = partial(draw_positions, series=points)
    figure = partial(_series_figure, draw, list(parts), {"band": "95 % interval"})
    yield Drawing("entropy-by-position", figure, rows, inks)


def _learning(run: RunRows, inks: Sequence[str]) -> Iterator[Drawing]:
    lines = learning_lines(run)
    if not lines:
        return
    rows = [
        {"domain": run.domains[0], "positions": "all", "metric": "nats", "unit": "nats",
         "kind": line.role, "offset": line.offset, "n_train": place, "value": value}
        for line in lines
        for place, value in zip(line.places, line.nats, strict=True)
    ]  # fmt: skip
    yield Drawing("learning", partial(_learning_figure, lines), rows, inks)


def _learning_figure(lines: Sequence[LearningLine]) -> "Figure":
    offsets = list(dict.fromkeys(line.offset for line in lines))
    legends = [offset_legend(offsets), series_legend(list(ROLES.values()), {})]
    figure, (axes,) = grid([""], legends, right=0.12)
    draw_learning(axes, lines)
    for line, drawn in zip(lines, axes.lines, strict=True):
        marked(drawn, line.offset)
    return figure


def _series_figure(
    draw: "Callable[[Axes], None]", names: Sequence[str], words: Mapping[str, str]
) -> "Figure":
    """Draw a line a name, and the legend below; a single name stands over the axes."""
    alone = len(names) == 1
    legend = series_legend([] if alone else names, words)
    figure, (axes,) = grid(names if alone else [""], [legend], right=0.12)
    draw(axes)
    mark_series(axes)
    return figure
