"""The families that AdamW trains: their start, their forward pass, their tensors.

    mlp             U (A x + b + W silu(V x + v)) + c       U frozen
    linear-lowrank  B (A x) + c                             B free

They are trained in coordinates without unit, so that one recipe suits all models: inputs x of
mean 0 and variance 1, rows of U of mean square 1. `unfold` takes the values back to z, with
x = (z - mean) / spread, and to the model's own U. `probekit.probes.nonconvex` says where they
start and why.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import silu

from probekit.models.anatomy import Anatomy
from probekit.probes.convex.affine_objective import RIDGE, scaled_bias, scaled_unembedding
from probekit.probes.convex.curvature import DAMPING
from probekit.probes.moments import Moments
from probekit.readout import LINEAR_LOWRANK, MLP
from probekit.scoring.losses import product_dtype
from probekit.shapes import Hidden

# The rank is to bind: that of full rank is `linear-full`. Below the width of any model worth
# asking, so that B has fewer values than the unembedding.
RANK = 32

Parameters = dict[str, Tensor]


class UnitOutput:
    """The frozen unembedding: rows about their mean, of mean square 1, and the head's bias.

    Attributes:
        unit: Root of the mean square norm of the rows before.
        rows: The rows in float32, shape (vocab, hidden).
        narrow: The same in the dtype of fast products.
        bias: The head's own bias, shape (vocab,).
    """

    def __init__(self, anatomy: Anatomy) -> None:
        rows = scaled_unembedding(anatomy).float()
        # The mean row adds the same to every logit.
        rows -= rows.mean(dim=0)
        self.unit = float(rows.square().sum(dim=1).mean().sqrt())
        self.rows = rows / self.unit
        self.narrow = self.rows.to(product_dtype(rows.device))
        self.bias = scaled_bias(anatomy)


@dataclass(frozen=True)
class Frame:
    """The coordinates in which a cell is trained: x = (z - mean) / spread.

    Attributes:
        mean: Mean of z, shape (hidden,).
        spread: Standard deviation of z, shape (hidden,).
        unit: Root mean square norm of the rows of U, by which what enters U was multiplied.
    """

    mean: Float[Tensor, " hidden"]
    spread: Float[Tensor, " hidden"]
    unit: float

    def inputs(self, z: Hidden) -> Hidden:
        """Return x."""
        return (z - self.mean) / self.spread


class Start:
    """The closed form that a cell starts at: slope x + shift enters the output.

    Attributes:
        frame: The coordinates of x.
        output: The frozen output.
        covariance: Of z, float64.
    """

    def __init__(self, moments: Moments, output: UnitOutput, as_lens: bool) -> None:
        """Start at the ridge regression of y on z that `moments` hold, or at the lens."""
        mean, self.covariance = moments.mean_x, moments.covariance
        eye = torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
        slope, intercept = (eye, torch.zeros_like(mean)) if as_lens else moments.ridge(RIDGE)
        variance = self.covariance.diagonal()
        # A coordinate that hardly varies is not blown up.
        spread = (variance + DAMPING * moments.variance).sqrt()
        # The closed form is U (slope z + intercept). With z = spread x + mean, and U = unit rows:
        # rows (unit slope spread x + unit (slope mean + intercept)).
        self.slope = (output.unit * slope * spread).float()
        self.shift = (output.unit * (slope @ mean + intercept)).float()
        self.frame = Frame(mean.float(), spread.float(), output.unit)
        self.output = output


@dataclass(frozen=True)
class ProbeFamily:
    """A family's start, forward pass and tensors.

    Attributes:
        start: The values to start at, by name; `B` and `c` are those of the output.
        hidden: What enters the output, from the other values and x.
        unfold: The values in the coordinates of z, in new tensors.
    """

    start: Callable[[Start, Generator], Parameters]
    hidden: Callable[[Parameters, Tensor], Tensor]
    unfold: Callable[[Parameters, Frame], Parameters]


def _start_mlp(start: Start, draw: Generator) -> Parameters:
    width, n_inputs = start.slope.shape
    # Each of V x has variance 1: x has variance 1 in each of n_inputs coordinates.
    first = torch.randn(width, n_inputs, generator=draw) / math.sqrt(n_inputs)
    return {
        "A": start.slope,
        "b": start.shift,
        "W": start.slope.new_zeros(width, width),
        "V": first.to(start.slope.device),
        "v": torch.zeros_like(start.shift),
        "c": start.output.bias,
    }


def _hidden_mlp(values: Parameters, x: Tensor) -> Tensor:
    bent = silu(torch.addmm(values["v"], x, values["V"].T))
    return torch.addmm(values["b"], x, values["A"].T) + bent @ values["W"].T


def _unfold_mlp(values: Parameters, frame: Frame) -> Parameters:
    # A x = A (z - mean) / spread: columns of A are divided, and its mean goes to b; V alike.
    slope, first = values["A"] / frame.spread / frame.unit, values["V"] / frame.spread
    return {
        "A": slope,
        "b": values["b"] / frame.unit - slope @ frame.mean,
        "W": values["W"] / frame.unit,
        "V": first,
        "v": values["v"] - first @ frame.mean,
        "c": values["c"].clone(),
    }


def _start_lowrank(start: Start, _: Generator) -> Parameters:
    # With C = L Lᵀ the correlation of x, w = L⁻¹ x is white, and the logits are M w for
    # M = rows slope L. In mean square M loses least by its cut M K Kᵀ to the RANK right singular
    # vectors K of the largest singular values (Eckart & Young), which are the last eigenvectors of
    # Mᵀ M, of shape (hidden, hidden). So A = Kᵀ L⁻¹, of shape (rank, hidden), and B = M K.
    spread, rows = start.frame.spread.double(), start.output.rows
    correlation = start.covariance / torch.outer(spread, spread)
    factor = torch.linalg.cholesky(correlation + DAMPING * torch.eye(len(spread)).to(spread))
    of_white = start.slope.double() @ factor
    gram = of_white.T @ (rows.T @ rows).double() @ of_white
    leading = torch.linalg.eigh(gram).eigenvectors[:, -RANK:]
    inner = torch.linalg.solve_triangular(factor, leading.T, upper=False, left=False)
    return {
        "A": inner.float(),
        "B": rows @ (of_white @ leading).float(),
        "c": start.output.bias + rows @ start.shift,
    }


def _hidden_lowrank(values: Parameters, x: Tensor) -> Tensor:
    return x @ values["A"].T


def _unfold_lowrank(values: Parameters, frame: Frame) -> Parameters:
    inner = values["A"] / frame.spread
    shift = values["c"] - values["B"] @ (inner @ frame.mean)
    return {"A": inner, "B": values["B"].clone(), "c": shift}


FAMILIES: Mapping[str, ProbeFamily] = {
    MLP: ProbeFamily(_start_mlp, _hidden_mlp, _unfold_mlp),
    LINEAR_LOWRANK: ProbeFamily(_start_lowrank, _hidden_lowrank, _unfold_lowrank),
}
