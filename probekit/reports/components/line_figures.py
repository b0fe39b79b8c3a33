"""The figures: curves over layers, lines by depth, by position and by confidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.reports.components.axes import dress, mark_alone, whole_ticks
from probekit.reports.components.colours import DASHES, Dashes
from probekit.reports.components.svg import INK, MARK, ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float, float, float]  # place, value, the interval's ends (NaN: there is none)
_LABEL_GAP = 0.062  # least distance of two labels at the right edge, share of the axis' height
_RAIL = 0.012  # half the height of a hatched strip, share of the axis' height
_MOST_MARKS = 12
# Of lines by kind; those of other kinds are solid.
KIND_DASHES: Mapping[str, Dashes] = {
    "lens": (0, (4, 2)),
    "jacobian-lens": DASHES[3],
    "mask-token": (0, (9, 3)),
    "ceiling": (0, (7, 1.5)),
    "estimate": (0, (7, 1.5, 1, 1.5)),
    "skip-bigram": (0, (1, 2.2)),
    "unigram": ":",
}


@dataclass(frozen=True)
class Curve:
    """A line over layers with its band.

    Attributes:
        kind: "probe", "random", or the name of a readout with a dash of its own, as "lens".
        offset: Whose colour it has.
        layers: Layers, ascending.
        values: One value a layer, in shown units.
        low: Lower ends of the intervals; of "random", the lowest of its seeds.
        high: Upper ends of the intervals; of "random", the highest of its seeds.
    """

    kind: str
    offset: int
    layers: Sequence[int]
    values: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Level:
    """A horizontal reference line.

    Attributes:
        kind: "ceiling", "estimate", "skip-bigram" or "unigram".
        offset: Whose colour it has.
        value: In shown units.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    kind: str
    offset: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LayerPanel:
    """One small multiple: curves of all offsets over layers, and their levels."""

    label: str
    curves: Sequence[Curve]
    levels: Sequence[Level]
    span: tuple[float, float]

    @property
    def empty(self) -> bool:
        """Whether it has no value to draw."""
        return not self.levels and not any(_are(y) for c in self.curves for y in c.values)


def draw_curves(axes: "Axes", panel: LayerPanel) -> None:
    """Draw the curves of a panel, their levels and the names of their offsets.

    Every line of offset k has the classes `o` and `ok`.
    """
    dress(axes, "Layer", panel.label)
    whole_ticks(axes)
    axes.set_ylim(*panel.span)
    for level in panel.levels:
        _level(axes, level)
    for curve in sorted(panel.curves, key=lambda curve: curve.kind == "probe"):
        _curve(axes, curve)
    _end_labels(axes, [curve for curve in panel.curves if curve.kind == "probe"])


def draw_shares(axes: "Axes", panel: LayerPanel) -> None:
    """Draw the share of what the model knows that each layer reads: 0 the floor, 100 % all."""
    draw_curves(axes, panel)
    share_ends(axes)


def share_ends(axes: "Axes") -> None:
    """Draw where none, and where all, of what the model knows is read, if within the axes."""
    ends = ((0.0, 1, "the current token alone"), (100.0, 0, "all of it"))
    lowest, highest = axes.get_ylim()
    for height, side, name in [end for end in ends if lowest <= end[0] <= highest]:
        axes.axhline(height, color=INK, linewidth=0.9, linestyle=KIND_DASHES["ceiling"])
        # Both inside: over the upper end stands the name of the panel.
        apart = (3 - 6 * side, 6 * side - 3)
        text = axes.annotate(name, (side, height), apart, textcoords="offset points")
        text.xycoords = ("axes fraction", "data")
        text.set(fontsize=8, color=INK, ha=("left", "right")[side], va=("top", "bottom")[side])


def draw_depths(axes: "Axes", depths: Sequence[float], series: Sequence[Sequence[float]]) -> None:
    """Draw the lens' divergence by relative depth, one line style a series."""
    dress(axes, "Relative depth", "KL to the model's output (nats)")
    for number, values in enumerate(series):
        _series(axes, depths, values, number)
    axes.set_ylim(bottom=0)
    axes.set_xlim(-0.02, 1.02)


def draw_positions(axes: "Axes", series: Sequence[Sequence[Point]]) -> None:
    """Draw the next token's entropy by position in the block, one line style a series."""
    dress(axes, "Position in the block", "Entropy of the next token (nats)")
    _banded(axes, series)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)


def draw_bits(axes: "Axes", series: Sequence[Sequence[Point]], along: str = "Offset") -> None:
    """Draw bits beyond the current token, with intervals, one line style a series."""
    dress(axes, along, "Bits beyond the current token")
    whole_ticks(axes)
    axes.axhline(0.0, color=INK, linewidth=0.9)
    _banded(axes, series)


def _banded(axes: "Axes", series: Sequence[Sequence[Point]]) -> None:
    for number, points in enumerate(series):
        places, values, low, high = zip(*points, strict=True)
        band = axes.fill_between(places, low, high, color=INK, alpha=0.1, linewidth=0)
        band.set_gid(f"{MARK}band")
        _series(axes, places, values, number)


