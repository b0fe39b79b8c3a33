"""Intervals: a bootstrap over documents, and Wilson's for a share."""

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit
from torch import Tensor

from probekit.errors import DataError


def document_bootstrap(n_documents: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """Return how often each document is drawn in each resample.

    The same weights for all readouts make their differences paired.

    Args:
        n_documents: Documents, at least 1.
        resamples: Number of resamples.
        seed: Seed of the draw.

    Returns:
        Weights, shape (resamples, n_documents); each row sums to `n_documents`.

    Raises:
        DataError: If there is no document: the mean of nothing is not a number.

    >>> document_bootstrap(3, 2, seed=0).sum(axis=1)
    array([3., 3.])
    """
    if n_documents < 1:
        raise DataError("an interval needs at least one document, got none")
    draw = np.random.default_rng(seed)
    shares = np.full(n_documents, 1 / n_documents)
    return draw.multinomial(n_documents, shares, size=resamples).astype(np.float64)


def seed_weights(n_seeds: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """Return how much each training seed counts in each resample.

    The mean of so few values, weighted so, varies as Student's t with n - 1 degrees of freedom
    around the plain mean, with their own standard error. Drawing 3 seeds with replacement would
    give two thirds of their variance, and tails of the normal distribution at best.

    Args:
        n_seeds: Seeds, at least 1; the weight of a single one is 1.
        resamples: Number of resamples.
        seed: Seed of the draw.

    Returns:
        Weights, shape (resamples, n_seeds); each row sums to `n_seeds`.

    >>> seed_weights(3, 2, seed=0).sum(axis=1).round(6)
    array([3., 3.])
    """
    if n_seeds == 1:
        return np.ones((resamples, 1))
    draw = np.random.default_rng([seed, n_seeds])
    apart = draw.normal(size=(resamples, n_seeds))
    apart -= apart.mean(axis=1, keepdims=True)
    weights: NDArray[np.float64] = apart * np.sqrt(
        n_seeds / draw.chisquare(n_seeds - 1, size=(resamples, 1))
    )
    return 1 + weights


def resampled_weights(
    n_documents: int, n_seeds: int, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return the weight of each document as each training seed scored it, in each resample.

    Returns:
        Weights, shape (n_seeds, 1 + resamples, n_documents): the first row is the estimate, where
        all count alike; over seeds a document's add up to how often it was drawn.
    """
    documents = document_bootstrap(n_documents, resamples, seed)
    documents = np.vstack([np.ones(n_documents), documents])
    seeds = np.vstack([np.ones(n_seeds), seed_weights(n_seeds, resamples, seed)])
    return documents * seeds.T[:, :, None] / n_seeds


def effective_documents(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many documents of equal size would tell as much as these.

    A rate over all positions gives long documents more weight, so that they are fewer than
    they seem.

    Args:
        sizes: Positions of each document, shape (documents, cells); one at least in a cell.

    Returns:
        (sum of n)^2 / sum of n^2, shape (cells,).

    Source: Kish (1965), "Survey sampling", on unequal weights.

    >>> effective_documents(np.array([[5.0, 7.0], [5.0, 1.0]]))
    array([2.  , 1.28])
    """
    number: NDArray[np.float64] = sizes.sum(axis=0) ** 2 / np.square(sizes).sum(axis=0)
    return number


def interval(
    samples: NDArray[np.float64], documents: float, level: float = 0.95
) -> tuple[float, float]:
    """Return the expanded percentile interval of resampled values.

    Percentiles of the bootstrap are too narrow where documents are few: they divide by n, not
    n - 1, and take the normal for the t distribution. Percentiles further out make up for it.
    Resamples without data are left out.

    Args:
        samples: Values, one a resample.
        documents: Effective number of documents that were resampled. Below about 5 the
            percentiles lie beyond 1,000 resamples: the interval is then all that they span.
        level: Share of cases in which the interval should hold the true value.

    Source: Hesterberg (2015), "What teachers should know about the bootstrap": each tail is
    Phi(-sqrt(n / (n - 1)) t), where t is the quantile with n - 1 degrees of freedom.

    >>> [round(end, 3) for end in interval(np.arange(101.0), documents=1e6, level=0.9)]
    [5.0, 95.0]
    >>> [round(end, 3) for end in interval(np.arange(101.0), documents=10.0, level=0.9)]
    [2.666, 97.334]
    """
    tail = 0.0
    if documents > 1:
        student = stdtrit(documents - 1, (1 - level) / 2)
        tail = float(ndtr(math.sqrt(documents / (documents - 1)) * student))
    low, high = np.nanquantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def wilson(
    probs: Float[Tensor, "*shape"], n: int
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return the ends of 95 % intervals of means of n draws of values in 0..1.

    A standard error is near 0 where the few draws that would matter were not made; this is not.

    Source: Wilson (1927), whose interval of a share holds for any values in 0..1, which vary
    less than zeros and ones of the same mean.

    >>> [round(float(end), 3) for end in wilson(torch.tensor([0.0]), n=64)[1]]
    [0.057]
    """
    z = 1.96
    centre = (probs + z**2 / (2 * n)) / (1 + z**2 / n)
    half = (probs * (1 - probs) / n + z**2 / (4 * n**2)).sqrt() * z / (1 + z**2 / n)
    # Rounding must not put the mean of nothing but zeros, or ones, outside.
    low, high = torch.minimum(centre - half, probs), torch.maximum(centre + half, probs)
    return low.clamp_min(0), high.clamp_max(1)
