"""Floors that see tokens alone: unigram and skip-bigram, smoothed as validation likes best.

    unigram       p(x)     = (n_x + s / V) / (n + s)
    skip-bigram   p(x | y) = (max(n_yx - D, 0) + (s + D t_y) p(x)) / (n_y + s)

n counts training targets, t_y is how many different tokens follow y, V the vocabulary. A
discount D takes from what was seen for what was not; s is the strength of the prior. With D = 0
this is a Dirichlet prior, with s near 0 interpolated absolute discounting.

Source: Ney, Essen and Kneser (1994); Teh (2006), eq. 3, one table a type.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from probekit.data.targets import Targets
from probekit.errors import DataError
from probekit.readout import SKIP_BIGRAM, UNIGRAM, Cell, Seen
from probekit.shapes import Logits, Mask

# Pseudo-counts given to the lower order, and discounts, of which validation chooses.
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
DISCOUNTS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
# Rows of the conditional that are smoothed at once: one more array of so many rows is alive.
ROWS = 8

# Train and validation differ in blocks, not in their length.
TokensAndTargets = tuple[Int[Tensor, "_ pos"], Targets]


@dataclass(frozen=True)
class Unigram:
    """How often each token is a target, as a readout called `unigram`.

    Attributes:
        probs: By offset, probabilities of shape (vocab,).
        layers: None.
    """

    probs: Mapping[int, NDArray[np.float64]]
    layers: frozenset[int] = field(default=frozenset())

    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield the same logits for every position, offset by offset."""
        for offset, mask in valid.items():
            logits = torch.from_numpy(np.log(self.probs[offset])).float()
            logits = logits.to(seen.token_ids.device)
            yield Cell(UNIGRAM, offset), logits.expand(int(mask.sum()), -1)


@dataclass(frozen=True)
class Smoothing:
    """How a conditional is smoothed towards the unigram: discount D and strength s."""

    discount: float
    strength: float


@dataclass(frozen=True)
class SkipBigram:
    """P(x_{t+k} given x_t), as a readout called `skip-bigram`.

    Attributes:
        counts: By offset, how often each token follows each, sparse of (vocab, vocab).
        smoothing: By offset, how it is smoothed.
        unigram: What is smoothed towards.
        layers: None.
    """

    counts: Mapping[int, csr_array]
    smoothing: Mapping[int, Smoothing]
    unigram: Unigram
    layers: frozenset[int] = field(default=frozenset())

    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield the smoothed conditional of the token at each position, offset by offset."""
        for offset, mask in valid.items():
            tokens = seen.token_ids[mask].cpu().numpy()
            rows, how = self.counts[offset][tokens].astype(np.float32), self.smoothing[offset]
            totals = rows.sum(axis=1) + how.strength
            prior = (how.strength + how.discount * np.diff(rows.indptr)) / totals
            rows.data -= how.discount
            # One dense array, in place: a batch of a large vocabulary takes gigabytes.
            probs = rows.toarray()
            probs /= totals[:, None].astype(np.float32)
            unigram = self.unigram.probs[offset].astype(np.float32)
            for first in range(0, len(probs), ROWS):
                some = slice(first, first + ROWS)
                probs[some] += prior[some, None].astype(np.float32) * unigram
            logits = torch.from_numpy(probs).to(seen.token_ids.device).log_()
            yield Cell(SKIP_BIGRAM, offset), logits


def fit(
    train: TokensAndTargets, validation: TokensAndTargets, vocab_size: int
) -> tuple[Unigram, SkipBigram]:
    """Count targets at every offset of the training part.

    Args:
        train: Token ids of shape (block, pos) and their targets: what is counted.
        validation: The same, to choose the smoothing.
        vocab_size: Rows of the unembedding.

    Raises:
        DataError: If there is nothing to count.
    """
    unigram, counts, smoothing = {}, {}, {}
    for offset in train[1].valid:
        context, target = _pairs(train, offset)
        held = _pairs(validation, offset)
        if not len(target) or not len(held[1]):
            raise DataError(f"there is no pair of tokens {offset} apart to count")
        totals = np.bincount(target, minlength=vocab_size).astype(np.float64)
        unigram[offset] = smoothed_unigram(totals, held[1])
        ones = np.ones(len(target))
        shape = (vocab_size, vocab_size)
        counts[offset] = csr_array((ones, (context, target)), shape=shape)
        smoothing[offset] = _best_smoothing(counts[offset], unigram[offset], held)
    floor = Unigram(unigram)
    return floor, SkipBigram(counts, smoothing, floor)


def smoothed_unigram(counts: NDArray[np.float64], held: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the unigram under the prior that held-out tokens like best.

    Args:
        counts: How often each token was a target, shape (vocab,).
        held: Held-out targets, to choose the strength of the uniform prior.

    Returns:
        Probabilities, shape (vocab,).

    >>> smoothed_unigram(np.array([3.0, 1.0, 0.0]), np.array([0, 0, 1])).round(2).tolist()
    [0.74, 0.25, 0.01]
    """

    def probs(strength: float) -> NDArray[np.float64]:
        smoothed: NDArray[np.float64] = (counts + strength / len(counts)) / (
            counts.sum() + strength
        )
        return smoothed

    return probs(min(STRENGTHS, key=lambda strength: -float(np.log(probs(strength)[held]).sum())))


def _pairs(part: TokensAndTargets, offset: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    token_ids, targets = part
    valid = targets.valid[offset]
    # Copies: scipy wants arrays whose memory is their own.
    return token_ids[valid].numpy().copy(), targets.ids[offset][valid].numpy().copy()


def _best_smoothing(
    counts: csr_array,
    unigram: NDArray[np.float64],
    held: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Smoothing:
    context, target = held
    joint = np.asarray(counts[context, target]).ravel()
    followed = np.asarray(counts.sum(axis=1)).ravel()[context]
    types = np.diff(counts.indptr)[context]

    def nats(how: Smoothing) -> float:
        prior = how.strength + how.discount * types
        seen = np.maximum(joint - how.discount, 0)
        return float(-np.log((seen + prior * unigram[target]) / (followed + how.strength)).mean())

    return min((Smoothing(d, s) for d in DISCOUNTS for s in STRENGTHS), key=nats)
