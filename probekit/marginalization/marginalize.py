"""The marginal at one position in one call: what a model knows of a token further on."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from probekit.checks import Check
from probekit.errors import DataError
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization
from probekit.models.as_found import plain_torch


@dataclass(frozen=True)
class Marginal:
    """The distribution over the token at one offset from one position.

    Attributes:
        probs: Probabilities, renormalised, float32, shape (vocab,).
        lower: A bound on each token's exact probability, shape (vocab,).
        upper: The same from above.
        retained_mass: Joint probability of the paths kept.
        tv_bound: As in `Estimate`.
        branches: Distinct paths.
        check: The check of the branch engine; its message names the route taken.
    """

    probs: Float[Tensor, " vocab"]
    lower: Float[Tensor, " vocab"]
    upper: Float[Tensor, " vocab"]
    retained_mass: float
    tv_bound: float
    branches: int
    check: Check


@plain_torch()
def marginalize(
    model: PreTrainedModel,
    token_ids: Int[Tensor, " pos"],
    offset: int = 2,
    *,
    position: int | None = None,
    truncation: Truncation | None = None,
) -> Marginal:
    """Return what a model knows of the token at an offset, the tokens between summed out.

    p(x_{t+k} | x_<=t) is the sum, over all paths of k - 1 tokens that may come next, of the
    path's probability times that of the token after it. `truncation` says which paths are kept;
    the result bounds what the others may have changed.

        loaded = probekit.models.loading.load("tiny")
        token_ids = loaded.tokenizer("import numpy", return_tensors="pt")["input_ids"][0]
        marginal = probekit.marginalize(loaded.model, token_ids)
        marginal.probs.topk(5)    # the likeliest tokens after the next one
        marginal.tv_bound         # within so much of the exact distribution

    Args:
        model: A Hugging Face causal language model, in eval mode.
        token_ids: Token ids, shape (pos,); those after `position` are not read.
        offset: Offset k, at least 2: 2 is the token after the next one.
        position: Position t, 0 <= t < pos, from which to look ahead; the last one if None.
        truncation: Which paths are kept; `Truncation()` if None: at each level the most probable
            ones that hold 0.99 of the probability, 64 at most.

    Returns:
        Probabilities, shape (vocab,), with bounds on each and on the total variation.

    Raises:
        DataError: If position or offset is outside what is allowed.
        ModelError: If the branches are not what the model computes one by one.
    """
    if position is None:
        position = len(token_ids) - 1
    if not 0 <= position < len(token_ids):
        raise DataError(f"position must be in 0..{len(token_ids) - 1}, got {position}")
    if offset < 2:
        raise DataError(f"offset must be 2 or more, got {offset}; offset 1 is the model itself")
    context = token_ids[: position + 1]
    readout = Marginalization(BranchEngine(model), truncation)
    mask = torch.zeros(len(context), dtype=torch.bool, device=model.device)
    mask[position] = True
    (estimate,) = readout.estimate_block(context, {offset: mask})
    assert readout.check is not None  # set by the block that was just read
    probs, mass = estimate.probs[0], float(estimate.retained_mass)
    bound = float(estimate.tv_bound)
    # What the kept paths alone give each token; all that was left out may go to any one.
    lower, upper = probs * mass, probs * mass + bound
    return Marginal(probs, lower, upper, mass, bound, int(estimate.branches), readout.check)
