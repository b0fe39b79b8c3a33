"""Controls: what a probe reaches without the context, and on a model that has not learned.

control   the probe on targets that were permuted among positions with the same current token:
          what the token tells of them is kept, all that lies beyond it is destroyed
random    the probe on the same model with its blocks untrained; embeddings, final norm and
          unembedding are the trained ones

The probe less its control is what it reads in the context; what the control reads less than the
probe at layer 0, which knows as much of its targets, is overfitting.
"""

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from accelerate import dispatch_model  # type: ignore[import-untyped]
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from probekit.data.targets import Targets
from probekit.errors import ModelError, SettingsError
from probekit.models.anatomy import Anatomy
from probekit.models.quantization import method
from probekit.readout import CONTROL
from probekit.shapes import Mask, TokenIds

Which = Literal["default", "all", "none"]

# The first offset at which a probe looks further than its model was trained to.
DEFAULT_OFFSET = 2
# Draws of untrained blocks: two differ by more than an interval over documents shows.
DRAWS = 3


def permuted_targets(targets: Targets, token_ids: TokenIds, seed: int) -> Targets:
    """Return targets that changed places among the positions with the same current token.

    At each offset the positions of a token type form one random cycle, and each takes the
    target of the next: none keeps its own but where its type occurs once. So what the current
    token tells of its target is as before, and nothing else is.

    Args:
        targets: The targets that these stand beside; the same positions are valid.
        token_ids: Tokens of the same blocks, shape (block, pos).
        seed: Seed of the order, at least 0.

    Returns:
        Targets named `control`.

    >>> ids = torch.tensor([[0, 0, 0, 1, 0]])
    >>> text = Targets("text", {1: torch.arange(5)[None]}, {1: torch.ones_like(ids).bool()})
    >>> permuted_targets(text, ids, seed=0).ids[1]
    tensor([[4, 2, 0, 3, 1]])
    """
    ids = {}
    for offset, of_text in targets.ids.items():
        valid = targets.valid[offset]
        tokens = token_ids[valid].numpy()
        draw = np.random.default_rng((seed, offset))
        order = np.lexsort((draw.random(len(tokens)), tokens))
        first = _firsts(tokens[order])
        giver = np.roll(order, -1)
        # The last position of a type takes the target of the first, which closes the cycle.
        giver[np.roll(first, -1) - 1] = order[first]
        taken, its = torch.empty(len(tokens), dtype=of_text.dtype), of_text[valid]
        taken[torch.from_numpy(order)] = its[torch.from_numpy(giver)]
        ids[offset] = of_text.masked_scatter(valid, taken)
    return Targets(CONTROL, ids, targets.valid)


def kept_share(valid: Mask, token_ids: TokenIds) -> float:
    """Return the share of valid positions whose token type occurs once: no target to change with.

    >>> kept_share(torch.tensor([[True, True, True, False]]), torch.tensor([[7, 7, 5, 5]]))
    0.333...
    """
    counts = token_ids[valid].unique(return_counts=True)[1]
    return float((counts == 1).sum() / counts.sum())


def _firsts(ordered: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each run of equal values begins."""
    return np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else ordered


def random_model(model: PreTrainedModel, anatomy: Anatomy, seed: int) -> PreTrainedModel:
    """Return a model that differs in its blocks alone, which are untrained.

    Their weights are drawn on the CPU as the class initializes them, so that a seed means the
    same model on every device. Embeddings, final norm and unembedding are those of `model`, and so
    are dtype, devices, attention implementation and tied weights; it is left alone, as the
    global state of random numbers is.

    Args:
        model: Any model, not quantized.
        anatomy: Its anatomy.
        seed: Seed of the weights, at least 0.

    Returns:
        The model, in eval mode, without gradients.

    Raises:
        ModelError: If the model is quantized: its kind of weights cannot be drawn.
    """
    config = copy.deepcopy(model.config)  # building a model writes to its configuration
    if method(config):
        raise ModelError(
            f"{type(model).__name__} is quantized, so it has no untrained counterpart. Load it "
            "without quantization, or do without this control"
        )
    vars(config).pop("quantization_config", None)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed, which would seed the accelerators too.
        torch.default_generator.manual_seed(seed)
        # The attention implementation goes with the configuration.
        made: PreTrainedModel = type(model)._from_config(config, dtype=model.dtype)
    made.load_state_dict(_outside_of_blocks(model, anatomy), strict=False)
    places = getattr(model, "hf_device_map", {})
    if len(set(places.values())) > 1:  # a large model, spread over several devices
        dispatch_model(made, places)
    else:
        made.to(model.device)  # type: ignore[arg-type]  # `self` is wrapped
    made.requires_grad_(False)
    made.train(False)
    return made


def _outside_of_blocks(model: PreTrainedModel, anatomy: Anatomy) -> dict[str, Tensor]:
    """Return the weights and buffers that belong to no block, by name."""
    blocks = {id(block) for block in anatomy.blocks}
    inside = tuple(f"{name}." for name, part in model.named_modules() if id(part) in blocks)
    return {k: v for k, v in model.state_dict().items() if not k.startswith(inside)}


def cells(
    which: Which, layers: Sequence[int], horizon: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the layers and the offsets at which controls run.

    Args:
        which: `default`: the first, middle and last of the layers, at offset 2 (1 where there
            is no other); `all`: every layer and offset; `none`: nowhere.
        layers: Layers that are read, the model's last one among them.
        horizon: The largest offset, at least 1.

    Raises:
        SettingsError: If there is no layer or no offset.

    >>> cells("default", range(8), horizon=4)
    ((0, 3, 7), (2,))
    >>> cells("all", [0, 6], horizon=2)
    ((0, 6), (1, 2))
    """
    if not layers or horizon < 1:
        raise SettingsError(
            f"controls need a layer and an offset, got layers {list(layers)} and horizon {horizon}"
        )
    if which == "none":
        return (), ()
    if which == "all":
        return tuple(sorted(set(layers))), tuple(range(1, horizon + 1))
    last = max(layers)
    middle = min(sorted(layers), key=lambda layer: abs(layer - last / 2))
    return tuple(sorted({min(layers), middle, last})), (min(DEFAULT_OFFSET, horizon),)
