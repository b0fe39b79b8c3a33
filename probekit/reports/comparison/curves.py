"""Specialization curves of several runs over relative depth, one panel an offset and domain."""

from collections.abc import Sequence
from functools import partial

from probekit.reports.comparison.drawing import DepthPanel, Line, depth_lines
from probekit.reports.comparison.figures import labels
from probekit.reports.comparison.rows import Compared, Place
from probekit.reports.components.axes import span_of
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.numbers import METRICS, Metric, known
from probekit.reports.components.rows import Row

MOST_LAYERS = 41  # a curve; every second layer of 80 shows the same shape
MOST_POINTS = 45_000  # of all curves of the page: about 11 bytes each without a band
BANDED = 3  # runs; the bands of more hide each other
_BPB = Metric(
    "bpb", "Bits per byte", "Bits per byte", "bits per byte", 1.0, 3, " bits per byte", False
)


def curve_metrics(found: Compared) -> tuple[Metric, ...]:
    """Return the metrics that curves are drawn for, as many as a page can hold.

    Only bits per byte where tokenizers differ: all others count tokens.
    """
    if found.mixed:
        return (_BPB,) if _measured(found, _BPB) else ()
    metrics = [METRICS[name] for name in ("top1", "bits", "top5")]
    metrics = [metric for metric in metrics if _measured(found, metric)]
    each = sum(len(thinned(found, place)) for place in found.scores)
    if len(metrics) * each > MOST_POINTS:
        return tuple(metric for metric in metrics if metric.name != "top5")
    return tuple(metrics)


def thinned(found: Compared, place: Place) -> list[Row]:
    """Return the rows of a curve: at most `MOST_LAYERS`, the ends and the best among them."""
    rows = found.curve(place, found.probe(place[0]))
    if len(rows) <= MOST_LAYERS:
        return rows
    step = (len(rows) - 1) / (MOST_LAYERS - 1)
    kept = {round(i * step) for i in range(MOST_LAYERS)}
    for name in ("top1", "bits", "bpb"):
        values = [known(row.get(name)) for row in rows]
        there = [(value, i) for i, value in enumerate(values) if value is not None]
        if there:
            kept.add((min(there) if name == "bpb" else max(there))[1])
    return [rows[i] for i in sorted(kept)]


def is_thinned(found: Compared) -> bool:
    """Return whether layers were left out of any curve."""
    return any(
        len(found.curve(place, found.probe(place[0]))) > MOST_LAYERS for place in found.scores
    )


def curve_figures(found: Compared) -> list[PageFigure]:
    """Return the curves of every metric, domain and offset, each on a scale of its own."""
    return [
        PageFigure(
            f"depth-{metric.name}-{number}-{offset}",
            _message(found, metric, domain, offset),
            partial(depth_lines, panel),
            title=f"t+{offset}",
            group=metric.name,
            domain=domain,
            offset=offset,
        )
        for metric in curve_metrics(found)
        for number, domain in enumerate(found.domains)
        for offset, panel in depth_panels(found, metric, domain).items()
    ]


def depth_panels(found: Compared, metric: Metric, domain: str) -> dict[int, DepthPanel]:
    """Return the curves of a metric and domain by offset, where there are any."""
    panels = {offset: _lines(found, metric, domain, offset) for offset in found.offsets}
    banded = len(found.runs) <= BANDED
    return {
        offset: DepthPanel(metric.label, lines, _span(lines, banded), banded)
        for offset, lines in panels.items()
        if lines
    }


def _measured(found: Compared, metric: Metric) -> bool:
    return any(
        row.get(metric.name) is not None
        for rows in found.scores.values()
        for row in rows
        if row["layer"] is not None
    )


def _lines(found: Compared, metric: Metric, domain: str, offset: int) -> list[Line]:
    names = labels(found)
    lines = []
    for number, run in enumerate(found.runs):
        place = (run, domain, offset)
        rows = [row for row in thinned(found, place) if known(row.get("depth")) is not None]
        if any(known(row.get(metric.name)) is not None for row in rows):
            values, low, high = zip(*map(metric.with_ends, rows), strict=True)
            ceiling = metric.shown(found.ceiling(place))
            depths = [float(row["depth"]) for row in rows]
            lines.append(Line(number, names[number], depths, values, low, high, ceiling))
    return lines


def _span(lines: Sequence[Line], banded: bool) -> tuple[float, float]:
    values = [y for line in lines for y in (*line.values, line.ceiling)]
    values += [y for line in lines for y in (*line.low, *line.high) if banded]
    return span_of(values, room=0.06)


def _message(found: Compared, metric: Metric, domain: str, offset: int) -> str:
    parts = [_run_message(found, metric, (run, domain, offset)) for run in found.runs]
    said = " ".join(part for part in parts if part)
    return f"{domain}, t+{offset}: {metric.short} by relative depth. {said}"


def _run_message(found: Compared, metric: Metric, place: Place) -> str:
    rows = found.curve(place, found.probe(place[0]))
    there = [(v, r) for r in rows if (v := known(r.get(metric.name))) is not None]
    if not there:
        return ""
    best = (max if metric.rising else min)(there, key=lambda pair: pair[0])
    last = there[-1]
    said = (
        f"{place[0]}: {metric.text(best[0])} at layer {best[1]['layer']} of "
        f"{found.model(place[0])['n_layers']}, its best, {metric.bare(last[0])} at the last"
    )
    level = known(found.ceiling(place).get(metric.name))
    return said + ("." if level is None else f"; ceiling {metric.bare(level)}.")
