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

from torch import Tensor

from probekit.probes.convex.affine_objective import AffineMap, AffineObjective, Features
from probekit.probes.convex.lbfgs import Descent, Point, dot, step
from probekit.probes.convex.shortlist import PerToken
from probekit.scoring.losses import cross_entropy
from probekit.shapes import Targets1d


@dataclass(frozen=True)
class _Half:
    """Means over half of a sample: exact gradient less the shortlist's; and summed predictions."""

    difference: Point
    predicted: Tensor


class ExactDifference:
    """What the shortlist misses at one map, on a sample of positions.

    Args:
        whole: The objective over the vocabulary.
        short: The same over a shortlist.
        at: The map, of the vocabulary.
        z: Inputs at the sampled positions, shape (n, features).
        targets: Their targets, shape (n,).
    """

    def __init__(
        self,
        whole: AffineObjective,
        short: AffineObjective,
        at: AffineMap,
        z: Features,
        targets: Targets1d,
    ) -> None:
        assert short.shortlist is not None
        self.whole, self.short, self.shortlist, self.at = whole, short, short.shortlist, at
        self.count = len(z)
        # Every second position to one half, the others to the other.
        self.halves = [self._half(z[first::2], targets[first::2]) for first in (0, 1)]

    def _half(self, z: Features, targets: Targets1d) -> _Half:
        hidden, shortlist = self.whole.hidden(self.at, z), self.shortlist
        exact = cross_entropy(hidden, self.whole.unembedding, self.at.bias, targets)
        rows_bias, places = shortlist.restricted(self.at.bias), self.short.places(targets)
        drawn = cross_entropy(hidden, self.short.unembedding, rows_bias, places)
        slope = (exact.hidden - drawn.hidden).T @ (z - self.whole.mean)
        # A token of the shortlist stands for all that are like it.
        bias = exact.bias[shortlist.tokens] * shortlist.weights - drawn.bias
        predicted = exact.bias + targets.bincount(minlength=len(exact.bias))
        n = max(1, len(z))  # of a sample of one, one half is empty
        return _Half((slope / n, bias / n), predicted)

    @property
    def predicted(self) -> PerToken:
        """Sum of the predicted probabilities over all positions, as the sample suggests."""
        both = self.halves[0].predicted + self.halves[1].predicted
        return both * (self.whole.count / self.count)

    def excess(self, descent: Descent, newton: Callable[[Point], Point]) -> float:
        """Return the objective over the vocabulary above its minimum, an estimate in nats.

        Args:
            descent: The descent whose best point this is the difference at.
            newton: P. That of L-BFGS is scaled to its last step, and was seen to be small by a
                factor of 100 in all directions that the descent has not looked at.
        """
        a, b = (half.difference for half in self.halves)
        apart = step(a, -1.0, b)
        missed = step(b, 0.5, apart)
        square = dot(missed, newton(missed))
        unseen = 1 - self.count / self.whole.count
        square -= unseen * dot(apart, newton(apart)) / 4
        return descent.excess + dot(missed, newton(descent.gradient)) + square / 2
