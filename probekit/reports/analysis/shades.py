"""How well one position is read: the probability of its target in words and as a colour."""

import math

from probekit.reports.components.colours import STEPS
from probekit.reports.components.numbers import fixed

_DECADES = 3  # from 0.1 % to 100 %: below it, one in a thousand or one in a million look alike


def shade(nats: float) -> int:
    """Return the step of a target's probability: four steps a factor of ten.

    Args:
        nats: Cross-entropy of the target, in nats.

    >>> [shade(-math.log(p)) for p in (1.0, 0.1001, 0.0001)]
    [11, 8, 0]
    """
    step = math.floor((_DECADES - nats / math.log(10)) * STEPS / _DECADES)
    return min(STEPS - 1, max(0, step))


def percent(nats: float) -> str:
    """Return the probability of a target in two or three digits.

    >>> percent(0.0), percent(3.5), percent(20.0)
    ('100 %', '3.0 %', '< 0.1 %')
    """
    probability = 100 * math.exp(-nats)
    if probability < 0.05:
        return "< 0.1 %"
    return f"{fixed(probability, 0 if probability >= 9.95 else 1)} %"
