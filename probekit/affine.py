"""The convex objective of an affine map into a frozen unembedding.

    mean cross-entropy of W_U (A (z - mean) + b) + c
        + λ tr(D Σ Dᵀ) + |c - c₀|² / (2n),    D = A - A₀

over n positions, in nats. `probekit.linear` says what the parts are and why.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from probekit.anatomy import Anatomy
from probekit.descent import Point, step
from probekit.metrics import cross_entropy
from probekit.moments import Moments
from probekit.shapes import Hidden, Targets1d

# Shares of a mean variance or curvature: enough to invert what is nearly singular.
RIDGE = 1e-2
DAMPING = 1e-4


def scaled_unembedding(head: Anatomy) -> Float[Tensor, "vocab hidden"]:
    """Return the unembedding with the model's output scale."""
    return head.unembedding.detach() * head.scale


def scaled_bias(head: Anatomy) -> Float[Tensor, " vocab"]:
    """Return the head's own bias with the model's output scale, zeros where it has none."""
    if head.bias is None:
        return torch.zeros(len(head.unembedding), device=head.unembedding.device)
    return head.bias.detach().float() * head.scale


class AffineObjective:
    """Value, gradient and curvature of one objective, batch by batch; a point is (A, c).

    Attributes:
        origin: The start, (A₀, c₀).
        identity: The point at which the map is the identity: the logit lens.
        penalty: λ.
        seen: Share of each token among the targets, shape (vocab,).
    """

    def __init__(self, moments: Moments, bias: Tensor, as_identity: bool) -> None:
        """Start at the ridge regression of y on x that `moments` hold, or at the identity."""
        self.count = moments.count
        self.mean = moments.mean_x.float()
        eye = torch.eye(len(self.mean), device=self.mean.device)
        self.identity: Point = (eye, bias)
        if as_identity:
            self.origin, self.b = self.identity, self.mean
        else:
            slope, intercept = moments.ridge(RIDGE)
            self.origin = (slope.float(), bias)
            self.b = (intercept + slope @ moments.mean_x).float()
        covariance = moments.covariance
        covariance += DAMPING * covariance.diagonal().mean() * eye
        self.covariance = covariance.float()
        self.whitening = torch.linalg.inv(covariance).float()
        self.penalty = 0.0
        self.seen = torch.zeros_like(bias)
        self._reset()

    def hidden(self, point: Point, z: Hidden) -> Hidden:
        """Return A (z - mean) + b; at `identity`, z itself."""
        shift = self.mean if point is self.identity else self.b
        return (z - self.mean) @ point[0].T + shift

    def evaluate(self, point: Point, z: Hidden, targets: Targets1d, unembedding: Tensor) -> None:
        """Add a batch to value, gradient and curvature at `point`, which `take` will give."""
        gradient = cross_entropy(self.hidden(point, z), unembedding, point[1], targets)
        self._nats += gradient.nats
        self._slope += gradient.hidden.T @ (z - self.mean)
        self._bias += gradient.bias
        # The gradient is W_Uᵀ p less the row of the target.
        mean_rows = gradient.hidden + unembedding[targets].float()
        self._second += mean_rows.T @ mean_rows

    def take(self, point: Point) -> tuple[float, Point]:
        """Return value and gradient at `point` from all batches added, and start anew."""
        moved = point[0] - self.origin[0]
        drift = point[1] - self.origin[1]
        pull = moved @ self.covariance
        value = (self._nats + float(drift.square().sum()) / 2) / self.count
        value += self.penalty * float((moved * pull).sum())
        slope = self._slope / self.count + 2 * self.penalty * pull
        bias = (self._bias + drift) / self.count
        self.mean_probs = self._bias / self.count + self.seen
        self.second_moment = self._second / self.count
        self._reset()
        return value, (slope, bias)

    def set_curvature(self, unembedding: Tensor) -> None:
        """Take the curvature at the point last given by `take`.

        For the output it is the mean over positions of W_Uᵀ (diag p - p pᵀ) W_U.
        """
        weighted = unembedding.T @ (self.mean_probs[:, None] * unembedding)
        values, basis = torch.linalg.eigh((weighted - self.second_moment).double())
        self.basis = basis.float()
        self.curvature = values.clamp_min(DAMPING * float(values.mean())).float()
        # The larger of the two: a rare token predicted far too rarely must not overshoot.
        self.rarity = 1 / (self.mean_probs.maximum(self.seen) + 1 / self.count)

    def minimum_at(self, penalty: float, point: Point, gradient: Point) -> Point:
        """Predict the minimum under another λ by one Newton step from the minimum under this."""
        pull = (point[0] - self.origin[0]) @ self.covariance
        changed = gradient[0] + 2 * (penalty - self.penalty) * pull
        return step(point, -1.0, self.newton((changed, gradient[1]), penalty))

    def newton(self, gradient: Point, penalty: float | None = None) -> Point:
        """Return the inverse Hessian times `gradient`, output and input taken as independent.

        Source: the Kronecker factors of Martens & Grosse (2015); the penalty's is exact.
        """
        strength = 2 * (self.penalty if penalty is None else penalty)
        scaled = (self.basis.T @ gradient[0]) / (self.curvature + strength)[:, None]
        return (self.basis @ scaled @ self.whitening, gradient[1] * self.rarity)

    def _reset(self) -> None:
        self._nats = 0.0
        self._slope = torch.zeros_like(self.origin[0])
        self._bias = torch.zeros_like(self.origin[1])
        self._second = torch.zeros_like(self.origin[0])
