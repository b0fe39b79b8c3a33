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

A fit looks at a shortlist of the vocabulary: the tokens that occur as targets, and a sample of
all others (`probekit.probes.convex.shortlist`). At all of it, it looks on a sample of the
positions alone: at the start, where it puts the biases of all tokens at their minimum at once,
and at the end, where it certifies how far the minimum over the shortlist is above that over the
vocabulary (`probekit.probes.convex.certificate`). Where that is much, more tokens are drawn, at
last all.

λ is chosen by validation: a cell is minimised under the λ that its number of parameters
and positions suggests, one Newton step from there predicts the minimum under others, and it
is minimised again under the best of them. Of both minima, start, lens and unigram the one
that validation prefers is kept. The cells of a wave (`probekit.probes.waves`)
advance from the same passes over the stream, and none depends on which others there are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from probekit.errors import SettingsError
from probekit.models.anatomy import Anatomy
from probekit.probes.convex.affine_objective import (
    AffineMap,
    AffineObjective,
    BatchSums,
    scaled_bias,
    scaled_unembedding,
)
from probekit.probes.convex.cell_fit import CellFit
from probekit.probes.grid import (
    GridCell,
    Label,
    cell_batches,
    cell_moments,
    grid_cells,
    mean_nats,
    sampled,
)
from probekit.probes.probe import Examples, Probe, ProbeKey, Probes
from probekit.probes.waves import FAMILIES, in_waves
from probekit.readout import CONCAT, LINEAR, LINEAR_FULL, Seen
from probekit.scoring.losses import product_dtype, summed_probabilities

# What is left is an estimate: well below the 0.01 nats promised, and lower with a free output,
# whose diagonal curvature was seen to give a sixth of it.
TOLERANCE_NATS, FREE_SHARE = 0.003, 0.25
MOST_PASSES = 60
# Positions on which the whole vocabulary is looked at: at the start; for the certificate; and for
# what the shortlist misses of a validation loss, 0.01 to 0.12 nats at a position.
SAMPLED, CERTIFIED, VALIDATED = 1_024, 512, 512


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
    seed: int = 0,
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
        seed: Seed of the shortlists, and of the sample of positions that certifies them.

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
    tolerance_nats *= FREE_SHARE if free else 1.0
    cells = grid_cells(layers, train[1].valid, together=family == CONCAT)
    n_passes, probes = 0, dict[ProbeKey, Probe]()
    for wave in in_waves(cells, anatomy, family):
        fits = _start(
            train, validation, anatomy, _objectives(train, finals, anatomy, wave, free), seed
        )
        n_passes += 2 + _descend(train, anatomy, fits)  # one for the moments, one at the start
        _choose_penalties(validation, anatomy, fits, tolerance_nats)
        n_passes += _descend(train, anatomy, fits)
        n_passes += _certify(train, anatomy, fits, seed)
        probes |= _chosen(validation, anatomy, fits, seed)
        del fits  # before the next wave takes as much again
    return Probes(probes, anatomy, n_passes, family, cells[0].read if family == CONCAT else ())


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
    train: Examples,
    validation: Examples,
    anatomy: Anatomy,
    objectives: Mapping[GridCell, AffineObjective],
    seed: int,
) -> dict[GridCell, CellFit]:
    """Return fits at their start, after one pass over a sample of the positions."""
    fits = {}
    for cell, (z, _) in sampled(train, anatomy, objectives, SAMPLED, seed).items():
        own = objectives[cell]
        hidden = own.hidden(own.start, z)
        sums = summed_probabilities(hidden, own.unembedding, own.start.bias)
        of_train, of_both = _counts(train, cell, own), _counts(validation, cell, own)
        of_both += of_train
        predicted = sums * (own.count / len(z))
        draws = np.random.default_rng(cell.seeds(seed))
        fits[cell] = CellFit(own, of_train, of_both > 0, predicted, draws)
    return fits


