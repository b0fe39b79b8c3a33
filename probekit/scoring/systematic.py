"""Draw candidates by size: the large ones for sure, the rest by systematic sampling.

Source: Fearnhead and Clifford (2003), "On-line inference for hidden Markov models via particle
filters", section 4: of all unbiased schemes that keep n at most, the one of least squared error.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Candidates = Float[Tensor, "rows candidates"]


def inclusion(sizes: Candidates, n: int) -> Candidates:
    """Return the probabilities min(1, size / tau) that sum to `n`, row by row.

    All candidates that have a size are certain where they are no more than `n`.

    Args:
        sizes: Sizes, 0 or more, float64, shape (rows, candidates).
        n: Candidates to be drawn in each row, at least 1.

    >>> inclusion(torch.tensor([[8.0, 1.0, 1.0, 0.0]]).double(), 2)
    tensor([[1.0000, 0.5000, 0.5000, 0.0000]], dtype=torch.float64)
    """
    top, places = sizes.topk(min(n, sizes.shape[1]), dim=1)
    # Where the j largest are certain, tau is what the others sum to over the n - j places left;
    # small ones are summed by themselves, not as what is left of a large sum.
    rest = sizes.scatter(1, places, 0).sum(1, keepdim=True)
    others = rest + top.flip(1).cumsum(1).flip(1)
    tau = others / (n - torch.arange(top.shape[1], device=top.device))
    # The first j at which the largest of the others is not above tau; at the last place it is not.
    first = (top <= tau).int().argmax(1, keepdim=True)
    tau = tau.gather(1, first)
    few = (sizes > 0).sum(1, keepdim=True) <= n
    tau = torch.where(few, 0, tau).clamp_min(torch.finfo(sizes.dtype).tiny)
    return (sizes / tau).clamp_max(1)


def drawn(
    inclusion: Candidates, uniform: Float[Tensor, " rows"]
) -> Bool[Tensor, "rows candidates"]:
    """Return which candidates are drawn, each with its probability.

    Systematic sampling: candidates lie end to end, each as long as its probability, and those
    are drawn in which a point of a grid of step 1 lies.

    Args:
        inclusion: Probabilities, shape (rows, candidates).
        uniform: Where each row's grid begins, uniform in [0, 1), shape (rows,).

    >>> drawn(torch.tensor([[1.0, 0.5, 0.5]]).double(), torch.tensor([0.6]).double())
    tensor([[ True,  True, False]])
    """
    ends = (inclusion.cumsum(1) + uniform[:, None]).floor()
    starts = torch.cat([uniform[:, None].floor(), ends[:, :-1]], dim=1)
    # What is certain is drawn even where rounding puts a point beside it.
    return ((ends > starts) & (inclusion > 0)) | (inclusion >= 1)
