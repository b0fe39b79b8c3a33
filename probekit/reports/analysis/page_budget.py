"""What a page can hold: metrics that say least new are left out of very large runs."""

from collections.abc import Sequence

from probekit.reports.analysis.rows import RunRows
from probekit.reports.components.numbers import METRICS, Metric

MOST_PAGE = 1_850_000  # bytes; above 2 MB pages are slow to open and hard to send
MOST_POINTS = 6_000  # of curves: about 95 bytes a point with band and lens, 0.6 MB
MOST_CELLS = 5_000  # of maps: about 85 bytes a cell, 0.4 MB
MOST_INSPECTED = 360_000  # bytes of passages: 160 tokens, 9 layers, 4 offsets, 2 readouts whole
LEAST_INSPECTED = 150_000  # what passages get where the rest of the page is large
# Nats, and bits given the token, are bits up to a constant of offset and domain; top-5 runs
# close to top-1; shares of the first text stand on the first screen anyway.
_FIRST_TO_GO = ("nats", "bits_given_token", "top5", "share")


def scored_metrics(run: RunRows) -> tuple[Metric, ...]:
    """Return the metrics that a run has values of."""
    return tuple(metric for metric in METRICS.values() if run.measured(metric.name))


def fitting(metrics: Sequence[Metric], each: int, most: int) -> tuple[Metric, ...]:
    """Return the metrics shown where one of them costs `each` and all may cost `most`.

    Top-1 and bits are always shown.

    >>> [metric.name for metric in fitting(list(METRICS.values()), 10, 30)]
    ['top1', 'top5', 'bits']
    """
    kept = {metric.name: metric for metric in metrics}
    for name in _FIRST_TO_GO:
        if len(kept) * each > most:
            kept.pop(name, None)
    return tuple(kept.values())
