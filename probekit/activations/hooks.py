"""One partial forward pass: the residual stream at some layers, nothing run beyond the last.

Layer 0 is the input of the first block, layer l the residual stream after block l, before any
final norm. The tensors are the model's own, not copies, unless the model writes into them later.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from probekit.errors import NumericalError
from probekit.models.anatomy import Anatomy
from probekit.models.module_calls import residual_in, residual_out
from probekit.shapes import Resid, TokenIds

# Positional and named arguments of a block's call.
Arguments = tuple[tuple[Any, ...], dict[str, Any]]

# Runs the model on a batch and returns activations by layer, on whatever device they are.
Capture = Callable[[TokenIds], dict[int, Resid]]


@dataclass(frozen=True, eq=False)
class PartialPass:
    """What a partial forward pass captured.

    Attributes:
        resid: Residual stream by layer, ascending, each of shape (batch, pos, model).
        last_call: The arguments of the last block's call; None unless it was asked for.
    """

    resid: dict[int, Resid]
    last_call: Arguments | None


def partial_forward(
    anatomy: Anatomy, token_ids: TokenIds, layers: Collection[int], *, last_call: bool = False
) -> PartialPass:
    """Run a model no further than what is to be captured.

    Args:
        anatomy: The model's anatomy.
        token_ids: Token ids, shape (batch, pos), on the model's device.
        layers: Layers to capture, at least one, each in 0 … n_layers.
        last_call: Whether to capture the call of the last block too. Blocks between the last
            of `layers` and the last block are passed over: their forward is not run.

    Returns:
        The residual streams, in the model's dtype, with gradient where that is enabled.
    """
    return pass_of({"input_ids": token_ids}, anatomy, layers, last_call=last_call)


def pass_of(
    inputs: Mapping[str, Any],
    anatomy: Anatomy,
    layers: Collection[int],
    *,
    last_call: bool = False,
) -> PartialPass:
    """Run a model no further than what is to be captured, on any arguments of its decoder."""
    hooks = _run(inputs, anatomy, layers, last_call=last_call, clone=False)
    if any(resid._version != version for resid, version in hooks.resid.values()):
        # A later block wrote into the stream that it was handed: copy each before that.
        hooks = _run(inputs, anatomy, layers, last_call=last_call, clone=True)
    return PartialPass({layer: hooks.resid[layer][0] for layer in sorted(hooks.resid)}, hooks.call)


class _AllCaptured(BaseException):
    """Everything to be captured is captured, and the pass ends here.

    Not an `Exception`, so that a model that catches those does not swallow it.
    """


class _Hooks:
    """The hooks of one pass, and what they captured so far.

    Attributes:
        resid: Each layer with the count of in-place writes it had seen when captured.
        call: Arguments of the last block's call.
    """

    def __init__(self, layers: Collection[int], *, last_call: bool, clone: bool) -> None:
        self.layers = frozenset(layers)
        self.last_call = last_call
        self.clone = clone
        self.resid: dict[int, tuple[Tensor, int]] = {}
        self.call: Arguments | None = None
        self.output: Any = None

    def before_first(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Capture layer 0."""
        self._capture(0, residual_in(args, kwargs))

    def after(self, layer: int, _: nn.Module, __: Any, output: Any) -> None:
        """Capture a layer behind its block."""
        self.output = output
        self._capture(layer, residual_out(output))

    def before_last(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Capture the last block's call."""
        self.call = args, kwargs
        self._stop_if_complete()

    def pass_over(self, *_: Any, **__: Any) -> Any:
        """Return, in place of a block, what the last block that was run returned."""
        return self.output

    def _capture(self, layer: int, resid: Tensor) -> None:
        if layer in self.layers:
            resid = resid.clone() if self.clone else resid
            self.resid[layer] = resid, resid._version
        self._stop_if_complete()

    def _stop_if_complete(self) -> None:
        if len(self.resid) == len(self.layers) and (self.call is not None or not self.last_call):
            raise _AllCaptured


def _run(
    inputs: Mapping[str, Any],
    anatomy: Anatomy,
    layers: Collection[int],
    *,
    last_call: bool,
    clone: bool,
) -> _Hooks:
    hooks, blocks = _Hooks(layers, last_call=last_call, clone=clone), anatomy.blocks
    handles = [blocks[0].register_forward_pre_hook(hooks.before_first, with_kwargs=True)]
    skipped: Sequence[nn.Module] = ()
    hooked = hooks.layers - {0}
    if last_call:
        # The first block is run in any case: what it returns stands for those passed over.
        last = max(1, *layers)
        hooked, skipped = hooked | {last}, blocks[last:-1]
        handles.append(blocks[-1].register_forward_pre_hook(hooks.before_last, with_kwargs=True))
    for layer in hooked:
        hook = partial(hooks.after, layer)
        handles.append(blocks[layer - 1].register_forward_hook(hook))
    try:
        with passed_over(skipped, hooks.pass_over):
            anatomy.decoder(**inputs, use_cache=False)
    except _AllCaptured:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return hooks


@contextmanager
def passed_over(blocks: Collection[nn.Module], instead: Callable[..., Any]) -> Iterator[None]:
    """Let `instead` stand for the forward pass of these blocks."""
    patched = [block.__dict__.get("forward") for block in blocks]  # where somebody patched it
    try:
        for block in blocks:
            block.forward = instead
        yield
    finally:
        for block, forward in zip(blocks, patched, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward


def resid_post(anatomy: Anatomy, layers: Sequence[int], token_ids: TokenIds) -> dict[int, Resid]:
    """Return the residual stream at `layers`, without gradient.

    Raises:
        NumericalError: If an activation is not finite.
    """
    # Not inference_mode: its tensors would have to be copied to be used with autograd.
    with torch.no_grad():
        resid = partial_forward(anatomy, token_ids, layers).resid
    require_finite(resid)
    return resid


def require_finite(resid: Mapping[int, Resid]) -> None:
    """Raise if an activation is not finite.

    What is not finite stays so in all later layers, so the last one tells, and costs least.
    """
    last = max(resid)
    if bool(torch.isfinite(resid[last]).all()):
        return
    layer = min(layer for layer, x in resid.items() if not bool(torch.isfinite(x).all()))
    dtype = str(resid[layer].dtype).removeprefix("torch.")
    way_out = "bfloat16 or float32" if dtype == "float16" else "float32"
    raise NumericalError(
        f"activations at layer {layer} are not finite in {dtype}; load the model with "
        f"--dtype {way_out}. If they still are not, its weights are broken"
    )
