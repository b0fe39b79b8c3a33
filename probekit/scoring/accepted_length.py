"""How many drafted tokens are accepted in one go: expected from scores, and counted.

The token at t+1 is the model's own and certain. Of the offsets 2 … K as many are accepted as are
right in a row, so that the expected number is the sum over k of the chance that 2 … k are all
right: the product of the conditional acceptances up to k.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probekit.scoring.intervals import document_bootstrap, effective_documents, interval
from probekit.scoring.rates import FEWEST_FOR_INTERVAL, RESAMPLES, Rate, Rates

Numbers = Sequence[float] | Sequence[int]


def accepted_length(rates: Rates, readout: str, layer: int | None, horizon: int) -> Rate:
    """Return the expected number of accepted tokens of one readout, from its joint hits.

    Args:
        rates: On positions that have a target at every offset, so that hits at all offsets so
            far are shares of the same positions; with the model's own tokens as targets, for
            these are what drafts are verified by.
        readout: Name of the readout.
        layer: Layer that it reads, if it reads one.
        horizon: Largest offset that is drafted, at least 2.

    Returns:
        In 0 … horizon - 1, shape (1 + resamples,).

    Raises:
        DataError: If an offset from 2 to `horizon` was not scored.
    """
    joint = [rates.rate("joint", readout, layer, offset) for offset in range(2, horizon + 1)]
    expected: Rate = np.sum(joint, axis=0)
    return expected


@dataclass(frozen=True)
class Share:
    """A ratio of two sums over documents, with its 95 % interval.

    Attributes:
        value: The ratio.
        low: Lower end; None where documents are too few.
        high: Upper end, likewise.
    """

    value: float
    low: float | None
    high: float | None


def pooled(counted: Numbers, among: Numbers, documents: Sequence[int], seed: int) -> Share | None:
    """Return the sum of what was counted over the sum of what it was counted among.

    Args:
        counted: One number a text.
        among: Another, which counts positions, passes or tokens.
        documents: The document that each text is from; documents are resampled.
        seed: Seed of the resampling.

    Returns:
        Their ratio; None where nothing was counted among.

    >>> pooled([1, 3], [2, 2], [0, 1], seed=0)
    Share(value=1.0, low=None, high=None)
    """
    numbers = np.unique(documents, return_inverse=True)[1]
    n = int(numbers.max()) + 1 if len(numbers) else 0
    sums, sizes = np.zeros(n), np.zeros(n)
    np.add.at(sums, numbers, counted)
    np.add.at(sizes, numbers, among)
    sums, sizes = sums[sizes > 0], sizes[sizes > 0]
    if not len(sizes):
        return None
    value = float(sums.sum() / sizes.sum())
    if len(sizes) < FEWEST_FOR_INTERVAL:
        return Share(value, None, None)
    weights: NDArray[np.float64] = document_bootstrap(len(sizes), RESAMPLES, seed)
    effective = float(effective_documents(sizes[:, None])[0])
    low, high = interval((weights @ sums) / (weights @ sizes), effective)
    return Share(value, low, high)
