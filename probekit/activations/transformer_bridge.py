"""One forward pass: the activations at a site of the asked layers, and nothing else.

The residual stream after a block comes from plain hooks on the Hugging Face model. The sites
inside a block are named by transformer_lens, which knows them in many architectures; it wraps
a copy of the model, and is held to the residual stream that the model itself computes.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.errors import ModelError, NumericalError
from probekit.models.anatomy import Anatomy, tolerance
from probekit.models.module_calls import residual_in, residual_out
from probekit.shapes import Resid, TokenIds

# The bridge has its own attention: a few times the rounding of one kernel, through all blocks.
BRIDGE_TOLERANCE = 10

# Runs the model on a batch and returns the asked layers, on whatever device they are.
Capture = Callable[[TokenIds], dict[int, Resid]]

# What the weights were when a bridge was built, and the bridge, as long as the model lives.
_bridges: WeakKeyDictionary[PreTrainedModel, tuple[object, Any]] = WeakKeyDictionary()


class _LastLayerReached(BaseException):
    """Everything that was asked for is captured.

    Not an `Exception`, so that a model that catches those does not swallow it.
    """


def resid_post(anatomy: Anatomy, layers: Sequence[int], token_ids: TokenIds) -> dict[int, Resid]:
    """Return the residual stream at `layers`, running no further than the last of them.

    The tensors are the model's own, not copies, unless the model writes into them later on.
    """
    found = _run_hooked(anatomy, layers, token_ids, clone=False)
    if any(resid._version != version for resid, version in found.values()):
        found = _run_hooked(anatomy, layers, token_ids, clone=True)
    resid = {layer: found[layer][0] for layer in layers}
    _require_finite(resid)
    return resid


def _run_hooked(
    anatomy: Anatomy, layers: Sequence[int], token_ids: TokenIds, *, clone: bool
) -> dict[int, tuple[Resid, int]]:
    """Return each layer with the count of in-place writes it had seen when captured."""
    found: dict[int, tuple[Resid, int]] = {}

    def keep(layer: int, resid: Tensor) -> None:
        resid = resid.clone() if clone else resid
        found[layer] = resid, resid._version
        if layer == layers[-1]:
            raise _LastLayerReached

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(0, residual_in(args, kwargs))

    def after(layer: int, _: nn.Module, __: Any, output: Any) -> None:
        keep(layer, residual_out(output))

    handles = [
        anatomy.blocks[0].register_forward_pre_hook(before, with_kwargs=True)
        if layer == 0
        else anatomy.blocks[layer - 1].register_forward_hook(partial(after, layer))
        for layer in layers
    ]
    try:
        # Not inference_mode: its tensors would have to be copied to be used with autograd.
        with torch.no_grad():
            anatomy.decoder(input_ids=token_ids, use_cache=False)
    except _LastLayerReached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found


def _require_finite(resid: Mapping[int, Resid]) -> None:
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


def bridged(model: PreTrainedModel, anatomy: Anatomy, layers: Sequence[int], site: str) -> Capture:
    """Return a capture through transformer_lens, on the one copy that a model has for this."""
    try:
        bridge = _bridge(model)
        names = {layer: f"blocks.{layer - 1}.hook_{site}" for layer in layers}
        unknown = [name for name in names.values() if bridge.get_hook_point(name) is None]
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        raise ModelError(_no_site(model, site, str(error))) from error
    if unknown:
        raise ModelError(_no_site(model, site, f"it has no {unknown[0]}"))
    last = f"blocks.{anatomy.n_layers - 1}.hook_resid_post"

    def run(token_ids: TokenIds) -> dict[int, Resid]:
        found: dict[str, Resid] = {}

        # The hook calls itself by another name than it was asked for by.
        def keep(name: str, value: Tensor, hook: Any) -> None:  # noqa: ARG001
            found[name] = value.detach()

        wanted = {last, *names.values()}
        hooks: list[tuple[Any, Any]] = [(name, partial(keep, name)) for name in wanted]
        with torch.no_grad():
            bridge.run_with_hooks(token_ids, return_type=None, fwd_hooks=hooks)
        _require_same_model(model, anatomy, token_ids, found[last])
        resid = {layer: found[name] for layer, name in names.items()}
        _require_finite(resid)
        return resid

    return run


def _bridge(model: PreTrainedModel) -> Any:
    """Return the model's bridge, around a copy: a bridge changes what it wraps."""
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    # Training, or a move to another device or dtype, makes the copy another model.
    weights = [(weight.data_ptr(), weight._version) for weight in model.parameters()]
    if model not in _bridges or _bridges[model][0] != weights:
        _bridges.pop(model, None)
        bridge = build_bridge_from_module(
            copy.deepcopy(model), type(model).__name__, hf_config=model.config
        )
        _bridges[model] = weights, bridge
    return _bridges[model][1]


def _require_same_model(
    model: PreTrainedModel, anatomy: Anatomy, token_ids: TokenIds, bridged: Resid
) -> None:
    """Raise unless the bridge computes, on one block, the residual stream that the model does."""
    own = resid_post(anatomy, [anatomy.n_layers], token_ids[:1])[anatomy.n_layers]
    difference = float((bridged[:1] - own).abs().max() / own.abs().max())
    if not difference <= BRIDGE_TOLERANCE * tolerance(own.dtype):
        raise ModelError(
            f"transformer_lens does not compute what {type(model).__name__} does: its last "
            f"residual stream differs by {difference:.1e} of the largest value. Use --site "
            "resid_post"
        )


def _no_site(model: PreTrainedModel, site: str, why: str) -> str:
    return (
        f"transformer_lens does not name {site} in {type(model).__name__} ({why}); parallel and "
        "state-space blocks have no resid_mid. Use --site resid_post"
    )