def draw_reliability(axes: "Axes", series: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Draw accuracy by confidence, one line style a readout; the diagonal is as sure as right."""
    dress(axes, "Confidence", "Top-1 accuracy")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, alpha=0.4)
    for number, points in enumerate(series):
        confidence, accuracy = zip(*points, strict=True)
        _series(axes, confidence, accuracy, number)
    axes.set(xlim=(0, 1), ylim=(0, 1))


def _series(axes: "Axes", places: Sequence[float], values: Sequence[float], number: int) -> None:
    dashes = DASHES[number % len(DASHES)]
    line = axes.plot(places, values, color=INK, linewidth=1.6, linestyle=dashes)[0]
    line.set_gid(f"{MARK}series")
    mark_alone(line)
    line.set_alpha(1 - 0.15 * min(number, 4))


def _curve(axes: "Axes", curve: Curve) -> None:
    colour, name = ink(curve.offset), f"o o{curve.offset}"
    if curve.kind in KIND_DASHES:
        line = axes.plot(curve.layers, curve.values, color=colour, linewidth=0.9)[0]
        line.set(linestyle=KIND_DASHES[curve.kind])
        line.set_gid(f"{MARK}{name} {'lens' if curve.kind == 'lens' else 'further'}")
        mark_alone(line)
        return
    name = name if curve.kind == "probe" else f"{name} {curve.kind}"
    _band(axes, curve, name)
    if curve.kind == "probe":
        line = axes.plot(curve.layers, curve.values, color=colour, linewidth=1.7, clip_on=False)[0]
        line.set_gid(f"{MARK}{name} probe")
        mark_alone(line)
    else:
        _thin(axes, curve, name)


def _band(axes: "Axes", curve: Curve, name: str) -> None:
    there = [i for i, ends in enumerate(zip(curve.low, curve.high, strict=True)) if _are(*ends)]
    xs = [curve.layers[i] for i in there]
    ys = [curve.low[i] for i in there] + [curve.high[i] for i in reversed(there)]
    if len(there) > 1:
        colour, alpha = ink(curve.offset), 0.16 if curve.kind == "probe" else 0.1
        band = axes.fill(xs + xs[::-1], ys, color=colour, alpha=alpha, linewidth=0, clip_on=False)[
            0
        ]
        band.set_gid(f"{MARK}{name} band")


def _thin(axes: "Axes", curve: Curve, name: str) -> None:
    """Draw a control: a thin line, with marks where they do not run together."""
    colour = ink(curve.offset)
    line = axes.plot(curve.layers, curve.values, color=colour, linewidth=0.8, clip_on=False)[0]
    line.set_gid(f"{MARK}{name}")
    if len(curve.layers) <= _MOST_MARKS:
        line.set(marker="s", markersize=5, markerfacecolor="none")
        line.set_markeredgewidth(1.0)


def _level(axes: "Axes", level: Level) -> None:
    colour, name = ink(level.offset), f"{MARK}o o{level.offset} level {level.kind}"
    if level.kind == "unigram":
        colour, name = INK, f"{MARK}level unigram"
    line = axes.axhline(
        level.value, color=colour, linewidth=1.1 if level.kind == "ceiling" else 0.9
    )
    line.set(linestyle=KIND_DASHES[level.kind], gid=name, clip_on=False)
    if level.kind == "estimate":
        _rail(axes, level.value, name)


def _rail(axes: "Axes", value: float, name: str) -> None:
    """Hatch a strip around a level: how far it is off is bounded, but not known."""
    low, high = axes.get_ylim()
    half = _RAIL * (high - low)
    strip = axes.axhspan(value - half, value + half, facecolor="none", linewidth=0)
    strip.set(clip_on=False, hatch="////////", edgecolor=INK, gid=name)  # one pattern a figure
    strip.set_hatch_linewidth(0.5)
    text = axes.annotate("estimate", (1, value), (-2, 4), textcoords="offset points")
    text.xycoords = ("axes fraction", "data")
    text.set(ha="right", fontsize=8, color=INK, gid=f"{name} label")


def _end_labels(axes: "Axes", curves: Sequence[Curve]) -> None:
    """Name each line at its right end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    ends = [(curve, [y for y in curve.values if _are(y)]) for curve in curves]
    ends_by_height = sorted(((ys[-1] - low) / (high - low), c.offset) for c, ys in ends if ys)
    heights = _apart([height for height, _ in ends_by_height])
    for height, (_, offset) in zip(heights, ends_by_height, strict=True):
        text = axes.text(1.045, height, f"t+{offset}", transform=axes.transAxes, va="center")
        text.set(
            fontsize=float(axes.yaxis.label.get_fontsize()) - 1,
            color=INK,
            gid=f"{MARK}o o{offset} name",
        )
        dot = axes.plot([1.025], [height], "o", transform=axes.transAxes, clip_on=False)[0]
        dot.set(color=ink(offset), markersize=3.5, markeredgewidth=0)
        dot.set_gid(f"{MARK}o o{offset} name")


def _apart(places: Sequence[float]) -> list[float]:
    """Return ascending places moved until neighbours are a label apart.

    The mean of pushing all up and of pushing all down keeps both order and gaps.
    """
    up, down = list(places), list(places)
    for i in range(1, len(places)):
        up[i] = max(up[i], up[i - 1] + _LABEL_GAP)
        down[-i - 1] = min(down[-i - 1], down[-i] - _LABEL_GAP)
    mean = [(one + other) / 2 for one, other in zip(up, down, strict=True)]
    lift = max(0.0, -min(mean, default=0.0))  # not below the axis
    return [place + lift for place in mean]


def _are(*values: float) -> bool:
    """Return whether none of the values is NaN."""
    return all(value == value for value in values)  # noqa: PLR0124  NaN differs from itself
