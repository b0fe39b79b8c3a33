"""Sites inside a block (resid_mid, attn_out, mlp_out), captured through transformer_lens.

transformer_lens knows these sites in many architectures. It wraps a copy of the model, and is
held to the residual stream that the model itself computes.
"""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from probekit.activations.hooks import Capture, require_finite, resid_post
from probekit.errors import ModelError
from probekit.models.anatomy import Anatomy
from probekit.models.rounding import tolerance
from probekit.shapes import Resid, TokenIds

# The bridge has its own attention: a few times the rounding of one kernel, through all blocks.
BRIDGE_TOLERANCE = 10

# What the weights were when a bridge was built, and the bridge, as long as the model lives.
_bridges: WeakKeyDictionary[PreTrainedModel, tuple[object, Any]] = WeakKeyDictionary()


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
        activations: dict[str, Resid] = {}

        # The hook calls itself by another name than it was asked for by.
        def keep(name: str, value: Tensor, hook: Any) -> None:  # noqa: ARG001
            activations[name] = value.detach()

        hook_points = {last, *names.values()}
        hooks: list[tuple[Any, Any]] = [(name, partial(keep, name)) for name in hook_points]
        with torch.no_grad():
            bridge.run_with_hooks(token_ids, return_type=None, fwd_hooks=hooks)
        _require_same_model(model, anatomy, token_ids, activations[last])
        resid = {layer: activations[name] for layer, name in names.items()}
        require_finite(resid)
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
    resid = resid_post(anatomy, [anatomy.n_layers], token_ids[:1])[anatomy.n_layers]
    difference = float((bridged[:1] - resid).abs().max() / resid.abs().max())
    if not difference <= BRIDGE_TOLERANCE * tolerance(resid.dtype):
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
