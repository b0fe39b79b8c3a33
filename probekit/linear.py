"""Linear probes: every layer and offset at once.

    logits = W_U (A z + b) + c

z is what enters the unembedding: the final norm applied to the residual stream of one
layer at position t; W_U, with the model's output scale, is frozen; A, b and c are learned
for each (layer, offset). With A = I, b = 0 the probe is the logit lens.

The objective of a cell, over the n training positions and in nats, is convex:

    mean cross-entropy + λ tr(D Σ Dᵀ) + |c - c₀|² / (2n),    D = A - A₀

Σ is the covariance of z, so that λ does not depend on the scale of any coordinate. A₀ is
where the probe starts: the lens at (L, 1), elsewhere the ridge regression of the last
layer's z at t + k - 1 on z. c₀ is the head's own bias; the last term is a unit-variance
prior, without which tokens that training never saw would be driven to probability 0. b
stays where the ridge regression puts it: c can express any change of it.

λ is chosen by validation: a cell is minimised under the λ that its number of parameters
and positions suggests, one Newton step from there predicts the minimum under others, and it
is minimised again under the best of them. Of both minima, the start and the lens, the one
that validation prefers is kept. All cells advance from the same passes over the stream.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from probekit import metrics
from probekit.affine import AffineObjective, scaled_bias, scaled_unembedding
from probekit.anatomy import Anatomy
from probekit.descent import Descent, Point
from probekit.moments import Moments
from probekit.probes import Probe, Probes
from probekit.readout import Seen
from probekit.targets import Targets

# The first λ, as a share of half the mean output curvature, is this times slopes per
# position: near the optimum at 0.01 and at 0.7 slopes per position alike.
FIRST_SHARE = 2.0
# Other λ, relative to the first, and how well the first has to be minimised.
RATIOS = (10.0, 3.0, 1.7, 1.0, 0.6, 0.3, 0.1, 0.03)
FIRST_TOLERANCE_NATS = 0.01
# The estimate of what is left must be well below the 0.01 nats that are promised.
TOLERANCE_NATS = 0.003
MOST_PASSES = 60

Label = TypeVar("Label", str, float)

Part = tuple[Iterable[Seen], Targets]


@torch.no_grad()
def fit(
    train: Part,
    validation: Part,
    head: Anatomy,
    layers: Sequence[int],
    finals: Iterable[Seen] | None = None,
    tolerance_nats: float = TOLERANCE_NATS,
) -> Probes:
    """Fit a linear probe for every layer and every offset of the targets.

    Args:
        train: A re-iterable stream that holds `layers` and the last layer, and its targets.
        validation: The same for the positions that choose λ, and between probe and lens.
        head: How the model decodes its residual stream.
        layers: Layers to read.
        finals: Where `train` reads another site than `resid_post`: a stream of the same
            blocks that holds the last layer of `resid_post`.
        tolerance_nats: Largest estimated excess of the training objective.

    Returns:
        Probes for each (layer, offset), in the coordinates of z, not centred.
    """
    dtype = metrics.product_dtype(head.unembedding.device)
    # Rows about their mean give the same probabilities, and keep the digits of narrow products.
    rows = scaled_unembedding(head).float()
    rows -= rows.mean(dim=0)
    fits = [_Fit(layer, offset) for layer in sorted(layers) for offset in sorted(train[1].valid)]
    grid = _Grid(fits, head, rows.to(dtype))
    grid.start(train, finals)
    grid.descend(train)
    grid.choose_penalties(validation, tolerance_nats)
    grid.descend(train)
    return Probes(grid.chosen(validation), head, grid.n_passes)


class _Minimum(NamedTuple):
    """Where a descent ended."""

    point: Point
    penalty: float
    excess_nats: float
    converged: bool


class _Fit:
    """One cell while it is fitted."""

    objective: AffineObjective
    descent: Descent
    first: "_Minimum"

    def __init__(self, layer: int, offset: int) -> None:
        self.layer, self.offset = layer, offset

    @property
    def key(self) -> tuple[int, int]:
        return self.layer, self.offset

    @property
    def minimum(self) -> _Minimum:
        descent = self.descent
        return _Minimum(descent.best, self.objective.penalty, descent.excess, descent.converged)


class _Grid:
    """All cells; each method takes the passes over the data that its name says."""

    def __init__(self, fits: Sequence[_Fit], head: Anatomy, unembedding: Tensor) -> None:
        self.fits, self.head, self.unembedding = fits, head, unembedding
        self.rows = unembedding.float()
        self.n_passes = 0

    def inputs(self, part: Part, fits: Sequence[_Fit]) -> Iterator[tuple[_Fit, Tensor, Tensor]]:
        """Yield, batch by batch, each cell with its z and its targets."""
        stream, targets = part
        for seen in stream:
            rows = seen.blocks
            device = seen.token_ids.device
            for layer, group in groupby(fits, key=lambda fit: fit.layer):
                z = self.head.hidden(seen.resid[layer]).float()
                for fit in group:
                    valid = targets.valid[fit.offset][rows].to(device)
                    yield fit, z[valid], targets.ids[fit.offset][rows].to(device)[valid]

    def start(self, train: Part, finals: Iterable[Seen] | None) -> None:
        """Find the starting points, and value, gradient and curvature there."""
        bias = scaled_bias(self.head)
        moments = self._moments(train, finals)
        for fit in self.fits:
            as_model = fit.key == (self.head.n_layers, 1) and finals is None
            fit.objective = AffineObjective(moments.pop(fit.key), bias, as_identity=as_model)
        for fit, z, wanted in self.inputs(train, self.fits):
            objective = fit.objective
            objective.evaluate(objective.origin, z, wanted, self.unembedding)
            objective.seen += wanted.bincount(minlength=len(bias)) / objective.count
        for fit in self.fits:
            objective = fit.objective
            value, gradient = objective.take(objective.origin)
            objective.set_curvature(self.rows)
            share = FIRST_SHARE * objective.covariance.numel() / objective.count
            objective.penalty = share * float(objective.curvature.mean()) / 2
            fit.descent = Descent(objective.origin, objective.newton, FIRST_TOLERANCE_NATS)
            fit.descent.tell(value, gradient)
        self.n_passes += 2

    def _moments(
        self, train: Part, finals: Iterable[Seen] | None
    ) -> dict[tuple[int, int], Moments]:
        """Collect z at t against the last layer's z at t + offset - 1."""
        stream, targets = train
        moments = {fit.key: Moments() for fit in self.fits}
        pairs = (
            ((seen, seen) for seen in stream)
            if finals is None
            else zip(stream, finals, strict=True)
        )
        for seen, seen_last in pairs:
            rows = seen.blocks
            final = self.head.hidden(seen_last.resid[self.head.n_layers]).float()
            for layer, group in groupby(self.fits, key=lambda fit: fit.layer):
                z = self.head.hidden(seen.resid[layer]).float()
                for fit in group:
                    valid = targets.valid[fit.offset][rows].to(z.device)
                    block, pos = valid.nonzero(as_tuple=True)
                    moments[fit.key].update(z[block, pos], final[block, pos + fit.offset - 1])
        return moments

    def choose_penalties(self, validation: Part, tolerance_nats: float) -> None:
        """Give each cell the λ under which validation likes the predicted minimum best."""
        trials: dict[tuple[int, int], dict[float, Point]] = {}
        for fit in self.fits:
            objective, descent = fit.objective, fit.descent
            objective.set_curvature(self.rows)
            trials[fit.key] = {
                ratio * objective.penalty: objective.minimum_at(
                    ratio * objective.penalty, descent.best, descent.gradient
                )
                for ratio in RATIOS
            }
        scores = self._validate(validation, trials)
        for fit in self.fits:
            own = scores[fit.key]
            fit.first = fit.minimum
            fit.objective.penalty = min(own, key=lambda penalty: own[penalty])
            start = trials[fit.key][fit.objective.penalty]
            fit.descent = Descent(start, fit.objective.newton, tolerance_nats)

    def _validate(
        self, part: Part, points: Mapping[tuple[int, int], Mapping[Label, Point]]
    ) -> dict[tuple[int, int], dict[Label, float]]:
        """Return the mean cross-entropy of each cell at each of its points."""
        sums = {key: dict.fromkeys(own, 0.0) for key, own in points.items()}
        counts = dict.fromkeys(points, 0)
        for fit, z, wanted in self.inputs(part, self.fits):
            counts[fit.key] += len(wanted)
            for label, point in points[fit.key].items():
                hidden = fit.objective.hidden(point, z)
                nats = metrics.summed_nats(hidden, self.unembedding, point[1], wanted)
                sums[fit.key][label] += nats
        return {
            key: {label: nats / counts[key] for label, nats in own.items()}
            for key, own in sums.items()
        }

    def descend(self, train: Part) -> None:
        """Minimise every cell that has not converged, one pass after another."""
        for _ in range(MOST_PASSES):
            active = [fit for fit in self.fits if not fit.descent.converged]
            if not active:
                return
            for fit, z, wanted in self.inputs(train, active):
                fit.objective.evaluate(fit.descent.trial, z, wanted, self.unembedding)
            for fit in active:
                fit.descent.tell(*fit.objective.take(fit.descent.trial))
                # The curvature at the start is that of predictions that know little yet.
                if len(fit.descent.pairs) == 1 and not fit.descent.converged:
                    fit.objective.set_curvature(self.rows)
            self.n_passes += 1

    def chosen(self, validation: Part) -> dict[tuple[int, int], Probe]:
        """Return for each cell what validation prefers."""
        points = {
            fit.key: {
                "minimum": fit.descent.best,
                "first minimum": fit.first.point,
                "start": fit.objective.origin,
                "lens": fit.objective.identity,
            }
            for fit in self.fits
        }
        scores = self._validate(validation, points)
        return {fit.key: _probe(fit, points[fit.key], scores[fit.key]) for fit in self.fits}


def _probe(fit: _Fit, points: Mapping[str, Point], scores: Mapping[str, float]) -> Probe:
    chosen = min(scores, key=lambda label: scores[label])
    point = points[chosen]
    objective = fit.objective
    minimum = fit.first if chosen == "first minimum" else fit.minimum
    intercept = objective.hidden(point, torch.zeros_like(objective.mean)[None])[0]
    return Probe(
        tensors={"A": point[0], "b": intercept, "c": point[1]},
        chosen=chosen,
        penalty=minimum.penalty,
        excess_nats=minimum.excess_nats,
        converged=minimum.converged,
        validation_nats=scores[chosen],
    )
