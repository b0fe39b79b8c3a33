"""Controls: what a probe reaches without knowledge that a model has learned.

control   the probe on a control task: targets that are a fixed random token for each token
          type, so that a probe can only learn them by heart
random    the probe on the same model with untrained weights

The labels of a control task are not the text's: it is no floor, but tells how much of an
accuracy the probe family could have memorized.

Source: Hewitt and Liang (2019), "Designing and interpreting probes with control tasks".
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from accelerate import dispatch_model  # type: ignore[import-untyped]
from numpy.typing import NDArray
from transformers import PreTrainedModel

from probekit.data.targets import Targets
from probekit.errors import DataError, ModelError, SettingsError
from probekit.readout import CONTROL
from probekit.shapes import TokenIds

Which = Literal["default", "all", "none"]

# The first offset at which a probe looks further than its model was trained to.
DEFAULT_OFFSET = 2


def control_targets(
    targets: Targets, token_ids: TokenIds, shares: Mapping[int, NDArray[np.float64]], seed: int
) -> Targets:
    """Return targets that depend on the token at the position alone, and on it at random.

    Every token type has one target for each offset, drawn from the shares at that offset. The
    draw knows nothing of positions: train, validation and test have the same task.

    Args:
        targets: The targets that these stand beside; the same positions are valid.
        token_ids: Tokens of the same blocks, shape (block, pos).
        shares: By offset, how often each token is a target in training, shape (vocab,);
            normalized here.
        seed: Seed of the draw, at least 0.

    Returns:
        Targets named `control`.

    Raises:
        DataError: If an offset has no shares, or a token is outside of them.

    >>> ids = torch.tensor([[0, 1, 0, 2, 0]])
    >>> text = Targets("text", {1: ids.roll(-1)}, {1: torch.ones_like(ids, dtype=torch.bool)})
    >>> control_targets(text, ids, {1: np.ones(3)}, seed=0).ids[1]
    tensor([[2, 1, 2, 2, 2]])
    """
    ids = {}
    for offset in targets.ids:
        if offset not in shares:
            raise DataError(f"a control task at offset {offset} needs shares there, got none")
        largest, size = int(token_ids.max()), len(shares[offset])
        if largest >= size:
            raise DataError(f"tokens must be in 0..{size - 1}, as the shares are, got {largest}")
        probs = shares[offset] / shares[offset].sum()
        table = np.random.default_rng((seed, offset)).choice(size, size=size, p=probs)
        ids[offset] = torch.from_numpy(table).to(token_ids.device)[token_ids]
    return Targets(CONTROL, ids, targets.valid)


def random_model(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Return a model of the same class and configuration with untrained weights.

    Weights are drawn on the CPU as the class initializes them, so that a seed means the same
    model on every device. Dtype, devices, attention implementation and tied weights are those
    of `model`, which is left alone; the global state of random numbers is too.

    Args:
        model: Any model, not quantized.
        seed: Seed of the weights, at least 0.

    Returns:
        The model, in eval mode, without gradients.

    Raises:
        ModelError: If the model is quantized: its kind of weights cannot be drawn.
    """
    config = copy.deepcopy(model.config)  # building a model writes to its configuration
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"{type(model).__name__} is quantized, so it has no untrained counterpart. Load it "
            "without quantization, or do without this control"
        )
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed, which would seed the accelerators too.
        torch.default_generator.manual_seed(seed)
        # The attention implementation goes with the configuration.
        made: PreTrainedModel = type(model)._from_config(config, dtype=model.dtype)
    places = getattr(model, "hf_device_map", {})
    if len(set(places.values())) > 1:  # a large model, spread over several devices
        dispatch_model(made, places)
    else:
        made.to(model.device)  # type: ignore[arg-type]  # `self` is wrapped
    made.requires_grad_(False)
    made.train(False)
    return made


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
