"""Cells and tables: a number with its interval, or the reason why there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probekit.reports.components.numbers import DASH, Metric, compact, fixed, interval, known


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: What is shown.
        interval: The 95 % interval, shown small after it.
        seeds: What other seeds gave, shown small after that.
        missing: Why there is no number; empty if there is one.
        numeric: Whether it is aligned as a number.
        offset: The offset whose colour marks the cell, or None.
        tone: "", "good", "bad" or "doubt".
    """

    text: str
    interval: str = ""
    missing: str = ""
    numeric: bool = True
    offset: int | None = None
    tone: str = ""
    seeds: str = ""


@dataclass(frozen=True)
class Table:
    """A table: head, rows of cells, and the reasons for what is missing."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    key: str = ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why cells are empty, each reason once."""
        reasons = (cell.missing for row in self.rows for cell in row if cell.missing)
        return tuple(dict.fromkeys(reasons))


def word(text: object, tone: str = "") -> Cell:
    """Return a cell of words."""
    return Cell(compact(text), numeric=False, tone=tone)


def mark(offset: int) -> Cell:
    """Return the cell that names an offset in its colour."""
    return Cell(f"t+{offset}", offset=offset, numeric=False)


def absent(reason: str) -> Cell:
    """Return the cell of a value that is missing, with the reason.

    >>> absent("not run").text == DASH
    True
    """
    return Cell(DASH, missing=reason)


def score_cell(row: Mapping[str, Any] | None, metric: Metric, reason: str) -> Cell:
    """Return the cell of one metric of a score row, or the reason why there is none."""
    value = known(row.get(metric.name)) if row else None
    if row is None or value is None:
        return absent(reason)
    return Cell(metric.bare(value), interval(row, metric.name, metric.scale, metric.digits))


def valued(row: Mapping[str, Any], name: str, digits: int, reason: str, scale: float = 1.0) -> Cell:
    """Return the cell of column `name` with its interval, or the reason why there is none."""
    value = known(row.get(name))
    if value is None:
        return absent(reason)
    return Cell(fixed(value * scale, digits), interval(row, name, scale, digits))


def plain(row: Mapping[str, Any], name: str, reason: str) -> Cell:
    """Return the cell of a count or a number of few digits, or the reason why there is none."""
    value = row.get(name)
    return absent(reason) if known(value) is None else Cell(compact(value))
