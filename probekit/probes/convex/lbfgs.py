"""Minimise a convex function of several tensors, one value and gradient at a time.

Many functions share the passes over the data that evaluate them, so the caller evaluates
and each `Descent` is told the outcome and names the next point to try.
"""

from collections import deque
from collections.abc import Callable, Sequence

from torch import Tensor

Point = tuple[Tensor, ...]

# Sufficient decrease (Nocedal & Wright, 3.4), and the noise of a value summed in bfloat16.
DECREASE = 1e-4
NOISE = 1e-6


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the inner product of two points."""
    return sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))


def step(a: Point, size: float, b: Sequence[Tensor]) -> Point:
    """Return a + size · b."""
    return tuple(x + size * y for x, y in zip(a, b, strict=True))


class Descent:
    """L-BFGS around a preconditioner, with backtracking.

    Source: Nocedal & Wright, Numerical Optimization, algorithm 7.4, with the
    preconditioner as the initial inverse Hessian.

    Attributes:
        trial: The point to evaluate next.
        best: The last accepted point.
        excess: Estimate of the value at `best` above the minimum: half the Newton
            decrement, with the inverse Hessian that L-BFGS has built.
        converged: Whether `excess` is within the tolerance. What converged forgets its pairs of
            steps, the larger part of what it holds: it would begin anew if it were told more.
    """

    def __init__(
        self,
        start: Point,
        tolerance: float,
        memory: int = 6,
    ) -> None:
        self.trial = self.best = start
        self.tolerance = tolerance
        self.value = float("inf")
        self.excess = float("inf")
        self.pairs: deque[tuple[Point, Point, float]] = deque(maxlen=memory)
        self.size = 1.0
        self.slope = 0.0
        self.gradient: Point = ()
        self.direction: Point = ()

    @property
    def n_accepted(self) -> int:
        """Number of accepted steps along which the function curves up, `memory` at most."""
        return len(self.pairs)

    @property
    def converged(self) -> bool:
        """Whether the best point is within the tolerance of the minimum."""
        return self.excess <= self.tolerance

    def tell(self, value: float, gradient: Point, precondition: Callable[[Point], Point]) -> None:
        """Take value and gradient at `trial`, and the preconditioner; choose the next trial."""
        # Armijo's condition. NaN is not below anything, so that such a trial is rejected too.
        promised = self.value + DECREASE * self.size * self.slope + NOISE * abs(self.value)
        if self.gradient and not value <= promised:
            self._shorten(value)
            return
        if self.gradient:
            moved = step(self.trial, -1.0, self.best)
            bent = step(gradient, -1.0, self.gradient)
            curvature = dot(moved, bent)
            if curvature > 0:
                self.pairs.append((moved, bent, curvature))
        self.best, self.value, self.gradient = self.trial, value, gradient
        self.direction = tuple(-x for x in self._inverse_hessian(gradient, precondition))
        # slope = -gᵀ H⁻¹ g; a Newton step would lower a quadratic by half of gᵀ H⁻¹ g.
        self.slope = dot(gradient, self.direction)
        self.excess = -self.slope / 2
        if self.converged:
            self.pairs.clear()
        self.size = 1.0
        self.trial = step(self.best, self.size, self.direction)

    def _shorten(self, value: float) -> None:
        # The minimum of the parabola through both values and the slope at `best`, as a share of
        # the last size, kept within 0.1 … 0.5.
        rise = value - self.value - self.slope * self.size
        share = -self.slope * self.size / (2 * rise) if rise > 0 else 0.5
        self.size *= min(max(share, 0.1), 0.5)
        self.trial = step(self.best, self.size, self.direction)

    def _inverse_hessian(self, vector: Point, precondition: Callable[[Point], Point]) -> Point:
        # The two-loop recursion: s = moved, y = bent, curvature = sᵀ y.
        weights = []
        for moved, bent, curvature in reversed(self.pairs):
            weight = dot(moved, vector) / curvature
            weights.append(weight)
            vector = step(vector, -weight, bent)
        vector = precondition(vector)
        if self.pairs:
            # The usual scale of the initial inverse Hessian P: sᵀ y / yᵀ P y of the last pair.
            _, bent, curvature = self.pairs[-1]
            scale = curvature / dot(bent, precondition(bent))
            vector = tuple(scale * x for x in vector)
        for (moved, bent, curvature), weight in zip(self.pairs, reversed(weights), strict=True):
            vector = step(vector, weight - dot(bent, vector) / curvature, moved)
        return vector
