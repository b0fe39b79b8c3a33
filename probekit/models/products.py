"""Products with large float32 matrices, by the library that takes them faster on a CPU.

On x86 torch multiplies float32 by MKL, which took a quarter to a third longer on an AMD EPYC than
oneDNN, which torch has as well: 62 against 77 GFLOP/s a core at a vocabulary of 49,152. Both
multiply and sum in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as torch_linear
from torch.nn.functional import pad

# Multiplications of a product from which on its faster kernel is worth being made: that takes a
# millisecond, for each number of rows.
WORTH = 2**26
# Rows are filled up to a multiple of this: a kernel stays in memory behind the product that it was
# made for, and where each number of rows had its own, freed products of 49,152 columns left 5 GiB
# of holes.
ROWS = 64


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias, as `torch.nn.functional.linear` does.

    Args:
        x: Shape (..., in).
        weight: Shape (out, in).
        bias: Shape (out,).
    """
    kernel: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if kernel is None or not _of_onednn(x, weight, bias):
        return torch_linear(x, weight, bias)
    rows = x.flatten(0, -2)
    spare = -len(rows) % ROWS
    filled = pad(rows, (0, 0, 0, spare)) if spare else rows
    product: Tensor = kernel(filled, weight, bias, "none", [], "")
    return product[: len(rows)].view(*x.shape[:-1], len(weight))


def _of_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN takes a product, and is worth it; it has no gradient."""
    given = [tensor for tensor in (x, weight, bias) if tensor is not None]
    return (
        not torch.is_grad_enabled()
        and x.ndim > 1
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and x.numel() * len(weight) >= WORTH
        and all(type(tensor) in (Tensor, nn.Parameter) for tensor in given)
        and all(tensor.dtype == torch.float32 for tensor in given)
        and all(tensor.device.type == "cpu" for tensor in given)
    )


@contextmanager
def fast_linear_layers() -> Iterator[None]:
    """Let the linear layers of any model multiply by `linear`, as long as the context lasts."""

    def forward(layer: nn.Linear, input: Tensor) -> Tensor:  # noqa: A002 -- torch's name
        return linear(input, layer.weight, layer.bias)

    own = nn.Linear.forward
    nn.Linear.forward = forward  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Linear.forward = own  # type: ignore[method-assign]
