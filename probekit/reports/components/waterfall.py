"""A waterfall: from what the current token tells to what the model knows, step by step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.reports.components.numbers import fixed
from probekit.reports.components.svg import INK, ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: What reads.
        bits: What it reads, in bits.
        kind: "floor", "probe" or "ceiling".
    """

    name: str
    bits: float
    kind: str


def draw_waterfall(
    axes: "Axes", steps: Sequence[Step], offset: int, span: tuple[float, float]
) -> None:
    """Draw steps from top to bottom, each bar from where the one before ended.

    Args:
        axes: Where.
        steps: The steps, from the lowest floor to the ceiling.
        offset: Whose colour the probes' steps have.
        span: Least and most bits of all waterfalls that stand beside this one.
    """
    from matplotlib.ticker import MaxNLocator
    from seaborn import despine

    before, least = 0.0, 0.01  # of bits, where nothing is read at all
    for place, step in enumerate(steps):
        colour = ink(offset) if step.kind == "probe" else INK
        alpha = {"floor": 0.45, "probe": 1.0, "ceiling": 0.18}[step.kind]
        bar = axes.barh(place, step.bits - before, left=before, height=0.72, linewidth=0)[0]
        bar.set(color=colour, alpha=alpha)
        end = max(before, step.bits)
        axes.annotate(
            fixed(step.bits, 2), (end, place), (3, 0), textcoords="offset points", va="center"
        ).set_fontsize(8.5)
        if place + 1 < len(steps):
            axes.plot([step.bits] * 2, [place - 0.36, place + 1.36], color=INK, linewidth=0.5)
        before = step.bits
    axes.set_yticks(range(len(steps)), [step.name for step in steps], fontsize=8.5)
    axes.set_ylim(len(steps) - 0.5, -0.5)
    axes.set_xlim(span[0], span[0] + 1.24 * max(span[1] - span[0], least))
    axes.set_xlabel("Bits over the unigram", fontsize=8.5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(axis="x", labelsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=INK, alpha=0.1, linewidth=0.6)
    axes.set_axisbelow(True)
    despine(ax=axes, left=True)
