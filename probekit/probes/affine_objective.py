"""The convex objective of an affine map into a frozen unembedding, or to free logits.

    mean cross-entropy of U (A (z - mean) + b) + c          U frozen
                       or of A (z - mean) + c               output free
        + λ tr(D Σ Dᵀ) + |c - c₀|² / (2n),    D = A - A₀

over n positions, in nats. Where the output is free, A₀ and c₀ are those of the frozen one
as logits: U A₀, and c₀ + U b. `probekit.probes.linear` says what the parts are and why.

An `AffineObjective` holds what does not change during a fit. A pass over the data goes into
`BatchSums`, which gives an `Evaluation`: value, gradient, and the moments of the predictions.
From these comes a `Curvature`, the preconditioner of the descent.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class AffineMap:
    """One map from z to logits: U (A (z - mean) + b) + c, or A (z - mean) + b + c.

    Attributes:
        slope: A, shape (hidden, features); with a free output (vocab, features).
        shift: b, shape (hidden,); with a free output (vocab,).
        bias: c, shape (vocab,).
    """

    slope: Float[Tensor, "out features"]
    shift: Float[Tensor, " out"]
    bias: Float[Tensor, " vocab"]

    @property
    def point(self) -> Point:
        """What a descent varies: A and c. Any change of b can be expressed by c."""
        return self.slope, self.bias


@dataclass(frozen=True)
class Evaluation:
    """What a pass over the data tells of the objective at one point.

    Attributes:
        value: The objective, in nats.
        gradient: Its derivatives by A and c.
        mean_probs: Mean predicted probability of each token, shape (vocab,).
        second_moment: Mean of (Uᵀ p)(Uᵀ p)ᵀ, shape (hidden, hidden); with a free output the mean
            of p², shape (vocab,).
        target_shares: Share of each token among the targets, shape (vocab,).
    """

    value: float
    gradient: Point
    mean_probs: Float[Tensor, " vocab"]
    second_moment: Float[Tensor, "*out"]
    target_shares: Float[Tensor, " vocab"]


@dataclass(frozen=True)
class Curvature:
    """An approximate Hessian: independent factors of the output and the input, and one of c.

    Attributes:
        values: Curvature of the output along each direction of `basis`, shape (hidden,); with
            a free output along each logit, shape (vocab,).
        basis: Orthonormal directions as columns, shape (hidden, hidden); None with a free output.
        whitening: Σ⁻¹, shape (features, features).
        inverse_bias: Inverse curvature by each value of c, shape (vocab,).
    """

    values: Float[Tensor, " out"]
    basis: Float[Tensor, "out out"] | None
    whitening: Float[Tensor, "features features"]
    inverse_bias: Float[Tensor, " vocab"]

    def newton(self, gradient: Point, penalty: float) -> Point:
        """Return the inverse Hessian times `gradient` under this λ.

        Source: the Kronecker factors of Martens & Grosse (2015); the penalty's is exact.
        """
        # The Hessian of A is H ⊗ Σ + 2 λ I ⊗ Σ, with H = Q diag(values) Qᵀ. Its inverse is
        # Q (diag(values) + 2 λ)⁻¹ Qᵀ on the left of a gradient and Σ⁻¹ on its right.
        weights = 1 / (self.values + 2 * penalty)[:, None]
        if self.basis is None:
            scaled = weights * gradient[0]
        else:
            scaled = self.basis @ (weights * (self.basis.T @ gradient[0]))
        return scaled @ self.whitening, gradient[1] * self.inverse_bias


def scaled_unembedding(anatomy: Anatomy) -> Float[Tensor, "vocab hidden"]:
    """Return U: the unembedding with the model's output scale."""
    return anatomy.unembedding.detach() * anatomy.scale


def scaled_bias(anatomy: Anatomy) -> Float[Tensor, " vocab"]:
    """Return the head's own bias with the model's output scale, zeros where it has none."""
    if anatomy.bias is None:
        return torch.zeros(len(anatomy.unembedding), device=anatomy.unembedding.device)
    return anatomy.bias.detach().float() * anatomy.scale


