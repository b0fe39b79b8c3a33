"""The blocks that heads share: run once, as far as heads read and no further.

What a head needs besides the residual stream (mask, rotary embeddings, position ids) is what
the model itself would hand to its last block. It is taken from there and never rebuilt, so
a head made of the last block's class runs on any architecture. Blocks between the last layer
that is read and the last block are passed over.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.errors import ModelError, SettingsError
from probekit.models.anatomy import Anatomy, tolerance
from probekit.models.module_calls import PROBE_TOKENS, residual_in, residual_out
from probekit.shapes import Resid, TokenIds


@dataclass(frozen=True, eq=False)
class BlockCall:
    """What the model passes to its last block besides the residual stream.

    Attributes:
        arguments: Positional arguments behind the stream.
        named: Named arguments, without the stream.
    """

    arguments: tuple[Any, ...]
    named: Mapping[str, Any]

    def run(self, block: nn.Module, resid: Resid) -> Resid:
        """Return what a block of the last block's class makes of a residual stream.

        A block in another dtype than the model's is run in its own.
        """
        own = next(block.parameters()).dtype
        if own == resid.dtype:
            return residual_out(block(resid, *self.arguments, **self.named))
        arguments, named = _cast(self.arguments, own), _cast(dict(self.named), own)
        return residual_out(block(resid.to(own), *arguments, **named))


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Return a value with all floating-point tensors in it in a dtype."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, tuple):
        return tuple(_cast(each, dtype) for each in value)
    if isinstance(value, dict):
        return {name: _cast(each, dtype) for name, each in value.items()}
    return value


@dataclass(frozen=True, eq=False)
class Reading:
    """What the backbone computed of a batch.

    Attributes:
        resid: Residual stream by layer, each of shape (batch, pos, model); 0 is the input of
            the first block, l the stream after block l.
        call: What the model would pass to its last block besides the stream.
    """

    resid: Mapping[int, Resid]
    call: BlockCall


class Backbone:
    """Blocks 1 … n of a model, and nothing behind them: no later block, no logits.

    Gradients flow where they are enabled and parameters require them.

    Attributes:
        model: The model; read in the mode that it is in.
        anatomy: Its anatomy.
    """

    def __init__(self, model: PreTrainedModel, anatomy: Anatomy) -> None:
        """Check on a few tokens that the last block can be run by itself.

        Args:
            model: A causal language model.
            anatomy: Its anatomy.

        Raises:
            ModelError: If the last block, called again with what the model passed to it,
                computes something else than within the model.
        """
        self.model = model
        self.anatomy = anatomy
        _require_repeatable(model, anatomy)

    def read(self, token_ids: TokenIds, layers: Collection[int]) -> Reading:
        """Run the blocks up to the last of `layers`.

        Args:
            token_ids: Token ids, shape (batch, pos).
            layers: Layers to read, at least one, each in 0 … n_layers.

        Returns:
            The residual stream at `layers`, in the model's dtype, and the last block's call.

        Raises:
            SettingsError: If no layer is asked for, or one that the model does not have.
        """
        return read(self.anatomy, token_ids.to(self.model.device), layers)


def read(anatomy: Anatomy, token_ids: TokenIds, layers: Collection[int]) -> Reading:
    """Read layers of a model by its anatomy alone; as `Backbone.read`, without the check."""
    outside = [layer for layer in layers if not 0 <= layer <= anatomy.n_layers]
    if outside or not layers:
        raise SettingsError(
            f"layers must be in 0..{anatomy.n_layers} and at least one, got {sorted(layers)}"
        )
    run = _run(anatomy, token_ids, layers, keep=lambda resid: resid)
    if any(resid._version != version for resid, version in run.found.values()):
        # A later block wrote into the stream that it was handed.
        run = _run(anatomy, token_ids, layers, keep=torch.clone)
    assert run.call is not None  # set before the run is ended
    return Reading({layer: run.found[layer][0] for layer in sorted(run.found)}, run.call)


class _AllRead(BaseException):
    """The last block was reached, and all that was asked for is captured.

    Not an `Exception`, so that a model that catches those does not swallow it.
    """


class _Run:
    """One run in progress: the layers found, each with its count of in-place writes."""

    def __init__(self, anatomy: Anatomy, layers: Collection[int], keep: Callable[..., Tensor]):
        self.layers = frozenset(layers)
        self.keep = keep
        # The first block is run in any case: what it returns stands for those passed over.
        self.last = max(1, *layers, 0)
        self.n_layers = anatomy.n_layers
        self.found: dict[int, tuple[Tensor, int]] = {}
        self.call: BlockCall | None = None
        self.output: Any = None

    def take(self, layer: int, resid: Tensor) -> None:
        """Keep a layer if it is asked for."""
        if layer in self.layers:
            kept = self.keep(resid)
            self.found[layer] = kept, kept._version

    def before_first(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take layer 0."""
        self.take(0, residual_in(args, kwargs))

    def after(self, layer: int, _: nn.Module, __: Any, output: Any) -> None:
        """Take a layer behind its block."""
        self.output = output
        self.take(layer, residual_out(output))
        if layer == self.n_layers:
            raise _AllRead

    def pass_over(self, *_: Any, **__: Any) -> Any:
        """Return, in place of a block, what the last block that was run returned."""
        return self.output

    def before_last(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the call of the last block; end here unless its output is asked for."""
        named = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        self.call = BlockCall(args[1:], named)
        if self.last < self.n_layers:
            raise _AllRead


def _run(
    anatomy: Anatomy, token_ids: TokenIds, layers: Collection[int], keep: Callable[..., Tensor]
) -> _Run:
    run = _Run(anatomy, layers, keep)
    blocks = anatomy.blocks
    handles = [
        blocks[0].register_forward_pre_hook(run.before_first, with_kwargs=True),
        blocks[-1].register_forward_pre_hook(run.before_last, with_kwargs=True),
    ]
    for layer in range(1, run.last + 1):
        handles.append(blocks[layer - 1].register_forward_hook(partial(run.after, layer)))
    try:
        with _passed_over(blocks[run.last : -1], run.pass_over):
            anatomy.decoder(input_ids=token_ids, use_cache=False)
    except _AllRead:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return run


@contextmanager
def _passed_over(blocks: Collection[nn.Module], instead: Callable[..., Any]) -> Iterator[None]:
    """Let `instead` stand for the forward pass of these blocks."""
    own = [block.__dict__.get("forward") for block in blocks]  # where somebody patched it
    try:
        for block in blocks:
            block.forward = instead
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward


def probe_ids(anatomy: Anatomy) -> TokenIds:
    """Return a few token ids that any model takes, shape (1, pos), on its device."""
    ids = torch.arange(PROBE_TOKENS, device=anatomy.unembedding.device) % anatomy.vocab_size
    return ids[None]


def close(value: Float[Tensor, "*any"], reference: Float[Tensor, "*any"]) -> bool:
    """Say whether two tensors differ by no more than rounding in their dtype explains."""
    largest = reference.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return bool((value - reference).abs().max() <= tolerance(reference.dtype) * largest)


def _require_repeatable(model: PreTrainedModel, anatomy: Anatomy) -> None:
    last = anatomy.n_layers
    token_ids = probe_ids(anatomy)
    training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            whole = read(anatomy, token_ids, {last})
            # Layer 0 alone: the call must not depend on the blocks that are passed over.
            call = read(anatomy, token_ids, {0}).call
            before = read(anatomy, token_ids, {last - 1}).resid[last - 1]
            again = call.run(anatomy.blocks[-1], before)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(_not_repeatable(model, str(error))) from error
    finally:
        model.train(training)
    if not close(again, whole.resid[last]):
        raise ModelError(_not_repeatable(model, "it then computes other numbers"))


def _not_repeatable(model: PreTrainedModel, why: str) -> str:
    return (
        f"the last block of {type(model).__name__} cannot be run by itself, as heads need it "
        f"({why}). Use another model for heads; probes and marginalization do without this"
    )
