"""The map of layers by offsets, as an HTML table: readable, switchable, 100 bytes a cell."""

from collections.abc import Sequence
from dataclasses import dataclass

from probekit.readout import CONCAT, FURTHER, LENS, SKIP_BIGRAM, UNIGRAM
from probekit.reports.analysis.page_budget import MOST_CELLS, fitting, scored_metrics
from probekit.reports.analysis.rows import RunRows
from probekit.reports.components.colours import STEPS
from probekit.reports.components.numbers import DASH, Metric, fixed, interval, known
from probekit.reports.components.rows import Row, ceiling

_FLOORS = (UNIGRAM, SKIP_BIGRAM)
_FEWEST_METRICS = 2  # top-1 and bits
_ALL_LAYERS = CONCAT  # reads all layers at once: a row of its own, beneath the layers


@dataclass(frozen=True)
class MapCell:
    """One cell: the number, its step on the colour scale (None: no colour), exact words."""

    text: str
    step: int | None
    exact: str
    best: bool = False


@dataclass(frozen=True)
class Map:
    """One layer by offset table for a readout, metric and domain."""

    readout: str
    metric: str
    label: str
    what: str
    domain: str
    low: str
    high: str
    rows: Sequence[tuple[int, Sequence[MapCell]]]
    floors: Sequence[tuple[str, Sequence[MapCell]]]


@dataclass(frozen=True)
class Maps:
    """All maps of a page, and what was left out to keep it small.

    Attributes:
        maps: The maps.
        readouts: Readouts that have maps.
        metrics: Metrics that have maps.
        left_out: Readouts that have none.
        every: How many layers there are to each one shown.
    """

    maps: Sequence[Map]
    readouts: Sequence[str]
    metrics: Sequence[Metric]
    left_out: Sequence[str]
    every: int


def build_maps(run: RunRows) -> Maps:
    """Build the map of every layered readout, metric and domain, as many as a page can hold."""
    names = run.layered()
    cells_of_layer = len(run.domains) * len(run.offsets)
    first = cells_of_layer * len(run.layers(names[0])) if names else 0
    # Eighty layers do not fit a screen either; the best ones are always among those shown.
    every = 2 if _FEWEST_METRICS * first > MOST_CELLS else 1
    first //= every
    # The lens stays beside the probe where leaving out a metric makes room for it.
    metrics = fitting(scored_metrics(run), first * min(len(names), 2), MOST_CELLS)
    kept: list[str] = []
    cells = 0
    for name in names:
        cells += len(metrics) * cells_of_layer * (len(run.layers(name)) // every)
        if not kept or cells <= MOST_CELLS:
            kept.append(name)
    maps = [
        _map(run, (name, metric, domain), every)
        for name in kept
        for metric in metrics
        for domain in run.domains
    ]
    return Maps(maps, kept, metrics, [name for name in names if name not in kept], every)


def _layers(run: RunRows, readout: str, domain: str, every: int) -> list[int]:
    """Return every so manieth layer, and with them the key layers of every offset."""
    key = {layer for offset in run.offsets for layer in run.key_layers(offset, domain)}
    return [n for n in run.layers(readout) if n % every == 0 or n in key]


def _map(run: RunRows, about: tuple[str, Metric, str], every: int) -> Map:
    readout, metric, domain = about
    where = (domain, "all")
    grid = {
        layer: [run.score(readout, layer, offset, where) for offset in run.offsets]
        for layer in _layers(run, readout, domain, every)
    }
    low, high = map_scale(run, readout, metric, domain)
    best = {k: run.special(k, domain).get("best_layer") for k in run.offsets}
    rows = [
        (
            layer,
            [
                _cell(row, metric, (low, high), readout == run.probe and best[k] == layer)
                for k, row in zip(run.offsets, rows, strict=True)
            ],
        )
        for layer, rows in grid.items()
    ]
    return Map(
        readout,
        metric.name,
        metric.label,
        run.describe(readout),
        domain,
        metric.text(low),
        metric.text(high),
        rows,
        _levels(run, metric, where),
    )


def map_scale(run: RunRows, readout: str, metric: Metric, domain: str) -> tuple[float, float]:
    """Return the ends of the colour scale of a map, in stored units."""
    where = (domain, "all")
    cells = [(layer, k) for layer in run.layers(readout) for k in run.offsets]
    scored = (known(run.score(readout, *cell, where).get(metric.name)) for cell in cells)
    values = [value for value in scored if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    if (
        readout in (LENS, *FURTHER) and values
    ):  # a lens far below every floor would take the whole scale
        floor = [known(run.score(UNIGRAM, None, k, where).get(metric.name)) for k in run.offsets]
        floors = [value for value in floor if value is not None]
        low, high = _clip((low, high), floors, metric)
    return low, high


def _clip(
    ends: tuple[float, float], floors: Sequence[float], metric: Metric
) -> tuple[float, float]:
    """Begin the scale at the floor on the worse side."""
    low, high = ends
    if not floors:
        return ends
    if metric.rising:
        return (max(low, min(floors)), high) if high > min(floors) else ends
    return (low, min(high, max(floors))) if low < max(floors) else ends


def _levels(
    run: RunRows, metric: Metric, where: tuple[str, str]
) -> list[tuple[str, list[MapCell]]]:
    """Return what reads no single layer, scored on the same positions; the model at t+1."""
    levels = []
    for name in (_ALL_LAYERS, *_FLOORS, ceiling(1)):
        rows = [run.score(name, None, offset, where) for offset in run.offsets]
        if any(rows):
            levels.append((name, [_cell(row, metric, None, False) for row in rows]))
    return levels


def _cell(row: Row, metric: Metric, scale: tuple[float, float] | None, best: bool) -> MapCell:
    value = known(row.get(metric.name)) if row else None
    if value is None:
        return MapCell(DASH, None, "not scored")
    exact = f"{fixed(value * metric.scale, metric.digits + 2)}{metric.suffix}"
    ends = interval(row, metric.name, metric.scale, metric.digits + 1)
    exact += f", 95 % {ends}" if ends else ""
    exact += f", n {row['n_positions']:,}" if row.get("n_positions") is not None else ""
    digits = min(metric.digits, 2)
    step = None if scale is None else _step(value, scale, metric)
    return MapCell(fixed(value * metric.scale, digits), step, exact, best)


def _step(value: float, scale: tuple[float, float], metric: Metric) -> int:
    """Return the step of the colour scale: the last is the best prediction."""
    low, high = scale
    place = (value - low) / (high - low) if high > low else 1.0
    place = place if metric.rising else 1 - place
    return min(STEPS - 1, max(0, int(place * STEPS)))
