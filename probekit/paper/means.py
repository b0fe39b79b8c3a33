"""Means over positions with 95 % intervals, over positions or over samples."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from probekit.scoring.intervals import document_bootstrap, effective_documents, interval, wilson
from probekit.scoring.rates import RESAMPLES


@dataclass(frozen=True)
class Mean:
    """A mean over positions, such as a share of hits, with its 95 % interval.

    Attributes:
        value: The mean.
        low: Lower end.
        high: Upper end.
        n: Positions.
    """

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def wilson(cls, share: float, n: int) -> "Mean":
        """Return a share of n positions with Wilson's interval, which takes them as independent.

        >>> mean = Mean.wilson(0.5, 200)
        >>> round(mean.low, 3), round(mean.high, 3)
        (0.431, 0.569)
        """
        low, high = wilson(torch.tensor(share, dtype=torch.float64), n)
        return cls(share, float(low), float(high), n)

    @classmethod
    def bootstrap(cls, sums: NDArray[np.float64], n: NDArray[np.float64], seed: int) -> "Mean":
        """Return a mean over positions with its interval from a bootstrap over samples.

        Args:
            sums: Sum over the positions of each sample, shape (samples,).
            n: Positions of each sample, shape (samples,).
            seed: Seed of the bootstrap.
        """
        weights = document_bootstrap(len(n), RESAMPLES, seed)
        rates = (weights @ sums) / (weights @ n)
        low, high = interval(rates, float(effective_documents(n[:, None])[0]))
        return cls(float(sums.sum() / n.sum()), low, high, int(n.sum()))
