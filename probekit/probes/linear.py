"""Convex probes: every layer and every offset at once.

    linear, concat    logits = W_U (A z + b) + c
    linear-full       logits = A z + c

z is what enters the unembedding: the final norm applied to the residual stream of one
layer at position t, or in `concat` of all layers, side by side; W_U, with the model's output
scale, is frozen; A, b and c are learned for each (layer, offset). With A = I, b = 0 a linear
probe is the logit lens.

The objective of a cell, over the n training positions and in nats, is convex:

    mean cross-entropy + λ tr(D Σ Dᵀ) + |c - c₀|² / (2n),    D = A - A₀

Σ is the covariance of z, so that λ does not depend on the scale of any coordinate. A₀ is
where the probe starts: the lens at (L, 1), elsewhere the ridge regression of the last
layer's z at t + k - 1 on z. c₀ is the head's own bias; the last term is a unit-variance
prior, else tokens that training never saw would be driven to probability 0. b stays where
the ridge regression puts it: c can express any change of it.

`linear-full` starts at the same logits: λ draws it to what the model's own rows make of z.

λ is chosen by validation: a cell is minimised under the λ that its number of parameters
and positions suggests, one Newton step from there predicts the minimum under others, and it
is minimised again under the best of them. Of both minima, start, lens and unigram the one
that validation prefers is kept. All cells advance from the same passes over the stream.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from probekit.errors import SettingsError
from probekit.models.anatomy import Anatomy
from probekit.models.devices import free_bytes
from probekit.probes.affine_objective import AffineObjective, scaled_bias, scaled_unembedding
from probekit.probes.lbfgs import Descent, Point
from probekit.probes.moments import Moments
from probekit.probes.probe import Examples, Key, Probe, Probes, inputs
from probekit.readout import Seen
from probekit.scoring import losses

# Float32 copies of a probe while it is fitted: six pairs of L-BFGS, the points tried under
# other penalties, and a dozen of points, sums, gradients and factors.
FIT_COPIES = 32

# Other λ, relative to the usual one, and how well the first has to be minimised.
RATIOS = (10.0, 3.0, 1.7, 1.0, 0.6, 0.3, 0.1, 0.03)
FIRST_TOLERANCE_NATS = 0.01
# What is left is an estimate: well below the 0.01 nats promised, and lower with a free output,
# whose diagonal curvature was seen to give a sixth of it.
TOLERANCE_NATS, FREE_SHARE = 0.003, 0.25
MOST_PASSES = 60

# The families that are fitted here, and what to do where one takes too much memory.
FAMILIES = {
    "linear": "read fewer layers, or fewer offsets",
    "concat": "read fewer layers, or use linear",
    "linear-full": "it is for small vocabularies; use linear or linear-lowrank",
}

Label = TypeVar("Label", str, float)


@torch.no_grad()
def fit(  # noqa: PLR0913 -- the data, what to read, and how: each of the last has a usual value
    train: Examples,
    validation: Examples,
    anatomy: Anatomy,
    layers: Sequence[int],
    *,
    finals: Iterable[Seen] | None = None,
    family: str = "linear",
    penalty: float | None = None,
    tolerance_nats: float = TOLERANCE_NATS,
) -> Probes:
    """Fit a probe for every layer and every offset of the targets.

    Args:
        train: A re-iterable stream that holds `layers` and the last layer, and its targets.
        validation: The same for the positions that choose λ, and between probe and lens.
        anatomy: How the model decodes its residual stream.
        layers: Layers to read.
        finals: Where `train` reads another site than `resid_post`: a stream of the same
            blocks that holds the last layer of `resid_post`.
        family: One of `FAMILIES`.
        penalty: λ, at least 0, where validation is to choose nothing: each probe is then the
            minimum under it.
        tolerance_nats: Largest estimated excess of the training objective; see `FREE_SHARE`.

    Returns:
        Probes for each (layer, offset), in `concat` for each (None, offset), in the
        coordinates of z, not centred.

    Raises:
        SettingsError: If the family is another, λ is negative, or memory does not suffice.
    """
    if family not in FAMILIES:
        raise SettingsError(f"family must be one of {', '.join(FAMILIES)}, got {family}")
    if penalty is not None and penalty < 0:
        raise SettingsError(f"penalty must be at least 0, got {penalty}")
    read = tuple(sorted(layers))
    together = family == "concat"
    groups = {None: read} if together else {layer: (layer,) for layer in read}
    offsets = sorted(train[1].valid)
    fits = [_Fit(layer, offset, own) for layer, own in groups.items() for offset in offsets]
    free = family == "linear-full"
    tolerance_nats *= FREE_SHARE if free else 1.0
    grid = _Grid(fits, anatomy, free)
    grid.require_memory(family)
    grid.start(train, finals)
    grid.begin(penalty, tolerance_nats if penalty is not None else FIRST_TOLERANCE_NATS)
    grid.descend(train)
    if penalty is None:
        grid.choose_penalties(validation, tolerance_nats)
        grid.descend(train)
    return Probes(grid.chosen(validation), anatomy, grid.n_passes, family, read if together else ())


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
    first: _Minimum | None = None  # where validation chooses λ

    def __init__(self, layer: int | None, offset: int, read: tuple[int, ...]) -> None:
        self.key, self.offset, self.read = (layer, offset), offset, read

    @property
    def minimum(self) -> _Minimum:
        descent = self.descent
        return _Minimum(descent.best, self.objective.penalty, descent.excess, descent.converged)

    @property
    def points(self) -> dict[str, Point]:
        """What validation chooses from: under a λ that was given, the minimum alone."""
        points, at = {"minimum": self.descent.best}, self.objective
        if self.first is not None:
            points["first minimum"] = self.first.point
            points |= {"start": at.origin, "lens": at.lens, "unigram": at.unigram}
        return points


class _Grid:
    """All cells; each method takes the passes over the data that its name says."""

    def __init__(self, fits: Sequence[_Fit], anatomy: Anatomy, free: bool) -> None:
        self.fits, self.anatomy, self.free = fits, anatomy, free
        self.n_passes = 0

    def require_memory(self, family: str) -> None:
        """Raise a SettingsError if the fit takes more memory than is free."""
        width = len(self.fits[0].read) * self.anatomy.d_hidden
        outputs = self.anatomy.vocab_size if self.free else self.anatomy.d_hidden
        # Beside the copies of a probe, four of the covariance of what it reads.
        each = FIT_COPIES * (outputs * width + self.anatomy.vocab_size) + 4 * width**2
        needed = 4 * each * len(self.fits) / 2**30
        free = free_bytes(self.anatomy.unembedding.device) / 2**30
        if needed > free:
            raise SettingsError(
                f"fitting {len(self.fits)} {family} probes at once takes about {needed:,.1f} GiB, "
                f"and {free:,.1f} GiB are free: {FAMILIES[family]}"
            )

    def cells(self, part: Examples, fits: Sequence[_Fit]) -> Iterator[tuple[_Fit, Tensor, Tensor]]:
        """Yield, batch by batch, each cell with its z and its targets."""
        stream, targets = part
        for seen in stream:
            rows, device = seen.blocks, seen.token_ids.device
            for read, group in groupby(fits, key=lambda fit: fit.read):
                z = inputs(self.anatomy, seen, read)
                for fit in group:
                    valid = targets.valid[fit.offset][rows].to(device)
                    yield fit, z[valid], targets.ids[fit.offset][rows].to(device)[valid]

    def start(self, train: Examples, finals: Iterable[Seen] | None) -> None:
        """Find the starting points, and look at every position from there."""
        self._place(self._moments(train, finals), as_model=finals is None)
        for fit, z, wanted in self.cells(train, self.fits):
            objective = fit.objective
            objective.evaluate(objective.origin, z, wanted)
            objective.seen += wanted.bincount(minlength=self.anatomy.vocab_size) / objective.count
        self.n_passes += 2

    def begin(self, penalty: float | None, tolerance_nats: float) -> None:
        """Set out from the starting points, under this λ or the usual one."""
        for fit in self.fits:
            objective = fit.objective
            value, gradient = objective.take(objective.origin)
            objective.set_curvature()
            objective.penalty = objective.usual_penalty if penalty is None else penalty
            fit.descent = Descent(objective.origin, objective.newton, tolerance_nats)
            fit.descent.tell(value, gradient)

    def _place(self, moments: dict[Key, Moments], as_model: bool) -> None:
        """Give each cell its objective; as the model the one that reads what the model does."""
        # Rows about their mean give the same probabilities, with more digits of narrow products.
        rows = scaled_unembedding(self.anatomy).float()
        rows -= rows.mean(dim=0)
        if not self.free:
            rows = rows.to(losses.product_dtype(rows.device))
        bias = scaled_bias(self.anatomy)
        for fit in self.fits:
            as_lens = as_model and (fit.read[-1], fit.offset) == (self.anatomy.n_layers, 1)
            fit.objective = AffineObjective(moments.pop(fit.key), rows, bias, as_lens, self.free)

    def _moments(self, train: Examples, finals: Iterable[Seen] | None) -> dict[Key, Moments]:
        """Collect z at t against the last layer's z at t + offset - 1."""
        stream, targets = train
        moments = {fit.key: Moments() for fit in self.fits}
        same = ((seen, seen) for seen in stream)
        for seen, seen_last in same if finals is None else zip(stream, finals, strict=True):
            final = self.anatomy.hidden(seen_last.resid[self.anatomy.n_layers]).float()
            for read, group in groupby(self.fits, key=lambda fit: fit.read):
                z = inputs(self.anatomy, seen, read)
                for fit in group:
                    valid = targets.valid[fit.offset][seen.blocks].to(z.device)
                    block, pos = valid.nonzero(as_tuple=True)
                    moments[fit.key].update(z[block, pos], final[block, pos + fit.offset - 1])
        return moments

    def choose_penalties(self, validation: Examples, tolerance_nats: float) -> None:
        """Give each cell the λ under which validation likes the predicted minimum best."""
        trials: dict[Key, dict[float, Point]] = {}
        for fit in self.fits:
            objective, descent = fit.objective, fit.descent
            objective.set_curvature()
            trials[fit.key] = {
                penalty: objective.minimum_at(penalty, descent.best, descent.gradient)
                for penalty in [ratio * objective.penalty for ratio in RATIOS]
            }
        scores = self._validate(validation, trials)
        for fit in self.fits:
            own = scores[fit.key]
            fit.first = fit.minimum
            fit.objective.penalty = min(own, key=lambda penalty: own[penalty])
            start = trials[fit.key][fit.objective.penalty]
            fit.descent = Descent(start, fit.objective.newton, tolerance_nats)

    def _validate(
        self, part: Examples, points: Mapping[Key, Mapping[Label, Point]]
    ) -> dict[Key, dict[Label, float]]:
        """Return the mean cross-entropy of each cell at each of its points."""
        sums = {key: dict.fromkeys(own, 0.0) for key, own in points.items()}
        counts = dict.fromkeys(points, 0)
        for fit, z, wanted in self.cells(part, self.fits):
            counts[fit.key] += len(wanted)
            for label, point in points[fit.key].items():
                sums[fit.key][label] += fit.objective.nats(point, z, wanted)
        return {
            key: {label: nats / counts[key] for label, nats in own.items()}
            for key, own in sums.items()
        }

    def descend(self, train: Examples) -> None:
        """Minimise every cell that has not converged, one pass after another."""
        for _ in range(MOST_PASSES):
            active = [fit for fit in self.fits if not fit.descent.converged]
            if not active:
                return
            for fit, z, wanted in self.cells(train, active):
                fit.objective.evaluate(fit.descent.trial, z, wanted)
            for fit in active:
                fit.descent.tell(*fit.objective.take(fit.descent.trial))
                # The curvature at the start is that of predictions that know little yet.
                if len(fit.descent.pairs) == 1 and not fit.descent.converged:
                    fit.objective.set_curvature()
            self.n_passes += 1

    def chosen(self, validation: Examples) -> dict[Key, Probe]:
        """Return for each cell what validation prefers."""
        points = {fit.key: fit.points for fit in self.fits}
        scores = self._validate(validation, points)
        return {fit.key: _probe(fit, points[fit.key], scores[fit.key]) for fit in self.fits}


def _probe(fit: _Fit, points: Mapping[str, Point], scores: Mapping[str, float]) -> Probe:
    chosen = min(scores, key=lambda label: scores[label])
    minimum = fit.first if fit.first and chosen == "first minimum" else fit.minimum
    return Probe(
        tensors=fit.objective.tensors(points[chosen]),
        chosen=chosen,
        penalty=minimum.penalty,
        excess_nats=minimum.excess_nats,
        converged=minimum.converged,
        validation_nats=scores[chosen],
    )
