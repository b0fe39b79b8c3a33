"""How far a fit over a shortlist is above the minimum over the whole vocabulary.

At the minimum over the shortlist what is left of the gradient is what the shortlist misses: the
difference d of the exact gradient and the shortlist's. It is taken on a sample of m of the n
positions. With v the gradient over the shortlist, on all positions, and P the inverse Hessian,

    excess = (v + d)ᵀ P (v + d) / 2

The d of a sample is mostly noise, and its square is too large by far. How much too large, two
halves of the sample tell, with d₁ and d₂, d their mean: on average over samples

    dᵀ P d - (1 - m / n) (d₁ - d₂)ᵀ P (d₁ - d₂) / 4

is the square of the d of all positions. Its own noise is small, spread over all directions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from probekit.probes.convex.affine_objective import AffineMap, AffineObjective, Features
from probekit.probes.convex.lbfgs import Descent, Point, dot, step
from probekit.probes.convex.shortlist import PerToken
from probekit.scoring.losses import cross_entropy
from probekit.shapes import Targets1d


@dataclass
class _Half:
    """Sums over half of a sample: exact gradient less the shortlist's, and predictions."""

    slope: Tensor
    bias: Tensor
    predicted: Tensor
    count: int = 0


class ExactDifference:
    """What the shortlist misses at one map: sums over the batches of a sample of positions.

    Args:
        whole: The objective over the vocabulary.
        short: The same over a shortlist.
        at: The map, of the vocabulary.
    """

    def __init__(self, whole: AffineObjective, short: AffineObjective, at: AffineMap) -> None:
        assert short.shortlist is not None
        self.whole, self.short, self.shortlist, self.at = whole, short, short.shortlist, at
        self.rows_bias = self.shortlist.restricted(at.bias)
        self.halves = [self._empty(), self._empty()]

    def _empty(self) -> _Half:
        zeros = torch.zeros_like
        return _Half(zeros(self.at.slope), zeros(self.rows_bias), zeros(self.at.bias))

    def update(self, z: Features, targets: Targets1d) -> None:
        """Add a batch: every second position to one half, the others to the other."""
        for half, first in zip(self.halves, (0, 1), strict=True):
            self._add(half, z[first::2], targets[first::2])

    def _add(self, half: _Half, z: Features, targets: Targets1d) -> None:
        if not len(z):
            return
        hidden, shortlist = self.whole.hidden(self.at, z), self.shortlist
        exact = cross_entropy(hidden, self.whole.unembedding, self.at.bias, targets)
        places = self.short.places(targets)
        drawn = cross_entropy(hidden, self.short.unembedding, self.rows_bias, places)
        half.slope += (exact.hidden - drawn.hidden).T @ (z - self.whole.mean)
        # A token of the shortlist stands for all that are like it.
        half.bias += exact.bias[shortlist.tokens] * shortlist.weights - drawn.bias
        half.predicted += exact.bias + targets.bincount(minlength=len(exact.bias))
        half.count += len(z)

    @property
    def predicted(self) -> PerToken:
        """Sum of the predicted probabilities over all positions, as the sample suggests."""
        both = self.halves[0].predicted + self.halves[1].predicted
        return both * (self.whole.count / self._count)

    @property
    def _count(self) -> int:
        return max(1, sum(half.count for half in self.halves))

    def excess(self, descent: Descent, newton: Callable[[Point], Point]) -> float:
        """Return the objective over the vocabulary above its minimum, an estimate in nats.

        Args:
            descent: The descent whose best point this is the difference at.
            newton: P. That of L-BFGS is scaled to its last step, and was seen to be small by a
                factor of 100 in all directions that the descent has not looked at.
        """
        a, b = (_mean(half) for half in self.halves)
        apart = step(a, -1.0, b)
        missed = step(b, 0.5, apart)
        square = dot(missed, newton(missed))
        unseen = 1 - self._count / self.whole.count
        square -= unseen * dot(apart, newton(apart)) / 4
        return descent.excess + dot(missed, newton(descent.gradient)) + square / 2


def _mean(half: _Half) -> Point:
    return half.slope / max(half.count, 1), half.bias / max(half.count, 1)
