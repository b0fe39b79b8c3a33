"""Logistic regression on the most frequent targets: an independent reference, `sklearn`.

    log p(token) = log p(class)                     of the N most frequent targets
                 = log p(last class) + rest(token)  of all others

The classes are scikit-learn's LogisticRegression on standardised z, which is as others would
probe and shares no code with the linear probe. The last class stands for all other tokens and
is shared out by how often the training targets were each of them, uniform pseudo-counts of 1
in all, as the unigram is smoothed. So that the last class is learned too, it holds at least
the rarest of the training targets: N is less than the number of their types.

C, the inverse strength of the penalty, is chosen by validation, by the cross-entropy of all
tokens. All training positions are used. They are held in memory for one layer at a time.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from probekit.errors import DataError
from probekit.models.anatomy import Anatomy
from probekit.probes.grid import GridCell, cell_batches, grid_cells, require_validation
from probekit.probes.probe import FORMS, Examples, Probe, ProbeKey, Probes
from probekit.readout import SKLEARN
from probekit.scoring import losses
from probekit.shapes import Hidden, Targets1d

N_TOKENS = 100
# On 19,000 positions at the middle layer of a small model 0.01 and 0.1 were alike, 0.001 was
# worse by 0.2 nats.
STRENGTHS = (1e-3, 1e-2, 3e-2, 1e-1)
# Of lbfgs, whose default of 100 is made for fewer classes.
MOST_ITERATIONS = 500


class _CellExamples(NamedTuple):
    """Inputs and targets of one cell."""

    z: Hidden
    ids: Targets1d


def fit(
    train: Examples,
    validation: Examples,
    anatomy: Anatomy,
    layers: Sequence[int],
    n_tokens: int = N_TOKENS,
) -> Probes:
    """Fit a logistic regression for every layer and every offset of the targets.

    Args:
        train: A re-iterable stream that holds `layers`, and its targets.
        validation: The same for the positions that choose C.
        anatomy: How the model decodes its residual stream.
        layers: Layers to read.
        n_tokens: Most tokens that have a class of their own, at least 1.

    Returns:
        Probes for each (layer, offset), in the coordinates of z. `penalty` is 1 / C,
        `converged` what scikit-learn says; `chosen` is `trained`.

    Raises:
        DataError: If a cell has no two kinds of training target to tell apart, or no position
            to validate on.
    """
    probes: dict[ProbeKey, Probe] = {}
    for layer in sorted(layers):
        cells = grid_cells([layer], train[1].valid)
        fitted_to, held_out = (_examples(part, anatomy, cells) for part in (train, validation))
        for cell in cells:
            require_validation(len(held_out[cell].ids), cell.offset)
            probe = _best(fitted_to[cell], held_out[cell], anatomy.vocab_size, n_tokens)
            device = anatomy.unembedding.device
            tensors = {name: x.to(device) for name, x in probe.tensors.items()}
            probes[cell.key] = replace(probe, tensors=tensors)
    return Probes(probes, anatomy, n_passes=len(layers), family=SKLEARN)


@torch.no_grad()
def _examples(
    part: Examples, anatomy: Anatomy, cells: Sequence[GridCell]
) -> dict[GridCell, _CellExamples]:
    """Collect z and the targets of each cell, on the CPU."""
    batches: dict[GridCell, list[_CellExamples]] = {cell: [] for cell in cells}
    for cell, z, ids in cell_batches(part, anatomy, cells):
        batches[cell].append(_CellExamples(z.cpu(), ids.cpu()))
    return {
        cell: _CellExamples(*(torch.cat(column) for column in zip(*own, strict=True)))
        for cell, own in batches.items()
    }


def _best(train: _CellExamples, validation: _CellExamples, vocabulary: int, n_tokens: int) -> Probe:
    """Return the fit that validation likes best."""
    counts = train.ids.bincount(minlength=vocabulary)
    tokens, rest = _classes(counts, n_tokens)
    # Of the last class where a token has none of its own.
    class_of = torch.full((vocabulary,), len(tokens)).index_put(
        (tokens,), torch.arange(len(tokens))
    )
    fits = []
    for fitted in _regressions(train.z.double().numpy(), class_of[train.ids].numpy()):
        tensors = {"A": fitted.slope, "c": fitted.shift, "tokens": tokens, "rest": rest}
        fits.append(
            Probe(
                tensors=tensors,
                chosen="trained",
                penalty=1 / fitted.strength,
                excess_nats=None,
                converged=fitted.converged,
                validation_nats=_mean_nats(tensors, validation, vocabulary),
            )
        )
    return min(fits, key=lambda probe: probe.validation_nats)


def _classes(
    counts: Int[Tensor, " vocab"], n_tokens: int
) -> tuple[Int[Tensor, " frequent"], Float[Tensor, " vocab"]]:
    """Return the most frequent tokens, and the log share of each other one among the others.

    Of tokens that are as frequent the one of the lower id comes first.

    >>> tokens, rest = _classes(torch.tensor([1, 4, 0, 6]), 2)
    >>> tokens, rest.exp()
    (tensor([3, 1]), tensor([0.8333, 1.0000, 0.1667, 1.0000]))
    """
    types = int((counts > 0).sum())
    if types < 2:
        raise DataError(
            f"a regression needs two kinds of training target at least, got {types}: take more text"
        )
    tokens = counts.argsort(descending=True, stable=True)[: min(n_tokens, types - 1)]
    shares = counts.double() + 1 / len(counts)
    shares[tokens] = 0
    rest = (shares / shares.sum()).log()
    # Any finite number: these have a class of their own.
    rest[tokens] = 0
    return tokens, rest.float()


class _Regression(NamedTuple):
    """One fit, in the coordinates of z."""

    strength: float
    slope: Float[Tensor, "classes hidden"]
    shift: Float[Tensor, " classes"]
    converged: bool


def _regressions(z: NDArray[np.float64], classes: NDArray[np.int64]) -> Iterator[_Regression]:
    """Fit a regression of each strength, each from where the one before it ended."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(z)
    x = scaler.transform(z)
    model = LogisticRegression(max_iter=MOST_ITERATIONS, warm_start=True)
    for strength in STRENGTHS:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.set_params(C=strength).fit(x, classes)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(coefficients) == 1:
            # Of two classes scikit-learn keeps the second; the first is at 0.
            coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
            intercepts = np.concatenate([np.zeros_like(intercepts), intercepts])
        slope = coefficients / scaler.scale_
        yield _Regression(
            strength,
            torch.from_numpy(slope).float(),
            torch.from_numpy(intercepts - slope @ scaler.mean_).float(),
            not any(issubclass(warning.category, ConvergenceWarning) for warning in caught),
        )


def _mean_nats(tensors: dict[str, Tensor], held: _CellExamples, vocabulary: int) -> float:
    length = losses.chunk_length(vocabulary, held.z.device)
    nats = 0.0
    for z, ids in zip(held.z.split(length), held.ids.split(length), strict=True):
        logits = FORMS[SKLEARN](tensors, z, z)
        nats += float(losses.losses(logits, ids).nats.double().sum())
    return nats / len(held.ids)
