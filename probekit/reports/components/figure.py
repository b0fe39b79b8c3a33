"""A figure of a page: its drawing, what it shows in words, and which switches show it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from probekit.reports.components.svg import inline
from probekit.reports.components.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PageFigure:
    """A figure of a page.

    Attributes:
        name: Unique on its page; made of names of this package and of numbers, none of a run's
            text.
        message: What it shows, in words: the text alternative.
        draw: Draws it in the colours of `probekit.reports.components.svg`.
        title: What stands over it.
        note: What stands beside the title.
        group: Value of the switch that shows it: a metric or a group of quantities.
        positions: Set of positions that it is of.
        domain: Domain that it is of, empty if several.
        offset: Offset that it is of, None if several.
        series: Names of its line styles, in their order.
        table: Its numbers, if they stand below it.
    """

    name: str
    message: str
    draw: "Callable[[], Figure]"
    title: str = ""
    note: str = ""
    group: str = ""
    positions: str = ""
    domain: str = ""
    offset: int | None = None
    series: Sequence[str] = ()
    table: Table | None = None

    @cached_property
    def svg(self) -> str:
        """Return the inline SVG."""
        return inline(self.draw, f"{self.name}-")
