"""The quantities that are compared over runs: their words, units, and which way is better."""

from collections.abc import Mapping
from dataclasses import dataclass

from probekit.reports.components.numbers import between, fixed, known
from probekit.reports.components.rows import Row

CANNOT_TELL = "cannot tell"
_TONES = {"better": "good", "worse": "bad"}


@dataclass(frozen=True)
class Quantity:
    """A quantity and how it is shown.

    Attributes:
        name: Its name in a comparison.
        label: Words for axes and tables, with the unit.
        scale: Factor from the stored to the shown value.
        digits: Digits after the point.
        suffix: Unit after a number, with its space.
        above: What a difference above zero means, in a word.
        below: What a difference below zero means.
    """

    name: str
    label: str
    scale: float
    digits: int
    suffix: str
    above: str
    below: str

    def text(self, value: float) -> str:
        """Return a value with its unit.

        >>> quantity("best_probe_top1").text(0.3141)
        '31.4 %'
        """
        return fixed(value * self.scale, self.digits) + self.suffix

    def shown(self, row: Row, end: str) -> float:
        """Return `value`, `low` or `high` of a row in shown units, NaN where there is none."""
        value = known(row.get(end))
        return float("nan") if value is None else value * self.scale

    def interval(self, row: Row) -> str:
        """Return the interval of a row in shown units, empty where there is none."""
        return between(row.get("low"), row.get("high"), self.digits, self.scale)

    def sign(self, row: Row) -> tuple[str, str]:
        """Return what a difference means in words, and its tone.

        >>> quantity("best_probe_nats").sign({"value": -0.2, "low": -0.3, "high": -0.1})
        ('better', 'good')
        >>> quantity("best_probe_nats").sign({"value": -0.2, "low": -0.3, "high": 0.1})
        ('cannot tell', 'doubt')
        """
        low, high = known(row.get("low")), known(row.get("high"))
        if low is None or high is None:
            return "no interval", ""
        if row.get("same"):
            return "the same", ""
        if low <= 0 <= high:
            return CANNOT_TELL, "doubt"
        word = self.above if low > 0 else self.below
        return word, _TONES.get(word, "")


_GOOD, _BAD = ("better", "worse"), ("worse", "better")
_COUNT = ("more", "less")


def _rates(name: str, words: str) -> tuple[Quantity, ...]:
    """Return the metrics of one readout."""
    return (
        Quantity(f"{name}_top1", f"Top-1, {words} (%)", 100.0, 1, " %", *_GOOD),
        Quantity(f"{name}_top5", f"Top-5, {words} (%)", 100.0, 1, " %", *_GOOD),
        Quantity(f"{name}_bits", f"Bits over the unigram, {words}", 1.0, 3, " bits", *_GOOD),
        Quantity(f"{name}_nats", f"Cross-entropy, {words} (nats)", 1.0, 3, " nats", *_BAD),
        Quantity(f"{name}_bpb", f"Bits per byte, {words}", 1.0, 3, " bits per byte", *_BAD),
    )


_QUANTITIES: Mapping[str, Quantity] = {
    one.name: one
    for one in (
        *_rates("next_token", "next token"),
        *_rates("best_probe", "best probe"),
        *_rates("ceiling", "ceiling"),
        Quantity("recovered", "Share of the ceiling recovered", 1.0, 2, "", *_GOOD),
        Quantity("forgotten_bits", "Late loss (bits)", 1.0, 3, " bits", *_COUNT),
        Quantity("best_depth", "Best layer, relative depth", 1.0, 2, "", "deeper", "earlier"),
        Quantity("retained_mass", "Retained mass", 1.0, 3, "", *_COUNT),
        Quantity("branches_mean", "Branches, mean", 1.0, 1, " branches", *_COUNT),
        Quantity("nats_error", "Standard error of the ceiling (nats)", 1.0, 3, " nats", *_COUNT),
        Quantity("nucleus_tokens", "Tokens in the nucleus, mean", 1.0, 1, " tokens", *_COUNT),
        Quantity(
            "next_token_entropy", "Entropy of the next token (nats)", 1.0, 2, " nats", *_COUNT
        ),
    )
}


def quantity(name: str) -> Quantity:
    """Return a quantity by its name; one that is not known here goes by that name.

    >>> quantity("strange").label
    'strange'
    """
    unknown = Quantity(name, name, 1.0, 3, "", "higher", "lower")
    return _QUANTITIES.get(name, unknown)
