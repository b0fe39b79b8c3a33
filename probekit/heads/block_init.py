"""New blocks of a model's own class: copies of its last one, random, or the identity."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.activations.backbone import probe_ids, read
from probekit.errors import ModelError
from probekit.models.anatomy import Anatomy
from probekit.models.rounding import within_rounding
from probekit.settings import LARGEST_SEED

Init = Literal["random", "copy", "zero"]


def start_block(anatomy: Anatomy, init: str, seed: int) -> nn.Module:
    """Return a block of the class of the model's last one, which shares no weight with it.

    Args:
        anatomy: The model's.
        init: `copy` as the last block is; `random` by the model's own rule for new weights;
            `zero` as the last block, but for what attention and MLP write to the residual
            stream: nothing, so that the block is the identity.
        seed: Seed of `random`.

    Raises:
        ModelError: If the model has no rule for new weights, or its blocks cannot be the
            identity.
    """
    block = copy.deepcopy(anatomy.blocks[-1])
    if init == "random":
        _randomize(block, anatomy, seed)
    elif init == "zero":
        _make_identity(block, anatomy)
    return block


def _randomize(block: nn.Module, anatomy: Anatomy, seed: int) -> None:
    decoder = anatomy.decoder
    if not isinstance(decoder, PreTrainedModel):
        raise ModelError(
            f"{type(decoder).__name__} has no rule for new weights; start heads as `copy` or `zero`"
        )
    where = next(block.parameters()).device
    for tensor in [*block.parameters(), *block.buffers()]:
        # transformers marks what came from a checkpoint, and would leave it as it is.
        vars(tensor).pop("_is_hf_initialized", None)
    # On the CPU, so that one seed gives the same numbers on every device.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed % (LARGEST_SEED + 1))
        block.cpu().apply(decoder._init_weights)
    block.to(where)


def _make_identity(block: nn.Module, anatomy: Anatomy) -> None:
    """Set to zero the last projection of each part of a block; verify that nothing is left."""
    before = anatomy.n_layers - 1
    with torch.no_grad():
        reading = read(anatomy, probe_ids(anatomy), {before})
        resid = reading.resid[before]
        fired: list[nn.Module] = []

        def note(module: nn.Module, *_: Any) -> None:
            fired.append(module)

        handles = [m.register_forward_hook(note) for m in block.modules() if _projects(m)]
        reading.call.run(block, resid)
        for handle in handles:
            handle.remove()
        for part in _parts(block):
            # The one that ran last writes to the residual stream.
            inside = [module for module in fired if module in part]
            for parameter in inside[-1].parameters() if inside else ():
                parameter.zero_()
        after = reading.call.run(block, resid)
    if not within_rounding(after, resid):
        raise ModelError(
            f"a block of class {type(block).__name__} cannot start as the identity: it changes "
            "the residual stream though all that attention and MLP add is zero. Start heads as "
            "`random` or `copy`"
        )


def _projects(module: nn.Module) -> bool:
    """Say whether a module is a matrix product; Conv1D of GPT-2 is one, and no nn.Linear."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and not isinstance(module, nn.Embedding)


def _parts(block: nn.Module) -> list[set[nn.Module]]:
    """Return the projections of a block by part; those right in the block are one part."""
    children = list(block.children())
    parts = [set(filter(_projects, child.modules())) for child in children if not _projects(child)]
    return [*parts, set(filter(_projects, children))]
