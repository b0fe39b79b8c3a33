"""Cross-entropy and its gradient in chunks, top-k accuracy, KL divergence, V-information.

[positions x vocabulary] is never held whole: positions are taken in chunks.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from probekit.errors import NumericalError
from probekit.readout import Cell
from probekit.shapes import Hidden, Logits, PerPosition, Targets1d

TOP = (1, 5)

# Entries of a chunk of logits: large enough that waking the threads costs little, on a CPU,
# and that a GPU is busy.
CHUNK_CPU = 2**21
CHUNK_GPU = 2**27
# A product lays out the unembedding anew, once for all of its rows: with its gradient it took half
# the time a row at 2,048 rows (of 3,000 columns) that it took at 700, and at 680 (of 49,152) two
# thirds of that at 128. So it takes this many, where these make no more entries than this.
USUAL_ROWS, PRODUCT = 2_048, 2**25

SMALLEST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Losses:
    """What one readout lost and hit, position by position.

    Attributes:
        nats: Cross-entropy in nats, shape (n,).
        top1: Expected share of being the first, shape (n,); 0 or 1 but for ties.
        top5: Expected share of being among the first five, shape (n,).
    """

    nats: PerPosition
    top1: PerPosition
    top5: PerPosition


@dataclass(frozen=True)
class Gradient:
    """A summed cross-entropy and its derivatives.

    Attributes:
        nats: Sum over positions, in nats.
        hidden: Derivative by each hidden vector, shape (n, hidden).
        bias: Derivative by the bias: sum of predicted minus observed, shape (vocab,).
        by_position: Cross-entropy of each position in nats, shape (n,).
    """

    nats: float
    hidden: Hidden
    bias: Float[Tensor, " vocab"]
    by_position: PerPosition


def chunk_length(vocabulary: int, device: torch.device) -> int:
    """Return how many positions make a chunk."""
    return max(1, (CHUNK_CPU if device.type == "cpu" else CHUNK_GPU) // vocabulary)


def product_length(vocabulary: int, device: torch.device) -> int:
    """Return how many positions make a chunk where its logits are a product to be taken."""
    return max(chunk_length(vocabulary, device), min(USUAL_ROWS, PRODUCT // vocabulary))


def losses(logits: Logits, targets: Targets1d) -> Losses:
    """Return cross-entropy and top-k hits of logits, position by position, not averaged.

    A tie at the k-th place counts its expected share: a readout that gives every one of V
    tokens the same logit has top-1 accuracy 1/V. Logits are cast to float32 first.

    >>> losses(torch.zeros(1, 4), torch.tensor([2])).top1
    tensor([0.2500])
    """
    return losses_of_each(logits, targets[None])[0]


def losses_of_each(logits: Logits, targets: Int[Tensor, "several n"]) -> list[Losses]:
    """Return the losses of the same logits on each of several rows of targets."""
    length = chunk_length(logits.shape[1], logits.device)
    parts: list[list[tuple[Tensor, Tensor, Tensor]]] = []
    for chunk, ids in zip(logits.split(length), targets.split(length, dim=1), strict=True):
        wide = chunk.float()
        total = wide.logsumexp(dim=1)
        parts.append([_losses_of_chunk(wide, total, row) for row in ids])
    return [
        Losses(*(torch.cat(column) for column in zip(*of_row, strict=True)))
        for of_row in zip(*parts, strict=True)
    ]


def finite_losses(cell: Cell, logits: Logits, targets: Targets1d) -> Losses:
    """Return the losses of a cell, on the device of its logits; see `finite`."""
    return finite(cell, losses(logits, targets.to(logits.device)))


def finite(cell: Cell, of_cell: Losses) -> Losses:
    """Return the losses of a cell.

    Raises:
        NumericalError: If the cross-entropy is infinite or NaN at a position.
    """
    if not bool(of_cell.nats.isfinite().all()):
        layer = "" if cell.layer is None else f" at layer {cell.layer}"
        raise NumericalError(
            f"{cell.readout}{layer}, offset {cell.offset}: the cross-entropy is not finite. "
            "Try --dtype float32"
        )
    return of_cell


def _losses_of_chunk(
    logits: Logits, total: PerPosition, targets: Targets1d
) -> tuple[Tensor, Tensor, Tensor]:
    # Places 1 … above are taken; the tied ones share those that follow alike.
    of_target = logits.gather(1, targets[:, None])
    nats = total - of_target[:, 0]
    above = _counted(logits > of_target)
    tied, among = torch.ones_like(above), above < max(TOP)
    tied[among] = _counted(logits[among] == of_target[among])
    top1, top5 = (((k - above) / tied).clamp(0, 1) for k in TOP)
    return nats, top1, top5


def _counted(true: Bool[Tensor, "n vocab"]) -> Int[Tensor, " n"]:
    """Return how many are true in each row; torch takes six times as long on a CPU."""
    if true.device.type != "cpu":
        return true.sum(dim=1)
    return torch.from_numpy(np.count_nonzero(true.numpy(), axis=1))


def divergence(logits: Logits, reference: Logits) -> PerPosition:
    """Return KL(p || q) in nats of two sets of logits, position by position, shape (n,).

    >>> divergence(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]))
    tensor([0.])
    """
    length = chunk_length(logits.shape[1], logits.device)
    parts = []
    for chunk, against in zip(logits.split(length), reference.split(length), strict=True):
        log_p, log_q = chunk.float().log_softmax(dim=1), against.float().log_softmax(dim=1)
        parts.append((log_p.exp() * (log_p - log_q)).sum(dim=1))
    return torch.cat(parts)


def cross_entropy(
    hidden: Hidden,
    unembedding: Float[Tensor, "vocab hidden"] | None,
    bias: Float[Tensor, " vocab"],
    targets: Targets1d,
) -> Gradient:
    """Return the summed cross-entropy of softmax(unembedding hidden + bias), with gradient.

    Products are taken in the dtype of `unembedding`; softmax and sums in float32. Without an
    unembedding the logits are hidden + bias.

    >>> cross_entropy(torch.zeros(1, 2), None, torch.zeros(2), torch.tensor([1])).hidden
    tensor([[ 0.5000, -0.5000]])
    """
    nats = torch.zeros((), dtype=torch.float64, device=hidden.device)
    bias_gradient = torch.zeros_like(bias)
    gradients, by_position = [], []
    for probs, rows in _probabilities(hidden, unembedding, bias, targets):
        of_target = probs.gather(1, rows)
        by_position.append(_nats(of_target)[:, 0])
        nats += by_position[-1].sum().double()
        # By the logits: softmax less 1 at the target.
        probs.scatter_(1, rows, of_target - 1)
        bias_gradient += probs.sum(dim=0)
        if unembedding is not None:
            probs = (probs.to(unembedding.dtype) @ unembedding).float()  # noqa: PLW2901
        gradients.append(probs)
    return Gradient(float(nats), torch.cat(gradients), bias_gradient, torch.cat(by_position))


def summed_nats(
    hidden: Hidden,
    unembedding: Float[Tensor, "vocab hidden"] | None,
    bias: Float[Tensor, " vocab"],
    targets: Targets1d,
) -> float:
    """Return the summed cross-entropy alone, as `cross_entropy` would, in half its time."""
    chunks = _probabilities(hidden, unembedding, bias, targets)
    return sum(float(_nats(probs.gather(1, rows)).sum().double()) for probs, rows in chunks)


def summed_probabilities(
    hidden: Hidden, unembedding: Float[Tensor, "vocab hidden"] | None, bias: Float[Tensor, " vocab"]
) -> Float[Tensor, " vocab"]:
    """Return the probability of each token, summed over positions."""
    total, targets = torch.zeros_like(bias), hidden.new_zeros(len(hidden), dtype=torch.long)
    for probs, _ in _probabilities(hidden, unembedding, bias, targets):
        total += probs.sum(dim=0)
    return total


def _probabilities(
    hidden: Tensor, unembedding: Tensor | None, bias: Tensor, targets: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    length = product_length(len(bias), hidden.device)
    for inputs, ids in zip(hidden.split(length), targets.split(length), strict=True):
        if unembedding is None:
            logits = inputs + bias
        else:
            # Cast, then add in place: a sum of two dtypes took 20 times as long on a CPU.
            logits = (inputs.to(unembedding.dtype) @ unembedding.T).float().add_(bias)
        yield logits.softmax(dim=1), ids[:, None]


def _nats(probability: Tensor) -> Tensor:
    # A probability below float32's range counts as the smallest there is, 87 nats.
    return -probability.clamp_min(SMALLEST).log()


def product_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype in which products with the unembedding are fast on this device."""
    if device.type == "cuda":
        return torch.bfloat16
    # Older versions of torch do not say what a CPU can do.
    ask = getattr(torch.cpu, "get_capabilities", dict)
    capable: dict[str, object] = ask() if device.type == "cpu" else {}
    narrow = capable.get("avx512_bf16") or capable.get("amx_bf16")
    return torch.bfloat16 if narrow else torch.float32


def v_information_bits(
    floor_nats: NDArray[np.float64], nats: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return predictive V-information in bits: what a readout knows beyond the floor.

    Source: Xu et al. (2020), "A theory of usable information under computational
    constraints", with held-out cross-entropies in place of the two infima.

    >>> v_information_bits(np.log([4.0]), np.log([2.0]))
    array([1.])
    """
    return (floor_nats - nats) / math.log(2)