class AffineObjective:
    """The objective of one cell, for any λ; evaluated by `BatchSums`.

    Attributes:
        count: Number of positions n.
        mean: Mean of z, shape (features,).
        covariance: Σ with its ridge, shape (features, features).
        whitening: Σ⁻¹, shape (features, features).
        unembedding: U, in the dtype of products; None where the output is free.
        start: The map with A₀, b and c₀.
        lens: The map that hands on the last inputs: the logit lens.
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
        # Nearly singular where there are fewer positions than features.
        covariance += DAMPING * covariance.diagonal().mean() * eye
        self.covariance = covariance.float()
        self.whitening = torch.linalg.inv(covariance).float()
        self.unembedding = None if free else unembedding
        # The identity on the last layer's z: A = [0 I], and b = its mean, since z is centred.
        width = len(moments.mean_y)
        lens = eye[-width:], self.mean[-width:]
        rows = unembedding.float() if free else None
        self.lens = _map(*lens, bias, rows)
        self.start = _map(*(lens if as_lens else _ridge(moments)), bias, rows)

    def at(self, point: Point) -> AffineMap:
        """Return the map at a point of a descent, which leaves b as it was at the start."""
        slope, bias = point
        return AffineMap(slope, self.start.shift, bias)

    def unigram(self, target_shares: Float[Tensor, " vocab"]) -> AffineMap:
        """Return the map that ignores z: V-information is defined by families that can.

        Counts have one pseudo-count in all, spread over the vocabulary.
        """
        counts = target_shares * self.count + 1 / len(target_shares)
        zeros = torch.zeros_like(self.start.slope), torch.zeros_like(self.start.shift)
        return AffineMap(*zeros, (counts / (self.count + 1)).log())

    def hidden(self, at: AffineMap, z: Features) -> Hidden:
        """Return A (z - mean) + b: what enters U, or with a free output the logits less c."""
        return torch.addmm(at.shift, z - self.mean, at.slope.T)

    def tensors(self, at: AffineMap) -> dict[str, Tensor]:
        """Return the values of a probe by name, for a z that is not centred."""
        intercept = self.hidden(at, torch.zeros_like(self.mean)[None])[0]
        if self.unembedding is None:
            return {"A": at.slope, "c": at.bias + intercept}
        return {"A": at.slope, "b": intercept, "c": at.bias}

    def nats(self, at: AffineMap, z: Features, targets: Targets1d) -> float:
        """Return the summed cross-entropy of a map."""
        return summed_nats(self.hidden(at, z), self.unembedding, at.bias, targets)

    def curvature(self, evaluation: Evaluation) -> Curvature:
        """Return the curvature at the point of an evaluation.

        For the output it is the mean over positions of Uᵀ (diag p - p pᵀ) U; of a free
        output, its diagonal for U = I.
        """
        mean_probs, basis = evaluation.mean_probs, None
        if self.unembedding is None:
            values = mean_probs - evaluation.second_moment
        else:
            rows = self.unembedding.float()
            weighted = rows.T @ (mean_probs[:, None] * rows)
            values, basis = torch.linalg.eigh((weighted - evaluation.second_moment).double())
            basis = basis.float()
        # The larger of the two: a rare token predicted far too rarely must not overshoot.
        # 1 / n is the curvature of the prior on c.
        likely = mean_probs.maximum(evaluation.target_shares)
        return Curvature(
            values=values.clamp_min(DAMPING * float(values.mean())).float(),
            basis=basis,
            whitening=self.whitening,
            inverse_bias=1 / (likely + 1 / self.count),
        )

    def usual_penalty(self, curvature: Curvature) -> float:
        """λ that the number of slopes and positions suggests."""
        share = USUAL_SHARE * self.start.slope.numel() / self.count
        return share * float(curvature.values.mean()) / 2

    def minimum_under(
        self, other: float, point: Point, gradient: Point, penalty: float, curvature: Curvature
    ) -> Point:
        """Predict the minimum under another λ by one Newton step from that under `penalty`."""
        # Of the gradient only the penalty's part is another: 2 λ D Σ.
        pull = (point[0] - self.start.slope) @ self.covariance
        changed = gradient[0] + 2 * (other - penalty) * pull
        return step(point, -1.0, curvature.newton((changed, gradient[1]), other))


class BatchSums:
    """Sums over the batches of one pass over the data, at one point of a descent."""

    def __init__(self, objective: AffineObjective, point: Point) -> None:
        self.objective, self.at = objective, objective.at(point)
        shape = self.at.shift.shape
        self.nats = 0.0
        self.slope = torch.zeros_like(self.at.slope)
        self.bias = torch.zeros_like(self.at.bias)
        self.second = self.at.shift.new_zeros(shape if objective.unembedding is None else 2 * shape)
        self.target_shares = torch.zeros_like(self.at.bias)

    def update(self, z: Features, targets: Targets1d) -> None:
        """Add a batch."""
        objective = self.objective
        hidden = objective.hidden(self.at, z)
        gradient = cross_entropy(hidden, objective.unembedding, self.at.bias, targets)
        self.nats += gradient.nats
        # By A: the outer product of the gradient by A (z - mean) + b and of z - mean, summed.
        self.slope += gradient.hidden.T @ (z - objective.mean)
        self.bias += gradient.bias
        self.target_shares += targets.bincount(minlength=len(self.bias)) / objective.count
        if objective.unembedding is None:
            # The gradient is p less 1 at the target.
            probs = gradient.hidden
            probs[torch.arange(len(probs)), targets] += 1
            self.second += probs.square_().sum(dim=0)
        else:
            # The gradient is Uᵀ p less the row of the target.
            mean_rows = gradient.hidden + objective.unembedding[targets].float()
            self.second += mean_rows.T @ mean_rows

    def evaluation(self, penalty: float) -> Evaluation:
        """Return value and gradient under this λ, and the moments of the predictions."""
        objective = self.objective
        moved = self.at.slope - objective.start.slope
        drift = self.at.bias - objective.start.bias
        pull = moved @ objective.covariance
        # The sums are of all positions; so is the prior on c, |c - c₀|² / 2.
        value = (self.nats + float(drift.square().sum()) / 2) / objective.count
        value += penalty * float((moved * pull).sum())
        slope = self.slope / objective.count + 2 * penalty * pull
        return Evaluation(
            value=value,
            gradient=(slope, (self.bias + drift) / objective.count),
            # The derivative by c is predicted less observed.
            mean_probs=self.bias / objective.count + self.target_shares,
            second_moment=self.second / objective.count,
            target_shares=self.target_shares,
        )


def _map(
    slope: Tensor, shift: Tensor, bias: Tensor, rows: Float[Tensor, "vocab hidden"] | None
) -> AffineMap:
    """Return the map with these values; as logits if `rows`, those of U, are given."""
    if rows is None:
        return AffineMap(slope, shift, bias)
    return AffineMap(rows @ slope, torch.zeros_like(bias), bias + rows @ shift)


def _ridge(moments: Moments) -> tuple[Tensor, Tensor]:
    """Return slope and b of the ridge regression of y on x - mean."""
    slope, intercept = moments.ridge(RIDGE)
    return slope.float(), (intercept + slope @ moments.mean_x).float()
