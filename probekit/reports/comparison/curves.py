"""What probes of several runs read over relative depth, one panel an offset and domain."""

from collections.abc import Sequence
from functools import partial

from probekit.reports.analysis.curves import SHARE
from probekit.reports.comparison.drawing import DepthPanel, Line, depth_lines
from probekit.reports.comparison.figures import labels
from probekit.reports.comparison.rows import ComparisonRows, CurveKey
from probekit.reports.components.axes import span_of
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.numbers import METRICS, Metric, known
from probekit.reports.components.rows import Row
from probekit.scoring.rates import ALL

MOST_LAYERS = 41  # a curve; every second layer of 80 shows the same shape
MOST_POINTS = 45_000  # of all curves of the page: about 11 bytes each without a band
BANDED = 3  # runs; the bands of more hide each other
_BPB = Metric(
    "bpb", "Bits per byte", "Bits per byte", "bits per byte", 1.0, 3, " bits per byte", False
)


def curve_metrics(comparison: ComparisonRows) -> tuple[Metric, ...]:
    """Return the metrics that curves are drawn for, as many as a page can hold.

    Only bits per byte where tokenizers differ: all others count tokens.
    """
    if comparison.mixed:
        return (_BPB,) if _measured(comparison, _BPB) else ()
    metrics = [METRICS[name] for name in ("top1", "bits", "top5")]
    metrics = [metric for metric in metrics if _measured(comparison, metric)]
    points = sum(len(thinned(comparison, key)) for key in comparison.scores)
    if len(metrics) * points > MOST_POINTS:
        return tuple(metric for metric in metrics if metric.name != "top5")
    return tuple(metrics)


def thinned(comparison: ComparisonRows, key: CurveKey) -> list[Row]:
    """Return the rows of a curve: at most `MOST_LAYERS`, the ends and the best among them."""
    rows = comparison.curve(key, comparison.probe(key[0]))
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


def is_thinned(comparison: ComparisonRows) -> bool:
    """Return whether layers were left out of any curve."""
    return any(
        len(comparison.curve(key, comparison.probe(key[0]))) > MOST_LAYERS
        for key in comparison.scores
    )


def curve_figures(comparison: ComparisonRows) -> list[PageFigure]:
    """Return the curves of every metric, domain and offset, each on a scale of its own."""
    return [
        figure
        for metric in curve_metrics(comparison)
        for domain in comparison.domains
        for figure in curves_of(comparison, metric, domain)
    ]


def answering(comparison: ComparisonRows) -> list[PageFigure]:
    """Return the figure that answers, of the first domain; none where no probe was scored.

    It is the share of what each model knows that its layers read of the nearest token ahead;
    where that is known of none, the bits over the unigram, and of several tokenizers the bits
    per byte of the next token, which are among `curve_figures`.
    """
    metrics = (_BPB,) if comparison.mixed else (SHARE, METRICS["bits"])
    figures = [
        figure
        for metric in metrics
        for figure in curves_of(comparison, metric, next(iter(comparison.domains), ALL))
    ]
    ahead = [figure for figure in figures if figure.offset != 1]
    return (ahead or figures)[:1]


def curves_of(comparison: ComparisonRows, metric: Metric, domain: str) -> list[PageFigure]:
    """Return the curves of a metric and domain, a figure an offset."""
    return [
        PageFigure(
            f"depth-{metric.name}-{comparison.domains.index(domain)}-{offset}",
            _message(comparison, metric, domain, offset),
            partial(depth_lines, panel),
            title=f"t+{offset}",
            group=metric.name,
            domain=domain,
            offset=offset,
        )
        for offset, panel in depth_panels(comparison, metric, domain).items()
    ]


def depth_panels(comparison: ComparisonRows, metric: Metric, domain: str) -> dict[int, DepthPanel]:
    """Return the curves of a metric and domain by offset, where there are any."""
    panels = {offset: _lines(comparison, metric, domain, offset) for offset in comparison.offsets}
    banded = len(comparison.runs) <= BANDED
    return {
        offset: DepthPanel(
            metric.label, lines, _span(metric, lines, banded), banded, metric is SHARE
        )
        for offset, lines in panels.items()
        if lines
    }


def _measured(comparison: ComparisonRows, metric: Metric) -> bool:
    return any(
        row.get(metric.name) is not None
        for rows in comparison.scores.values()
        for row in rows
        if row["layer"] is not None
    )


def _lines(comparison: ComparisonRows, metric: Metric, domain: str, offset: int) -> list[Line]:
    names = labels(comparison)
    lines = []
    for number, run in enumerate(comparison.runs):
        key = (run, domain, offset)
        rows = [row for row in thinned(comparison, key) if known(row.get("depth")) is not None]
        if any(known(row.get(metric.name)) is not None for row in rows):
            values, low, high = zip(*map(metric.with_ends, rows), strict=True)
            ceiling = metric.shown(comparison.ceiling(key))
            depths = [float(row["depth"]) for row in rows]
            lines.append(Line(number, names[number], depths, values, low, high, ceiling))
    return lines


def _span(metric: Metric, lines: Sequence[Line], banded: bool) -> tuple[float, float]:
    values = [y for line in lines for y in (*line.values, line.ceiling)]
    values += [y for line in lines for y in (*line.low, *line.high) if banded]
    values += [0.0, 100.0] if metric is SHARE else []
    return span_of(values, room=0.06)


def _message(comparison: ComparisonRows, metric: Metric, domain: str, offset: int) -> str:
    parts = [_run_message(comparison, metric, (run, domain, offset)) for run in comparison.runs]
    sentences = " ".join(part for part in parts if part)
    return f"{domain}, t+{offset}: {metric.short} by relative depth. {sentences}"


def _run_message(comparison: ComparisonRows, metric: Metric, key: CurveKey) -> str:
    rows = comparison.curve(key, comparison.probe(key[0]))
    there = [(v, r) for r in rows if (v := known(r.get(metric.name))) is not None]
    if not there:
        return ""
    best = (max if metric.rising else min)(there, key=lambda pair: pair[0])
    last = there[-1]
    sentence = (
        f"{key[0]}: {metric.text(best[0])} at layer {best[1]['layer']} of "
        f"{comparison.model(key[0])['n_layers']}, its best, {metric.bare(last[0])} at the last"
    )
    level = known(comparison.ceiling(key).get(metric.name))
    return sentence + ("." if level is None else f"; ceiling {metric.bare(level)}.")
