"""What a page can hold: metrics that say least new are left out of very large runs."""

from probekit.reports.numbers import METRICS, Metric

MOST_POINTS = 12_000  # of curves: about 60 bytes a point with band and lens, 0.7 MB
MOST_CELLS = 9_000  # of maps: about 90 bytes a cell, 0.8 MB
# Nats are bits up to a constant of the offset; top-5 runs close to top-1.
_FIRST_TO_GO = ("nats", "top5")


def fitting(each: int, most: int) -> tuple[Metric, ...]:
    """Return the metrics shown where one of them costs `each` and all may cost `most`.

    Top-1 and bits are always shown.

    >>> [metric.name for metric in fitting(10, 30)]
    ['top1', 'top5', 'bits']
    """
    kept = dict(METRICS)
    for name in _FIRST_TO_GO:
        if len(kept) * each > most:
            del kept[name]
    return tuple(kept.values())
