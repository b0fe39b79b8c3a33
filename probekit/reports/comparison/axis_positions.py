"""Where runs stand on an axis of parameters, and where their names do."""

import math
from collections.abc import Sequence
from itertools import pairwise

SIDE = 0.014  # distance of what is drawn side by side, share of the axis' width


def places_of(sizes: Sequence[float]) -> tuple[list[float], tuple[float, float]]:
    """Return where runs stand on the axis, and its ends; runs of one size stand side by side."""
    low, high = math.log10(min(sizes)), math.log10(max(sizes))
    room = max(0.09 * (high - low), 0.15)
    ends = (low - room, high + room)
    places: list[float] = []
    for size in sizes:
        place = share_of(size, ends)
        places.append(max(place, places[-1] + 2 * SIDE) if places else place)
    return places, ends


def step_of(places: Sequence[float], series: int) -> float:
    """Return how far apart the series of a run stand, so that no two runs run together."""
    gaps = [after - place for place, after in pairwise(places)]
    return min([SIDE, *(0.7 * gap / series for gap in gaps)])


def share_of(size: float, ends: tuple[float, float]) -> float:
    """Return where a size stands between two powers of ten.

    >>> share_of(100.0, (1.0, 3.0))
    0.5
    """
    return (math.log10(size) - ends[0]) / (ends[1] - ends[0])


def ticks_of(low: float, high: float) -> list[float]:
    """Return ticks at 1, 2 and 5 times powers of ten; powers alone where these are many."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**power for power in powers for m in steps]
        ticks = [tick for tick in ticks if low <= math.log10(tick) <= high]
        if len(ticks) <= 6:
            return ticks
    return ticks[:: math.ceil(len(ticks) / 6)]


def name_rows(places: Sequence[float], names: Sequence[str], letter: float) -> list[int]:
    """Return the row of each name: the lowest, from 0, in which it overlaps no other.

    >>> name_rows([0.2, 0.25, 0.6], ["a", "b", "c"], letter=0.05)
    [0, 1, 0]
    """
    ends: list[float] = []
    rows = []
    for place, name in zip(places, names, strict=True):
        half = 0.5 * letter * (len(name) + 1)
        centre = min(max(place, half), 1 - half)
        row = next((n for n, end in enumerate(ends) if end <= centre - half), len(ends))
        ends[row : row + 1] = [centre + half]
        rows.append(row)
    return rows
