"""How numbers are shown: units, digits, intervals, and what is missing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Metric:
    """A column of `scores` and how it is shown.

    Attributes:
        name: Column in `scores`.
        title: Words for switches.
        label: Words for axes and tables, with the unit.
        short: Words for the middle of a sentence.
        scale: Factor from the stored to the shown value.
        digits: Digits after the point.
        suffix: Unit after a number, with its space.
        rising: True if more is better.
    """

    name: str
    title: str
    label: str
    short: str
    scale: float
    digits: int
    suffix: str
    rising: bool

    def text(self, value: float) -> str:
        """Return the value with unit.

        >>> METRICS["top1"].text(0.3141)
        '31.4 %'
        """
        return self.bare(value) + self.suffix

    def bare(self, value: float) -> str:
        """Return the value in shown units, without the unit's name."""
        return fixed(value * self.scale, self.digits)

    def shown(self, row: Mapping[str, Any], end: str = "") -> float:
        """Return the value of a row in shown units, NaN where there is none.

        Args:
            row: A row of `scores`.
            end: "" for the value; "_low" or "_high" for an end of its interval.
        """
        value = known(row.get(self.name + end))
        return math.nan if value is None else value * self.scale

    def with_ends(self, row: Mapping[str, Any]) -> tuple[float, float, float]:
        """Return the value of a row and the ends of its interval as `shown` does."""
        return self.shown(row), self.shown(row, "_low"), self.shown(row, "_high")


METRICS = {
    metric.name: metric
    for metric in (
        Metric("top1", "Top-1", "Top-1 accuracy (%)", "top-1 accuracy", 100.0, 1, " %", True),
        Metric("top5", "Top-5", "Top-5 accuracy (%)", "top-5 accuracy", 100.0, 1, " %", True),
        Metric(
            "bits", "Bits", "Bits over the unigram", "bits over the unigram", 1.0, 2, " bits", True
        ),
        Metric(
            "bits_given_token",
            "Bits given the token",
            "Bits beyond the current token",
            "bits beyond the current token",
            1.0,
            2,
            " bits",
            True,
        ),
        Metric("nats", "Nats", "Cross-entropy (nats)", "cross-entropy", 1.0, 3, " nats", False),
    )
}


def offset_range(offsets: Sequence[int]) -> str:
    """Return offsets in few words.

    >>> offset_range([1, 2, 3]), offset_range([2]), offset_range([1, 3])
    ('t+1 to t+3', 't+2', 't+1, t+3')
    """
    ends = list(offsets)
    if len(ends) > 1 and ends == [*range(ends[0], ends[-1] + 1)]:
        return f"t+{ends[0]} to t+{ends[-1]}"
    return ", ".join(f"t+{offset}" for offset in ends)


def fixed(value: float, digits: int) -> str:
    r"""Return value with that many digits, thousands separated and a true minus sign.

    >>> ascii(fixed(-1234.5, 1)), fixed(-0.001, 1)
    ("'\\u22121,234.5'", '0.0')
    """
    text = f"{value:,.{digits}f}"
    text = text.lstrip("-") if not text.strip("-0.,") else text
    return text.replace("-", MINUS)


def known(value: object) -> float | None:
    """Return a finite number as a float, and None for null, NaN and infinity.

    >>> known(2), known(None), known(float("nan"))
    (2.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def interval(row: Mapping[str, Any], name: str, scale: float, digits: int) -> str:
    """Return the 95 % interval of column `name` in words, empty if it is not there.

    >>> interval({"bits_low": 1.0, "bits_high": 1.25}, "bits", 1.0, 2)
    '1.00 to 1.25'
    """
    return between(row.get(f"{name}_low"), row.get(f"{name}_high"), digits, scale)


def between(low: object, high: object, digits: int, scale: float = 1.0) -> str:
    """Return the range between two numbers in words, empty if either is not there."""
    ends = [end for end in (known(low), known(high)) if end is not None]
    return " to ".join(fixed(end * scale, digits) for end in ends) if len(ends) == 2 else ""


def compact(value: object) -> str:
    """Return a number in the fewest digits that say it, anything else as text.

    >>> compact(1530000), compact(3.1e-06), compact(0.105), compact(4127.3)
    ('1,530,000', '3.1e-06', '0.105', '4,127')
    """
    if value is None:
        return DASH
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    if not math.isfinite(value):
        return str(value)
    if 1e3 <= abs(value) < 1e9:
        return fixed(value, 0)
    tiny = 0 < abs(value) < 1e-3
    return f"{value:.2g}" if tiny else f"{value:.3g}".replace("-", MINUS)
