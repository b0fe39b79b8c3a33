"""What figures of a study of heads draw, on the page and in print: dots, learning, layers read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probekit.readout import LINEAR
from probekit.reports.components.axes import dress, whole_ticks
from probekit.reports.components.colours import DASHES
from probekit.reports.components.line_figures import Point
from probekit.reports.components.numbers import Metric, known
from probekit.reports.components.rows import Row
from probekit.reports.components.svg import INK, MARK, ink
from probekit.reports.heads.tables import BASE, BASELINE, READOUTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OFFSET = 2  # whose tokens the heads and probes of the sweep predict
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # of the page's ticks
_ROOM = 0.6  # above the first and below the last row of dots, rows


@dataclass(frozen=True)
class Dots:
    """Values of strategies side by side, one row each.

    Attributes:
        label: Of the axis, with the unit.
        offset: Whose colour they have.
        points: By strategy, its place from 1 at the top, its value and the ends of its interval.
        line: The baseline, or None.
        probe: The linear probe of the layer that heads read, or None.
    """

    label: str
    offset: int
    points: Mapping[str, Point]
    line: float | None
    probe: float | None = None


def strategies_of(document: Row) -> list[str]:
    """Return the strategies in the order of their rows of dots."""
    return list(dict.fromkeys(row["strategy"] for row in document["scores"]))


def scores_at(document: Row, domain: str, offset: int) -> list[Row]:
    """Return the scores at the marginalized positions of a domain and an offset."""
    key = (domain, "marginal", offset)
    rows = document["scores"]
    return [row for row in rows if (row["domain"], row["positions"], row["offset"]) == key]


def score_dots(document: Row, place: tuple[str, int], metric: Metric) -> Dots:
    """Return a metric of all strategies, the baseline's and the linear probe's as lines."""
    points = _points(document, scores_at(document, *place), metric)
    line, probe = (points[name][1] if name in points else None for name in (BASELINE, LINEAR))
    return Dots(metric.label, place[1], points, line, probe)


def difference_dots(document: Row, place: tuple[str, int], metric: Metric) -> Dots:
    """Return paired differences from the baseline, and zero as the line."""
    key = (place[0], "marginal", place[1], BASELINE)
    names = ("domain", "positions", "offset", "against")
    rows = [row for row in document["differences"] if tuple(row[n] for n in names) == key]
    unit = "points" if metric.scale == 100 else metric.suffix.strip()
    label = f"{metric.title if metric.scale == 100 else 'Cross-entropy'} less the baseline's"
    points = _points(document, rows, metric)
    probe = points[LINEAR][1] if LINEAR in points else None
    return Dots(f"{label} ({unit})", place[1], points, 0.0, probe)


def _points(document: Row, rows: Sequence[Row], metric: Metric) -> dict[str, Point]:
    names = strategies_of(document)
    return {
        row["strategy"]: (float(names.index(row["strategy"]) + 1), *metric.with_ends(row))
        for row in rows
        if known(row.get(metric.name)) is not None
    }


def draw_dots(axes: "Axes", dots: Dots, names: Sequence[str]) -> None:
    """Draw dots with intervals in rows of these names; those of the model itself are open."""
    colour = ink(dots.offset)
    if dots.line is not None:
        line = axes.axvline(dots.line, color=INK, linewidth=0.9, linestyle=DASHES[1], alpha=0.7)
        line.set_gid(f"{MARK}baseline")
    if dots.probe is not None:
        line = axes.axvline(dots.probe, color=INK, linewidth=0.9, linestyle=DASHES[2], alpha=0.7)
        line.set_gid(f"{MARK}probe")
    for name, (place, value, low, high) in dots.points.items():
        bar = axes.plot([low, high], [place, place], color=colour, linewidth=1.5)[0]
        bar.set_gid(f"{MARK}bar")
        dot = axes.plot([value], [place], "o", color=colour, markersize=4.5)[0]
        dot.set_gid(f"{MARK}dot")
        if name in {BASE, BASELINE}:
            # Of the bar's colour around what is behind the figure, whichever scheme it is in.
            dot.set(markersize=7, markerfacecolor="none", markeredgewidth=1.2)
    axes.set_yticks(range(1, len(names) + 1), names, parse_math=False)
    axes.set_ylim(len(names) + _ROOM, 1 - _ROOM)
    axes.set_xlabel(dots.label)
    axes.grid(axis="x", color=INK, alpha=0.1, linewidth=0.6)
    axes.grid(axis="y", visible=False)


def learned(document: Row, offset: int) -> dict[str, list[tuple[int, float]]]:
    """Return tokens seen and validation cross-entropy by strategy, in the order of training."""
    rows = [
        row
        for row in document["curves"]
        if (row["part"], row["offset"]) == ("validation", offset) and known(row["nats"]) is not None
    ]
    names = [row["strategy"] for row in document["training"]]
    curves = {
        name: [(row["tokens"], row["nats"]) for row in rows if row["strategy"] == name]
        for name in names
    }
    return {name: points for name, points in curves.items() if points}


def probe_on_validation(document: Row, offset: int) -> float | None:
    """Return the cross-entropy of the linear probe on the validation text, if it was fitted."""
    probe = document.get("probe") or {"validation": {}}
    nats: float | None = probe["validation"].get(str(offset))
    return nats


def validated(document: Row) -> list[int]:
    """Return the offsets that have learning curves."""
    return sorted({row["offset"] for row in document["curves"] if row["part"] == "validation"})


def draw_learning(
    axes: "Axes", document: Row, offset: int, steps: Sequence[float] = _STEPS
) -> None:
    """Draw learning curves; a strategy has the same colour and dashes at every offset."""
    names = [row["strategy"] for row in document["training"]]
    for name, points in learned(document, offset).items():
        number = names.index(name)
        line = axes.plot(*zip(*points, strict=True), color=ink(number + 1), linewidth=1.4)[0]
        line.set(linestyle=DASHES[number % len(DASHES)], gid=f"{MARK}s{number + 1}")
    axes.set_xlim(left=0)
    # Before the first step new heads are far off; what tells strategies apart comes behind it.
    behind = [nats for points in learned(document, offset).values() for _, nats in points[1:]]
    probe = probe_on_validation(document, offset)
    if probe is not None:
        line = axes.axhline(probe, color=INK, linewidth=0.9, linestyle=DASHES[2], alpha=0.7)
        line.set_gid(f"{MARK}probe")
        behind.append(probe)
    if behind:
        room = 0.05 * (max(behind) - min(behind))
        axes.set_ylim(top=max(behind) + room)
    dress(axes, "Tokens seen", "Validation cross-entropy (nats)", steps)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def sweep_rows(document: Row, domain: str) -> Iterator[tuple[str, list[Row]]]:
    """Yield each readout of the sweep, heads and linear probes, with its rows by layer."""
    for readout in READOUTS:
        rows = [
            row for row in document["sweep"] if (row["readout"], row["domain"]) == (readout, domain)
        ]
        if rows:
            yield readout, sorted(rows, key=lambda row: int(row["layer"]))


def draw_sweep(
    axes: "Axes", document: Row, domain: str, metric: Metric, steps: Sequence[float] = _STEPS
) -> None:
    """Draw heads and linear probes by the layer that they read, with bands for intervals."""
    for readout, rows in sweep_rows(document, domain):
        layers = [row["layer"] for row in rows]
        values, low, high = zip(*map(metric.with_ends, rows), strict=True)
        colour, dashes = sweep_style(readout)
        band = axes.fill_between(layers, low, high, color=colour, alpha=0.13, linewidth=0)
        band.set_gid(f"{MARK}band")
        line = axes.plot(layers, values, color=colour, linewidth=1.5, marker="o", markersize=3)[0]
        line.set(linestyle=dashes, clip_on=False, gid=f"{MARK}{readout}")
    dress(axes, "Layer read", metric.label, steps)
    whole_ticks(axes)


def sweep_style(readout: str) -> tuple[str, Any]:
    """Return colour and dashes of heads or of linear probes."""
    return (ink(OFFSET), DASHES[0]) if readout == "head" else (INK, DASHES[1])
