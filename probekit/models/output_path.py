"""What a model does from its last block to its logits, measured and verified.

No model is known here by its name. What fires between the last block and the unembedding is the
final path; a factor in between that is no module shows in what enters the unembedding. Factor and
soft-cap behind the unembedding show when numbers of our own are put in the place of what it gives.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.errors import ModelError
from probekit.models.module_calls import Call, run_on_probe_ids
from probekit.models.rounding import within_rounding

WAY_OUT = "Use another model, or report this architecture with the name of its class"

# Numbers put in the place of logits: the least is small beside any soft-cap, the largest many
# times as large, and none is more than float16 holds.
LEAST_EXPONENT, LARGEST_EXPONENT = -3.0, 3.6
# Where |x| is no more than this share of the cap, c·tanh(x/c) is x to 4e-7.
LINEAR_SHARE = 1e-3


class Factor(nn.Module):
    """Multiply by a constant, in a model that has no module for it."""

    def __init__(self, factor: float) -> None:
        """Take the factor."""
        super().__init__()
        self.factor = factor

    def forward(self, hidden: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Return `hidden` times the factor."""
        return hidden * self.factor


def capped(
    logits: Float[Tensor, "*any"], scale: float, softcap: float | None
) -> Float[Tensor, "*any"]:
    """Return c·tanh(s·x/c) for scale s and soft-cap c; s·x where there is none.

    >>> capped(torch.tensor([8.0, -80.0]), 0.5, None)
    tensor([  4., -40.])
    >>> capped(torch.tensor([8.0, -80.0]), 0.5, 4.0)
    tensor([ 3.0464, -4.0000])
    """
    if scale != 1.0:
        logits = logits * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def find_final_path(
    model: PreTrainedModel, calls: list[Call], last: Call, unembedding: Call
) -> tuple[nn.Module, ...]:
    """Return what stands between the last block and the unembedding; verify that it is all.

    Args:
        model: The model.
        calls: All calls of one run.
        last: The call of the last block.
        unembedding: The call of the output embeddings.

    Raises:
        ModelError: If what fires there does not give what enters the unembedding.
    """
    between = [call for call in calls if last.end < call.start and call.end < unembedding.start]
    outermost = [call for call in between if not any(call.within(other) for other in between)]
    final = tuple(call.module for call in outermost)
    names = ", ".join(type(module).__name__ for module in final) or "nothing"
    shape = None if last.left is None else tuple(last.left.shape[:-1])
    entered = unembedding.entered
    assert entered is not None
    if last.left is None or shape != tuple(entered.shape[:-1]):
        raise ModelError(
            f"residual stream of {type(model).__name__}: the last block must give a tensor of "
            f"shape (batch, pos, model), got leading axes {shape}. {WAY_OUT}"
        )
    hidden = _recompute(lambda resid: _apply(final, resid), last.left)
    if hidden is not None and within_rounding(hidden, entered, model.dtype):
        return final
    if hidden is not None and hidden.shape == entered.shape:
        factor = _slope(hidden, entered)
        if within_rounding(factor * hidden, entered, model.dtype):
            return (*final, Factor(factor))
    raise ModelError(
        f"final path of {type(model).__name__}: {names} applied to the last block's output "
        f"does not give what enters the unembedding, nor a constant times it. {WAY_OUT}"
    )


def _apply(modules: tuple[nn.Module, ...], resid: Tensor) -> Tensor:
    for module in modules:
        resid = module(resid)
    return resid


def _recompute(compute: Callable[[Tensor], Tensor], value: Tensor) -> Tensor | None:
    try:
        with torch.no_grad():
            return compute(value)
    except (RuntimeError, TypeError):  # a module that takes more than the stream
        return None


def _slope(x: Tensor, y: Tensor) -> float:
    """Return the factor f for which f·x is nearest to y; 0 where x is."""
    x, y = x.double(), y.double()
    return float((x * y).sum() / x.square().sum().clamp(min=torch.finfo(torch.double).tiny))


def find_scale_and_softcap(
    model: PreTrainedModel, unembedding: Call, logits: Tensor
) -> tuple[float, float | None]:
    """Return the factor and the soft-cap between the unembedding's output and the logits.

    Args:
        model: The model.
        unembedding: The call of the output embeddings in the run that gave the logits.
        logits: The model's logits in that run.

    Raises:
        ModelError: If something else lies between them.
    """
    given = unembedding.left
    assert given is not None
    if given.shape == logits.shape:
        for scale, softcap in _measured(model, unembedding.module, given):
            explained = capped(given.double(), scale, softcap)
            if within_rounding(explained, logits.double(), model.dtype):
                return scale, softcap
    raise ModelError(
        f"logits of {type(model).__name__}: they are neither a constant times what the "
        f"unembedding gives nor its soft-capped value. {WAY_OUT}"
    )


def _measured(
    model: PreTrainedModel, output_embeddings: nn.Module, like: Tensor
) -> list[tuple[float, float | None]]:
    """Return the scale and soft-cap by which a model answers numbers in the place of logits."""
    sizes = torch.logspace(LEAST_EXPONENT, LARGEST_EXPONENT, like.numel(), dtype=torch.double)
    signs = 1 - 2 * (torch.arange(like.numel()) % 2)
    given = (sizes * signs).view(like.shape).to(like)
    handle = output_embeddings.register_forward_hook(lambda *_: given)
    try:
        answer = run_on_probe_ids(model).double()
    finally:
        handle.remove()
    given = given.double()
    if answer.shape != given.shape:
        return []
    scale = _slope(given, answer)
    if within_rounding(scale * given, answer, model.dtype):
        return [(_plain(scale, model.dtype), None)]
    softcap = float(answer.abs().max())
    small = given.abs() <= LINEAR_SHARE * softcap
    scale = _plain(_slope(given[small], answer[small]), model.dtype)
    fits = within_rounding(capped(given, scale, softcap), answer, model.dtype)
    return [(scale, softcap)] if fits else []


def _plain(scale: float, dtype: torch.dtype) -> float:
    """Return 1 for a scale that is 1 but for rounding, and any other as it is."""
    one = torch.ones(1)
    return 1.0 if within_rounding(scale * one, one, dtype) else scale
