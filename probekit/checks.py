"""A check: one assumption, what was measured, what is allowed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: What was checked, a few words.
        passed: Whether the measured value is within what is allowed.
        measured: The measured value, in the unit that `message` names.
        allowed: The largest (or smallest, as `message` says) value allowed.
        message: One sentence for a person: what it means, and the way out if it failed.
    """

    name: str
    passed: bool
    measured: float
    allowed: float
    message: str
