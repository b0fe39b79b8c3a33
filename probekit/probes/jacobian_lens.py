"""The Jacobian lens: a layer carried to the last one by the model's average derivative.

    lens(resid_l) = decode(J_l resid_l),    J_l = E[Σ_{t' >= t} ∂ resid_L(t') / ∂ resid_l(t)]

The expectation is over training prompts and positions t; t' are t and the later positions of
the same prompt. No offset is added. At the last layer J is the identity: the logit lens.

Source: Gurnee, Sofroniew, Lindsey et al. (2026), "Verbalizable Representations Form a Global
Workspace in Language Models", and its code (anthropics/jacobian-lens, `jlens/fitting.py`):
prompts of up to 128 tokens, of which the first 16, where attention sinks are, and the last are
left out. A backward pass from one dimension of resid_L, at all positions at once, gives that
row of J. There each prompt gives every row. Here the rows are dealt out to the prompts, so that
each row is the mean over `PROMPTS_A_ROW` of them: the same expectation, at a fraction of the
backward passes, and what is left is the spread of a row from prompt to prompt.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from probekit.activations.hooks import partial_forward
from probekit.data.blocks import OUTSIDE, Blocks
from probekit.errors import DataError
from probekit.models.anatomy import Anatomy
from probekit.models.module_calls import residual_in
from probekit.probes.logit_lens import LogitLens
from probekit.readout import JACOBIAN_LENS
from probekit.shapes import Mask, TokenIds

MOST_PROMPTS, PROMPT_TOKENS, SINK_TOKENS = 100, 128, 16
PROMPTS_A_ROW = 4
PROMPTS_AT_ONCE = 8


def fit(anatomy: Anatomy, blocks: Blocks, layers: Sequence[int], seed: int = 0) -> LogitLens:
    """Return the Jacobian lens of some layers, as a readout called `jacobian-lens`.

    Args:
        anatomy: The model's anatomy.
        blocks: Training text; the prompts are the beginnings of up to 100 of its blocks.
        layers: Layers to read.
        seed: Seed of the choice of prompts.

    Raises:
        DataError: If no block has a position to differentiate at.
    """
    below = [layer for layer in layers if layer < anatomy.n_layers]
    transport = jacobians(anatomy, *prompts(blocks, seed), below) if below else {}
    return LogitLens(layers, anatomy, JACOBIAN_LENS, transport)


def prompts(blocks: Blocks, seed: int) -> tuple[TokenIds, Mask]:
    """Draw the prompts.

    Args:
        blocks: Token blocks.
        seed: Seed of the draw.

    Returns:
        Token ids, shape (prompt, pos), and the positions to differentiate at, of equal shape:
        all but the first 16 (a quarter of a shorter prompt), the last, and what lies behind the
        last document.

    Raises:
        DataError: If no prompt has such a position.
    """
    ids = blocks.token_ids[:, :PROMPT_TOKENS]
    place = torch.arange(ids.shape[1])
    later = (blocks.documents != OUTSIDE).flip(1).cumsum(1).flip(1)[:, : ids.shape[1]] > 0
    valid = later & (place >= min(SINK_TOKENS, ids.shape[1] // 4)) & (place < ids.shape[1] - 1)
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
    chosen = order[valid[order].any(dim=1)][:MOST_PROMPTS]
    if not len(chosen):
        raise DataError(
            "the Jacobian lens needs a training block with a position that is neither among its "
            "first nor the last of a document; give more text or longer blocks"
        )
    return ids[chosen], valid[chosen]


def jacobians(
    anatomy: Anatomy,
    token_ids: TokenIds,
    valid: Mask,
    layers: Sequence[int],
    prompts_a_row: int = PROMPTS_A_ROW,
) -> dict[int, Float[Tensor, "model model"]]:
    """Return the average Jacobian from each layer to the last one.

    Args:
        anatomy: The model's anatomy.
        token_ids: Prompts, shape (prompt, pos).
        valid: Positions to differentiate at, from and to, shape (prompt, pos).
        layers: Layers, each below the last.
        prompts_a_row: Prompts that a row is the mean of, at least; at most all.

    Returns:
        By layer, in float32: row i, column j is how dimension i of the last residual stream
        follows dimension j of the layer's.
    """
    width, device = anatomy.d_model, anatomy.unembedding.device
    per_prompt = min(width, math.ceil(width * prompts_a_row / len(token_ids)))
    sums = {layer: torch.zeros(width, width, device=device) for layer in layers}
    counts = torch.zeros(width, 1, device=device)
    for first in range(0, len(token_ids), PROMPTS_AT_ONCE):
        ids, at = (x[first : first + PROMPTS_AT_ONCE].to(device) for x in (token_ids, valid))
        # Prompt p has the `per_prompt` rows from its turn on, so that all rows come up in turn.
        starts = torch.arange(first, first + len(ids), device=device) * per_prompt
        with torch.enable_grad(), _differentiable(anatomy):
            resid = partial_forward(anatomy, ids, {*layers, anatomy.n_layers}).resid
        for turn in range(per_prompt):
            rows = (starts + turn) % width
            kept = turn < per_prompt - 1
            for layer, found in _rows(resid, at, rows, layers, keep=kept):
                sums[layer].index_add_(0, rows, found)
            counts.index_add_(0, rows, torch.ones(len(rows), 1, device=device))
    return {layer: total / counts for layer, total in sums.items()}


def _rows(
    resid: dict[int, Tensor], at: Mask, rows: Tensor, layers: Sequence[int], *, keep: bool
) -> Iterator[tuple[int, Float[Tensor, "prompt model"]]]:
    """Yield by layer one row of the Jacobian of each prompt, mean over positions."""
    last = resid[max(resid)]
    unit = torch.nn.functional.one_hot(rows, last.shape[-1])[:, None] * at[..., None]
    inner = [resid[layer] for layer in layers]
    found = torch.autograd.grad(last, inner, unit.to(last.dtype), retain_graph=keep)
    for layer, grad in zip(layers, found, strict=True):
        yield layer, (grad.float() * at[..., None]).sum(1) / at.sum(1, keepdim=True)


@contextmanager
def _differentiable(anatomy: Anatomy) -> Iterator[None]:
    """Let gradients reach the input of the first block, whether or not weights ask for any."""

    def require(_: object, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        residual_in(args, kwargs).requires_grad_()

    handle = anatomy.blocks[0].register_forward_pre_hook(require, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
