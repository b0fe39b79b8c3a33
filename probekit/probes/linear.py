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

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch

from probekit.errors import SettingsError
from probekit.models.anatomy import Anatomy
from probekit.models.devices import free_bytes
from probekit.probes.affine_objective import (
    AffineMap,
    AffineObjective,
    BatchSums,
    Evaluation,
    scaled_bias,
    scaled_unembedding,
)
from probekit.probes.grid import GridCell, Label, cell_batches, cell_moments, grid_cells, mean_nats
from probekit.probes.lbfgs import Descent, Point
from probekit.probes.probe import Examples, Probe, ProbeKey, Probes
from probekit.readout import CONCAT, LINEAR, LINEAR_FULL, Seen
from probekit.scoring.losses import product_dtype

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
    LINEAR: "read fewer layers, or fewer offsets",
    CONCAT: "read fewer layers, or use linear",
    LINEAR_FULL: "it is for small vocabularies; use linear or linear-lowrank",
}


@torch.no_grad()
def fit(  # noqa: PLR0913 -- the data, what to read, and how: each of the last has a usual value
    train: Examples,
    validation: Examples,
    anatomy: Anatomy,
    layers: Sequence[int],
    *,
    finals: Iterable[Seen] | None = None,
    family: str = LINEAR,
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
        tolerance_nats: Largest estimated excess of the training objective; see `FREE_SHARE`.

    Returns:
        Probes for each (layer, offset), in `concat` for each (None, offset), in the
        coordinates of z, not centred.

    Raises:
        SettingsError: If the family is another, or memory does not suffice.
        DataError: If a cell has no position to train on, or none to validate on.
    """
    if family not in FAMILIES:
        raise SettingsError(f"family must be one of {', '.join(FAMILIES)}, got {family}")
    free = family == LINEAR_FULL
    cells = grid_cells(layers, train[1].valid, together=family == CONCAT)
    _require_memory(cells, anatomy, family)
    tolerance_nats *= FREE_SHARE if free else 1.0
    fits = _start(train, anatomy, _objectives(train, finals, anatomy, cells, free))
    n_passes = 2 + _descend(train, anatomy, fits)  # one for the moments, one at the start
    _choose_penalties(validation, anatomy, fits, tolerance_nats)
    n_passes += _descend(train, anatomy, fits)
    read = cells[0].read if family == CONCAT else ()
    return Probes(_chosen(validation, anatomy, fits), anatomy, n_passes, family, read)


class _Minimum(NamedTuple):
    """Where a descent ended."""

    point: Point
    penalty: float
    excess_nats: float
    converged: bool


class _Fit:
    """One cell while it is fitted, from the evaluation of its start on.

    Attributes:
        objective: What is minimised, for any λ.
        target_shares: Share of each token among the targets, shape (vocab,).
        last: The last evaluation, of a point that may not have been accepted.
        curvature: The preconditioner.
        penalty: λ; at first the usual one.
        descent: The descent under this λ.
        first: Where the descent under the usual λ is, or ended.
    """

    def __init__(self, objective: AffineObjective, at_start: Evaluation) -> None:
        self.objective, self.last = objective, at_start
        self.target_shares = at_start.target_shares
        self.curvature = objective.curvature(at_start)
        self.penalty = objective.usual_penalty(self.curvature)
        self.descent = Descent(objective.start.point, self.newton, FIRST_TOLERANCE_NATS)
        self.descent.tell(at_start.value, at_start.gradient)
        self.first = self.minimum

    def newton(self, gradient: Point) -> Point:
        return self.curvature.newton(gradient, self.penalty)

    def tell(self, evaluation: Evaluation) -> None:
        """Take the evaluation of the descent's trial."""
        self.last = evaluation
        self.descent.tell(evaluation.value, evaluation.gradient)
        # The curvature at the start is that of predictions that know little yet.
        if self.descent.n_accepted == 1 and not self.descent.converged:
            self.curvature = self.objective.curvature(evaluation)

    def minima(self) -> dict[float, AffineMap]:
        """Predict the minima under other λ, with the curvature of the last evaluation."""
        self.curvature = self.objective.curvature(self.last)
        where = self.descent.best, self.descent.gradient, self.penalty, self.curvature
        penalties = [ratio * self.penalty for ratio in RATIOS]
        return {
            penalty: self.objective.at(self.objective.minimum_under(penalty, *where))
            for penalty in penalties
        }

    def start_again(self, penalty: float, point: Point, tolerance_nats: float) -> None:
        """Set out from a point under another λ, and keep the minimum under this one."""
        self.first, self.penalty = self.minimum, penalty
        self.descent = Descent(point, self.newton, tolerance_nats)

    @property
    def minimum(self) -> _Minimum:
        descent = self.descent
        return _Minimum(descent.best, self.penalty, descent.excess, descent.converged)

    def candidates(self) -> dict[str, AffineMap]:
        """Return what validation chooses from."""
        objective = self.objective
        return {
            "minimum": objective.at(self.descent.best),
            "first minimum": objective.at(self.first.point),
            "start": objective.start,
            "lens": objective.lens,
            "unigram": objective.unigram(self.target_shares),
        }


def _require_memory(cells: Sequence[GridCell], anatomy: Anatomy, family: str) -> None:
    """Raise a SettingsError if the fit takes more memory than is free."""
    width = len(cells[0].read) * anatomy.d_hidden
    n_outputs = anatomy.vocab_size if family == LINEAR_FULL else anatomy.d_hidden
    # Beside the copies of a probe, four of the covariance of what it reads.
    n_values = FIT_COPIES * (n_outputs * width + anatomy.vocab_size) + 4 * width**2
    needed = 4 * n_values * len(cells) / 2**30
    free = free_bytes(anatomy.unembedding.device) / 2**30
    if needed > free:
        raise SettingsError(
            f"fitting {len(cells)} {family} probes at once takes about {needed:,.1f} GiB, "
            f"and {free:,.1f} GiB are free: {FAMILIES[family]}"
        )


def _objectives(
    train: Examples,
    finals: Iterable[Seen] | None,
    anatomy: Anatomy,
    cells: Sequence[GridCell],
    free: bool,
) -> dict[GridCell, AffineObjective]:
    """Return the objective of each cell, after one pass that collects the moments of z."""
    moments = cell_moments(train, finals, anatomy, cells)
    # Rows about their mean give the same probabilities, with more digits of narrow products.
    rows = scaled_unembedding(anatomy).float()
    rows -= rows.mean(dim=0)
    if not free:
        rows = rows.to(product_dtype(rows.device))
    bias = scaled_bias(anatomy)
    return {
        cell: AffineObjective(
            moments.pop(cell), rows, bias, cell.starts_at_lens(anatomy, finals), free
        )
        for cell in cells
    }


def _start(
    train: Examples, anatomy: Anatomy, objectives: Mapping[GridCell, AffineObjective]
) -> dict[GridCell, _Fit]:
    """Return fits at their start, where no λ pulls, after one pass."""
    sums = {cell: BatchSums(own, own.start.point) for cell, own in objectives.items()}
    for cell, z, ids in cell_batches(train, anatomy, objectives):
        sums[cell].update(z, ids)
    return {cell: _Fit(own, sums[cell].evaluation(penalty=0.0)) for cell, own in objectives.items()}


def _descend(train: Examples, anatomy: Anatomy, fits: Mapping[GridCell, _Fit]) -> int:
    """Minimise every cell that has not converged; return how many passes that took."""
    for n_passes in range(MOST_PASSES):
        active = {cell: fit for cell, fit in fits.items() if not fit.descent.converged}
        if not active:
            return n_passes
        sums = {cell: BatchSums(fit.objective, fit.descent.trial) for cell, fit in active.items()}
        for cell, z, ids in cell_batches(train, anatomy, active):
            sums[cell].update(z, ids)
        for cell, fit in active.items():
            fit.tell(sums[cell].evaluation(fit.penalty))
    return MOST_PASSES


def _choose_penalties(
    validation: Examples, anatomy: Anatomy, fits: Mapping[GridCell, _Fit], tolerance_nats: float
) -> None:
    """Give each cell the λ under which validation likes the predicted minimum best."""
    minima = {cell: fit.minima() for cell, fit in fits.items()}
    for cell, scores in _validate(validation, anatomy, fits, minima).items():
        penalty = min(scores, key=scores.__getitem__)
        fits[cell].start_again(penalty, minima[cell][penalty].point, tolerance_nats)


def _chosen(
    validation: Examples, anatomy: Anatomy, fits: Mapping[GridCell, _Fit]
) -> dict[ProbeKey, Probe]:
    """Return for each cell the probe that validation prefers."""
    maps = {cell: fit.candidates() for cell, fit in fits.items()}
    scores = _validate(validation, anatomy, fits, maps)
    return {cell.key: _probe(fit, maps[cell], scores[cell]) for cell, fit in fits.items()}


def _validate(
    validation: Examples,
    anatomy: Anatomy,
    fits: Mapping[GridCell, _Fit],
    maps: Mapping[GridCell, Mapping[Label, AffineMap]],
) -> dict[GridCell, dict[Label, float]]:
    """Return the mean cross-entropy of the maps of each cell, in nats."""
    candidates = {
        cell: {label: partial(fits[cell].objective.nats, at) for label, at in by_label.items()}
        for cell, by_label in maps.items()
    }
    return mean_nats(validation, anatomy, candidates)


def _probe(fit: _Fit, maps: Mapping[str, AffineMap], scores: Mapping[str, float]) -> Probe:
    chosen = min(scores, key=lambda label: scores[label])
    minimum = fit.first if chosen == "first minimum" else fit.minimum
    return Probe(
        tensors=fit.objective.tensors(maps[chosen]),
        chosen=chosen,
        penalty=minimum.penalty,
        excess_nats=minimum.excess_nats,
        converged=minimum.converged,
        validation_nats=scores[chosen],
    )
