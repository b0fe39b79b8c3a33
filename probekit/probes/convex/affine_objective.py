"""The convex objective of an affine map into a frozen unembedding, or to free logits.

    mean cross-entropy of U (A (z - mean) + b) + c          U frozen
                       or of A (z - mean) + c               output free
        + λ tr(D Σ Dᵀ) + |c - c₀|² / (2n),    D = A - A₀

over n positions, in nats. Where the output is free, A₀ and c₀ are those of the frozen one
as logits: U A₀, and c₀ + U b. `probekit.probes.linear` says what the parts are and why.

An `AffineObjective` holds what does not change during a fit. A pass over the data goes into
`BatchSums`, which gives an `Evaluation`: value, gradient, and the moments of the predictions.
From these comes a `Curvature`, the preconditioner of the descent. Over a shortlist of tokens
the objective is the same, its biases and their prior weighted.
"""

import copy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from probekit.models.anatomy import Anatomy
from probekit.probes.convex.curvature import DAMPING, Curvature
from probekit.probes.convex.lbfgs import Point, step
from probekit.probes.convex.shortlist import Shortlist
from probekit.probes.moments import Moments
from probekit.scoring.losses import cross_entropy, summed_nats
from probekit.shapes import Hidden, Targets1d

Features = Float[Tensor, "n features"]

# Share of the mean variance of z that the ridge regression adds.
RIDGE = 1e-2
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
        shortlist: The tokens that its biases and rows are of; None where it is the vocabulary.
        weights: Of the prior of each bias.
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
        self.shortlist: Shortlist | None = None
        self.weights: Tensor | float = 1.0
        self.count = moments.count
        self.mean = moments.mean_x.float()
        covariance = moments.covariance
        eye = torch.eye(len(self.mean), device=self.mean.device)
        # Nearly singular where there are fewer positions than features.
        covariance += DAMPING * moments.variance * eye
        self.covariance = covariance.float()
        self.whitening = torch.cholesky_inverse(torch.linalg.cholesky(covariance)).float()
        self.unembedding = None if free else unembedding
        # The identity on the last layer's z: A = [0 I], and b = its mean, since z is centred.
        width = len(moments.mean_y)
        lens = eye[-width:], self.mean[-width:]
        rows = unembedding.float() if free else None
        self.lens = _map(*lens, bias, rows)
        self.start = _map(*(lens if as_lens else _ridge(moments)), bias, rows)

    def over(self, shortlist: Shortlist) -> "AffineObjective":
        """Return the objective whose partition sums are over a shortlist."""
        if shortlist.whole or self.unembedding is None:
            return self
        short = copy.copy(self)
        short.shortlist, short.weights = shortlist, shortlist.weights
        short.unembedding = self.unembedding[shortlist.tokens]
        short.start = replace(self.start, bias=shortlist.restricted(self.start.bias))
        return short

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

    def places(self, targets: Targets1d) -> Targets1d:
        """Return where targets stand among the tokens."""
        return targets if self.shortlist is None else self.shortlist.places[targets]

    def nats(self, at: AffineMap, z: Features, targets: Targets1d) -> float:
        """Return the summed cross-entropy of a map, over the shortlist where there is one."""
        if self.shortlist is not None:
            at, targets = replace(at, bias=self.shortlist.restricted(at.bias)), self.places(targets)
        return summed_nats(self.hidden(at, z), self.unembedding, at.bias, targets)

    def curvature(self, evaluation: Evaluation) -> Curvature:
        """Return the curvature at the point of an evaluation.

        For the output it is the mean over positions of Uᵀ (diag p - p pᵀ) U; of a free
        output, its diagonal for U = I.
        """
        of_tokens = mean_probs = evaluation.mean_probs
        if self.unembedding is not None:
            rows = self.unembedding.float()
            of_tokens = rows.T @ (mean_probs[:, None] * rows)
        # The larger of the two: a rare token predicted far too rarely must not overshoot.
        # A weight / n is the curvature of the prior on c.
        likely = mean_probs.maximum(evaluation.target_shares)
        return Curvature(
            output=of_tokens - evaluation.second_moment,
            whitening=self.whitening,
            inverse_bias=1 / (likely + self.weights / self.count),
        )

    def usual_penalty(self, curvature: Curvature) -> float:
        """λ that the number of slopes and positions suggests."""
        share = USUAL_SHARE * self.start.slope.numel() / self.count
        return share * curvature.mean / 2

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
        objective, targets = self.objective, self.objective.places(targets)
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
        pull, prior = moved @ objective.covariance, objective.weights * drift
        # The sums are of all positions; so is the prior on c, |c - c₀|² / 2.
        value = (self.nats + float((prior * drift).sum()) / 2) / objective.count
        value += penalty * float((moved * pull).sum())
        slope = self.slope / objective.count + 2 * penalty * pull
        return Evaluation(
            value=value,
            gradient=(slope, (self.bias + prior) / objective.count),
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
