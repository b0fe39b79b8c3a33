"""One measured number beside its exact value."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CalibrationResult:
    """One measured number beside its exact value.

    Attributes:
        text: Name of the text.
        quantity: The quantity, with its unit.
        offset: Its offset; None if it has none.
        measured: The measured value.
        exact: The exact value.
        low: Lower end of its 95 % interval, or of the allowed range.
        high: Upper end.
        bounded: Whether low and high are an allowed range, not an interval.
        slack: Error that is allowed a fitted readout, which saw finitely many positions.
    """

    text: str
    quantity: str
    offset: int | None
    measured: float
    exact: float
    low: float
    high: float
    bounded: bool = False
    slack: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether the exact value is in the interval, or the measured one in the allowed range."""
        value = self.measured if self.bounded else self.exact
        return self.low - self.slack <= value <= self.high + self.slack

    @property
    def ends(self) -> str:
        """Interval or allowed range, in words."""
        slack = f" ± {self.slack:.2g}" if self.slack else ""
        return f"[{self.low:.4g}, {self.high:.4g}]{' allowed' if self.bounded else ''}{slack}"
