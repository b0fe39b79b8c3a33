"""How far two computations of one number may differ by rounding alone."""

import torch
from jaxtyping import Float
from torch import Tensor


def tolerance(dtype: torch.dtype) -> float:
    """Return the largest relative difference that rounding in `dtype` explains.

    Four roundings of the dtype; in float32 and float64, where sums in another order weigh
    more than a rounding, 1e-5. Relative to the largest absolute value in the tensor.

    >>> tolerance(torch.float32), tolerance(torch.bfloat16)
    (1e-05, 0.03125)
    """
    return max(4 * torch.finfo(dtype).eps, 1e-5)


def log_prob_tolerance(dtype: torch.dtype) -> float:
    """Return the largest difference of log-probabilities in nats that rounding in `dtype` explains.

    1e-4, or 64 roundings of a coarser dtype: room for logits of a few tens that are rounded at
    each layer.

    >>> log_prob_tolerance(torch.float32), log_prob_tolerance(torch.bfloat16)
    (0.0001, 0.5)
    """
    return max(1e-4, 64 * torch.finfo(dtype).eps)


def within_rounding(
    value: Float[Tensor, "*any"],
    reference: Float[Tensor, "*others"],
    dtype: torch.dtype | None = None,
) -> bool:
    """Return whether two tensors have one shape and differ no more than rounding explains.

    Args:
        value: What was computed.
        reference: What it is to be.
        dtype: The dtype that both were computed in; that of `reference` if None.

    >>> one = torch.ones(2)
    >>> within_rounding(one + 5e-6, one), within_rounding(one + 5e-5, one)
    (True, False)
    """
    if value.shape != reference.shape:
        return False
    largest = reference.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return bool((value - reference).abs().max() <= tolerance(dtype or reference.dtype) * largest)
