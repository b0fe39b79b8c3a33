"""The backbone that all heads of a model share: its blocks, run as far as heads read.

What a head needs besides the residual stream (mask, rotary embeddings, position ids) is what
the model itself would hand to its last block. It is taken from there and never rebuilt, so
a head made of the last block's class runs on any architecture. Blocks between the last layer
that is read and the last block are passed over.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.activations.hooks import partial_forward
from probekit.errors import ModelError, SettingsError
from probekit.models.anatomy import Anatomy
from probekit.models.module_calls import PROBE_TOKENS, residual_out
from probekit.models.rounding import within_rounding
from probekit.shapes import Resid, TokenIds


@dataclass(frozen=True, eq=False)
class BlockCall:
    """The call of the model's last block, without the residual stream.

    Attributes:
        arguments: Positional arguments behind the stream.
        named: Named arguments, without the stream.
    """

    arguments: tuple[Any, ...]
    named: Mapping[str, Any]

    def run(self, block: nn.Module, resid: Resid) -> Resid:
        """Run a block of the last block's class on a residual stream.

        A block in another dtype than the model's is run in its own.

        Args:
            block: The block.
            resid: Residual stream, shape (batch, pos, model), in the model's dtype.

        Returns:
            The residual stream after it, shape (batch, pos, model), in the block's dtype.
        """
        dtype = next(block.parameters()).dtype
        if dtype == resid.dtype:
            return residual_out(block(resid, *self.arguments, **self.named))
        arguments, named = _cast(self.arguments, dtype), _cast(dict(self.named), dtype)
        return residual_out(block(resid.to(dtype), *arguments, **named))


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Return a value with all floating-point tensors in it in a dtype."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, tuple):
        return tuple(_cast(item, dtype) for item in value)
    if isinstance(value, dict):
        return {name: _cast(item, dtype) for name, item in value.items()}
    return value


@dataclass(frozen=True, eq=False)
class BackboneOutput:
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

    def read(self, token_ids: TokenIds, layers: Collection[int]) -> BackboneOutput:
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


def read(anatomy: Anatomy, token_ids: TokenIds, layers: Collection[int]) -> BackboneOutput:
    """Read layers of a model by its anatomy alone; as `Backbone.read`, without the check."""
    outside = [layer for layer in layers if not 0 <= layer <= anatomy.n_layers]
    if outside or not layers:
        raise SettingsError(
            f"layers must be in 0..{anatomy.n_layers} and at least one, got {sorted(layers)}"
        )
    captured = partial_forward(anatomy, token_ids, layers, last_call=True)
    assert captured.last_call is not None  # it was asked for
    args, kwargs = captured.last_call
    named = {name: value for name, value in kwargs.items() if name != "hidden_states"}
    return BackboneOutput(captured.resid, BlockCall(args[1:], named))


def probe_ids(anatomy: Anatomy) -> TokenIds:
    """Return a few token ids that any model takes, shape (1, pos), on its device."""
    ids = torch.arange(PROBE_TOKENS, device=anatomy.unembedding.device) % anatomy.vocab_size
    return ids[None]


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
    if not within_rounding(again, whole.resid[last]):
        raise ModelError(_not_repeatable(model, "it then computes other numbers"))


def _not_repeatable(model: PreTrainedModel, why: str) -> str:
    return (
        f"the last block of {type(model).__name__} cannot be run by itself, as heads need it "
        f"({why}). Use another model for heads; probes and marginalization do without this"
    )
