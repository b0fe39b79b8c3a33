"""Floors that see tokens alone: unigram and skip-bigram."""

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

# Pseudo-counts given to the lower order, of which validation chooses one.
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)

# Train and validation differ in blocks, not in their length.
TokensAndTargets = tuple[Int[Tensor, "_ pos"], Targets]


@dataclass(frozen=True)
class Unigram:
    """How often each token is a target, as a readout called `unigram`.

    Attributes:
        probs: By offset, probabilities of shape (vocab,): counts on the training targets
            with uniform pseudo-counts.
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
class SkipBigram:
    """P(x_{t+k} given x_t), as a readout called `skip-bigram`.

    Counts are smoothed towards the unigram by a Dirichlet prior whose strength validation
    chooses (MacKay & Peto, 1995): a token seen n times has weight n / (n + strength).

    Attributes:
        counts: By offset, how often each token follows each, sparse of (vocab, vocab).
        strengths: By offset, pseudo-counts given to the unigram.
        unigram: What is smoothed towards.
        layers: None.
    """

    counts: Mapping[int, csr_array]
    strengths: Mapping[int, float]
    unigram: Unigram
    layers: frozenset[int] = field(default=frozenset())

    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield the smoothed conditional of the token at each position, offset by offset."""
        for offset, mask in valid.items():
            tokens = seen.token_ids[mask].cpu().numpy()
            rows, strength = self.counts[offset][tokens], self.strengths[offset]
            # One dense array, in place: a batch of a large vocabulary takes gigabytes.
            probs = rows.astype(np.float32).toarray()
            probs += (strength * self.unigram.probs[offset]).astype(np.float32)
            probs /= (rows.sum(axis=1) + strength).astype(np.float32)[:, None]
            logits = torch.from_numpy(probs).to(seen.token_ids.device).log_()
            yield Cell(SKIP_BIGRAM, offset), logits


def fit(
    train: TokensAndTargets, validation: TokensAndTargets, vocab_size: int
) -> tuple[Unigram, SkipBigram]:
    """Count targets at every offset of the training part.

    Args:
        train: Token ids of shape (block, pos) and their targets: what is counted.
        validation: The same, for the strength of the smoothing.
        vocab_size: Rows of the unembedding.

    Raises:
        DataError: If there is nothing to count.
    """
    unigram, counts, strengths = {}, {}, {}
    for offset in train[1].valid:
        context, target = _pairs(train, offset)
        held = _pairs(validation, offset)
        if not len(target) or not len(held[1]):
            raise DataError(f"there is no pair of tokens {offset} apart to count")
        totals = np.bincount(target, minlength=vocab_size).astype(np.float64)
        # One pseudo-count in all for what was never seen, spread over the vocabulary.
        unigram[offset] = (totals + 1 / vocab_size) / (totals.sum() + 1)
        ones = np.ones(len(target))
        shape = (vocab_size, vocab_size)
        counts[offset] = csr_array((ones, (context, target)), shape=shape)
        strengths[offset] = _best_strength(counts[offset], unigram[offset], held)
    floor = Unigram(unigram)
    return floor, SkipBigram(counts, strengths, floor)


def _pairs(part: TokensAndTargets, offset: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    token_ids, targets = part
    valid = targets.valid[offset]
    # Copies: scipy wants arrays whose memory is their own.
    return token_ids[valid].numpy().copy(), targets.ids[offset][valid].numpy().copy()


def _best_strength(
    counts: csr_array,
    unigram: NDArray[np.float64],
    held: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> float:
    context, target = held
    joint = np.asarray(counts[context, target]).ravel()
    seen = np.asarray(counts.sum(axis=1)).ravel()[context]

    def nats(strength: float) -> float:
        probs = (joint + strength * unigram[target]) / (seen + strength)
        return float(-np.log(probs).mean())

    return min(STRENGTHS, key=nats)