def _counts(part: Examples, cell: GridCell, objective: AffineObjective) -> Tensor:
    """Return how often each token is the target of a cell."""
    targets = part[1].ids[cell.offset][part[1].valid[cell.offset]]
    bias = objective.start.bias
    return targets.bincount(minlength=len(bias)).to(bias)


def _descend(train: Examples, anatomy: Anatomy, fits: Mapping[GridCell, CellFit]) -> int:
    """Minimise every cell that has not converged; return how many passes that took."""
    for n_passes in range(MOST_PASSES):
        active = {cell: fit for cell, fit in fits.items() if not fit.descent.converged}
        if not active:
            return n_passes
        sums = {cell: BatchSums(fit.short, fit.descent.trial) for cell, fit in active.items()}
        for cell, z, ids in cell_batches(train, anatomy, active):
            sums[cell].update(z, ids)
        for cell, fit in active.items():
            fit.tell(sums[cell].evaluation(fit.penalty))
    return MOST_PASSES


def _choose_penalties(
    validation: Examples, anatomy: Anatomy, fits: Mapping[GridCell, CellFit], tolerance_nats: float
) -> None:
    """Give each cell the λ under which validation likes the predicted minimum best."""
    minima = {cell: fit.minima() for cell, fit in fits.items()}
    for cell, scores in _validate(validation, anatomy, fits, minima).items():
        penalty = min(scores, key=scores.__getitem__)
        fits[cell].start_again(penalty, minima[cell][penalty], tolerance_nats)


def _certify(train: Examples, anatomy: Anatomy, fits: Mapping[GridCell, CellFit], seed: int) -> int:
    """Certify every cell, after more descents where shortlists miss much; return the passes."""
    n_passes = 0
    while True:
        for fit in fits.values():
            if fit.tokens.whole:
                fit.settle()
        fits = {cell: fit for cell, fit in fits.items() if not fit.tokens.whole}
        if not fits:
            return n_passes
        # Other positions than those that the biases were settled on at the start.
        for cell, sample in sampled(train, anatomy, fits, CERTIFIED, seed, 1).items():
            fits[cell].certify(*sample)
        fits = {cell: fit for cell, fit in fits.items() if not fit.converged}
        for fit in fits.values():
            fit.look_at_more()
        n_passes += 1 + _descend(train, anatomy, fits)


def _chosen(
    validation: Examples, anatomy: Anatomy, fits: Mapping[GridCell, CellFit], seed: int
) -> dict[ProbeKey, Probe]:
    """Return for each cell the probe that validation prefers."""
    maps = {cell: fit.candidates() for cell, fit in fits.items()}
    scores = _validate(validation, anatomy, fits, maps)
    probes = {cell: fit.probe(scores[cell]) for cell, fit in fits.items()}
    # Over the vocabulary, of what was chosen over a shortlist: their difference on a sample.
    short = {cell: fit for cell, fit in fits.items() if not fit.tokens.whole}
    for cell, (z, ids) in sampled(validation, anatomy, short, VALIDATED, seed).items():
        fit, at = fits[cell], maps[cell][probes[cell].chosen]
        missed = (fit.whole.nats(at, z, ids) - fit.short.nats(at, z, ids)) / len(z)
        nats = probes[cell].validation_nats + missed
        probes[cell] = replace(probes[cell], validation_nats=nats)
    return {cell.key: probe for cell, probe in probes.items()}


def _validate(
    validation: Examples,
    anatomy: Anatomy,
    fits: Mapping[GridCell, CellFit],
    maps: Mapping[GridCell, Mapping[Label, AffineMap]],
) -> dict[GridCell, dict[Label, float]]:
    """Return the mean cross-entropy of the maps of each cell over its shortlist, in nats."""
    candidates = {
        cell: {label: partial(fits[cell].short.nats, at) for label, at in by_label.items()}
        for cell, by_label in maps.items()
    }
    return mean_nats(validation, anatomy, candidates)
