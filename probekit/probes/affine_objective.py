"""The convex objective of an affine map into a frozen unembedding, or to free logits.

    mean cross-entropy of U (A (z - mean) + b) + c          U frozen
                       or of A (z - mean) + c               output free
        + λ tr(D Σ Dᵀ) + |c - c₀|² / (2n),    D = A - A₀

over n positions, in nats. Where the output is free, A₀ and c₀ are those of the frozen one
as logits: U A₀, and c₀ + U b. `probekit.probes.linear` says what the parts are and why.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from probekit.models.anatomy import Anatomy
from probekit.probes.lbfgs import Point, step
from probekit.probes.moments import Moments
from probekit.scoring.losses import cross_entropy, summed_nats
from probekit.shapes import Hidden, Targets1d

Features = Float[Tensor, "n features"]

# Shares of a mean variance or curvature: enough to invert what is nearly singular.
RIDGE = 1e-2
DAMPING = 1e-4
# The usual λ, as a share of half the mean output curvature, is this times slopes per
# position: near the optimum at 0.01 and at 0.7 slopes per position alike.
USUAL_SHARE = 2.0


def scaled_unembedding(anatomy: Anatomy) -> Float[Tensor, "vocab hidden"]:
    """Return the unembedding with the model's output scale."""
    return anatomy.unembedding.detach() * anatomy.scale


def scaled_bias(anatomy: Anatomy) -> Float[Tensor, " vocab"]:
    """Return the head's own bias with the model's output scale, zeros where it has none."""
    if anatomy.bias is None:
        return torch.zeros(len(anatomy.unembedding), device=anatomy.unembedding.device)
    return anatomy.bias.detach().float() * anatomy.scale


class AffineObjective:
    """Value, gradient and curvature of one objective, batch by batch; a point is (A, c).

    Attributes:
        origin: The start, (A₀, c₀).
        lens: The point at which the map hands on its last inputs: the logit lens.
        unembedding: U, in the dtype of products; None where the output is free.
        penalty: λ.
        seen: Share of each token among the targets, shape (vocab,).
    """

    def __init__(
        self,
        moments: Moments,
        unembedding: Float[Tensor, "vocab hidden"],
        bias: Float[Tensor, " vocab"],
        as_lens: bool,
        free: bool = False,
    ) -> None:
        """Start at the ridge regression of y on x that `moments` hold, or at the lens.

        Args:
            moments: Of x = z, which may be several layers side by side, the last one last;
                and of y, what enters the unembedding at the position to predict from.
            unembedding: U.
            bias: The head's own.
            as_lens: Start at the lens.
            free: Fit A to the logits themselves, shape (vocab, x).
        """
        self.count = moments.count
        self.mean = moments.mean_x.float()
        covariance = moments.covariance
        eye = torch.eye(len(self.mean), device=self.mean.device)
        covariance += DAMPING * covariance.diagonal().mean() * eye
        self.covariance = covariance.float()
        self.whitening = torch.linalg.inv(covariance).float()
        width = len(moments.mean_y)
        lens = eye[-width:], self.mean[-width:]
        start = lens if as_lens else self._ridge(moments)
        if free:
            rows = unembedding.float()
            self.lens, self.origin = ((rows @ slope, bias + rows @ b) for slope, b in (lens, start))
            self.lens_b = self.b = torch.zeros_like(bias)
        else:
            self.lens, self.origin = ((slope, bias) for slope, _ in (lens, start))
            self.lens_b, self.b = lens[1], start[1]
        self.unembedding = None if free else unembedding
        self._unigram: Point | None = None
        self.penalty = 0.0
        self.seen = torch.zeros_like(bias)
        self._reset()

    @property
    def unigram(self) -> Point:
        """The point at which z is ignored: V-information is defined by families that can.

        Counts have the pseudo-counts of the unigram floor, one in all.
        """
        if self._unigram is None:
            counts = self.seen * self.count + 1 / len(self.seen)
            self._unigram = torch.zeros_like(self.origin[0]), (counts / (self.count + 1)).log()
        return self._unigram

    def hidden(self, point: Point, z: Features) -> Hidden:
        """Return A (z - mean) + b; at `lens`, the last of z. With a free output, the logits."""
        shift = self.lens_b if point is self.lens else self.b
        if point is self._unigram:
            shift = torch.zeros_like(self.b)
        return torch.addmm(shift, z - self.mean, point[0].T)

    def tensors(self, point: Point) -> dict[str, Tensor]:
        """Return the values of a probe by name, for a z that is not centred."""
        intercept = self.hidden(point, torch.zeros_like(self.mean)[None])[0]
        if self.unembedding is None:
            return {"A": point[0], "c": point[1] + intercept}
        return {"A": point[0], "b": intercept, "c": point[1]}

    def evaluate(self, point: Point, z: Features, targets: Targets1d) -> None:
        """Add a batch to value, gradient and curvature at `point`, which `take` will give."""
        gradient = cross_entropy(self.hidden(point, z), self.unembedding, point[1], targets)
        self._nats += gradient.nats
        self._slope += gradient.hidden.T @ (z - self.mean)
        self._bias += gradient.bias
        if self.unembedding is None:
            # The gradient is p less 1 at the target.
            probs = gradient.hidden
            probs[torch.arange(len(probs)), targets] += 1
            self._second += probs.square_().sum(dim=0)
        else:
            # The gradient is Uᵀ p less the row of the target.
            mean_rows = gradient.hidden + self.unembedding[targets].float()
            self._second += mean_rows.T @ mean_rows

    def nats(self, point: Point, z: Features, targets: Targets1d) -> float:
        """Return the summed cross-entropy at `point`."""
        return summed_nats(self.hidden(point, z), self.unembedding, point[1], targets)

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

    def set_curvature(self) -> None:
        """Take the curvature at the point last given by `take`.

        For the output it is the mean over positions of Uᵀ (diag p - p pᵀ) U; of a free
        output, its diagonal for U = I.
        """
        if self.unembedding is None:
            self.basis: Tensor | None = None
            values = self.mean_probs - self.second_moment
        else:
            rows = self.unembedding.float()
            weighted = rows.T @ (self.mean_probs[:, None] * rows)
            values, basis = torch.linalg.eigh((weighted - self.second_moment).double())
            self.basis = basis.float()
        self.curvature = values.clamp_min(DAMPING * float(values.mean())).float()
        # The larger of the two: a rare token predicted far too rarely must not overshoot.
        self.rarity = 1 / (self.mean_probs.maximum(self.seen) + 1 / self.count)

    @property
    def usual_penalty(self) -> float:
        """λ that the number of slopes and positions suggests."""
        share = USUAL_SHARE * self.origin[0].numel() / self.count
        return share * float(self.curvature.mean()) / 2

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
        weights = 1 / (self.curvature + strength)[:, None]
        if self.basis is None:
            scaled = weights * gradient[0]
        else:
            scaled = self.basis @ (weights * (self.basis.T @ gradient[0]))
        return (scaled @ self.whitening, gradient[1] * self.rarity)

    @staticmethod
    def _ridge(moments: Moments) -> tuple[Tensor, Tensor]:
        """Return slope and b of the ridge regression of y on x - mean."""
        slope, intercept = moments.ridge(RIDGE)
        return slope.float(), (intercept + slope @ moments.mean_x).float()

    def _reset(self) -> None:
        self._nats = 0.0
        self._slope = torch.zeros_like(self.origin[0])
        self._bias = torch.zeros_like(self.origin[1])
        shape = self.b.shape if self.unembedding is None else 2 * self.b.shape
        self._second = self.b.new_zeros(shape)
