"""Draw candidates by size: the large ones for sure, the rest by systematic sampling.

Source: Fearnhead and Clifford (2003), "On-line inference for hidden Markov models via particle
filters", section 4: of all unbiased schemes that keep n at most, the one of least squared error.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

# Candidates that are summed together at first, where there are many.
STRETCH = 256

Candidates = Float[Tensor, "rows candidates"]


def inclusion(sizes: Candidates, n: int) -> Candidates:
    """Return the probabilities min(1, size / tau) that sum to `n`, row by row.

    All candidates that have a size are certain where they are no more than `n`.

    Args:
        sizes: Sizes, 0 or more, shape (rows, candidates).
        n: Candidates to be drawn in each row, at least 1.

    >>> inclusion(torch.tensor([[8.0, 1.0, 1.0, 0.0]]).double(), 2)
    tensor([[1.0000, 0.5000, 0.5000, 0.0000]], dtype=torch.float64)
    """
    top, places = _largest(sizes, min(n, sizes.shape[1]))
    # Where the j largest are certain, tau is what the others sum to over the n - j places left;
    # small ones are summed by themselves, not as what is left of a large sum.
    rest = _stretches(sizes.scatter(1, places, 0)).sum(2).sum(1, keepdim=True, dtype=torch.float64)
    top = top.double()
    others = rest + top.flip(1).cumsum(1).flip(1)
    tau = others / (n - torch.arange(top.shape[1], device=top.device))
    # The first j at which the largest of the others is not above tau; at the last place it is not.
    first = (top <= tau).int().argmax(1, keepdim=True)
    tau = tau.gather(1, first)
    # Where no other has a size, all that have one are certain.
    tau = torch.where(rest == 0, 0, tau).to(sizes.dtype).clamp_min(torch.finfo(sizes.dtype).tiny)
    return (sizes / tau).clamp_max_(1)


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


def drawn_of_many(
    sizes: Candidates, n: int, uniform: Float[Tensor, " rows"]
) -> tuple[Int[Tensor, " drawn"], Int[Tensor, " drawn"], Float[Tensor, " drawn"]]:
    """Draw as `drawn` does by `inclusion`, with one look at most candidates.

    Stretches of candidates are laid end to end, and those alone are looked into in which a point
    of the grid lies, or that hold a certain candidate.

    Args:
        sizes: Sizes, 0 or more, shape (rows, candidates); float32 will do.
        n: Candidates to be drawn in each row, at least 1.
        uniform: Where each row's grid begins, uniform in [0, 1), shape (rows,).

    Returns:
        Row and place of each candidate drawn, ascending, and its probability in float64.
    """
    chances = inclusion(sizes, n)
    stretches = _stretches(chances)
    ends = uniform[:, None] + stretches.sum(2, dtype=torch.float64).cumsum(1)
    starts = torch.cat([uniform[:, None], ends[:, :-1]], dim=1)
    row, stretch = ((ends.floor() > starts.floor()) | (stretches.amax(2) >= 1)).nonzero(
        as_tuple=True
    )
    within = stretches[row, stretch].double()
    picked, place = drawn(within, starts[row, stretch]).nonzero(as_tuple=True)
    return row[picked], stretch[picked] * STRETCH + place, within[picked, place]


def _stretches(
    candidates: Candidates, beyond: float = 0.0
) -> Float[Tensor, "rows stretches stretch"]:
    padded = pad(candidates, (0, -candidates.shape[1] % STRETCH), value=beyond)
    stretches: Tensor = padded.unflatten(1, (-1, STRETCH))
    return stretches


def _largest(sizes: Candidates, n: int) -> tuple[Float[Tensor, "rows n"], Int[Tensor, "rows n"]]:
    """Return the `n` largest and their places: they lie in the `n` stretches of largest maxima."""
    stretches = _stretches(sizes, beyond=-1.0)
    best = stretches.amax(2).topk(min(n, stretches.shape[1]), dim=1).indices
    within = stretches.gather(1, best[:, :, None].expand(-1, -1, STRETCH)).flatten(1)
    top, places = within.topk(n, dim=1)
    return top, best.gather(1, places // STRETCH) * STRETCH + places % STRETCH
