"""Train heads on a model, alone or together with it, or the model itself.

AdamW; the rate falls from its highest to 0 by a cosine; gradients of heads and of the model are
clipped, each, to a norm of 1. Weights are kept where the cosine ends, or those of the start where
validation likes them better, by the sum over offsets of its cross-entropies.

Source: Mehra, Alonso Garcia, Mauch (2025), section 3 and appendix A.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from probekit.activations.backbone import Backbone
from probekit.errors import DataError, SettingsError
from probekit.heads.training import lora
from probekit.heads.training.balanced_loss import Objective, TokenBatch
from probekit.heads.training.history import History, Row
from probekit.heads.training.loop import Data, TrainingLoop
from probekit.heads.training.recipes import Recipe
from probekit.heads.training.trainable import NextToken, ReadsBackbone, Trainable
from probekit.progress import Say
from probekit.provenance import digest

__all__ = ["Data", "History", "Row", "TokenBatch", "Trainable", "train"]

# Of a parameter, to tell one model from another.
SAMPLE = 256


def train(
    heads: Trainable | None,
    backbone: Backbone,
    data: Data,
    recipe: Recipe,
    checkpoint: Path,
    say: Say,
) -> History:
    """Train heads by a recipe, or the model itself; the best weights are left in place.

    Args:
        heads: Heads or queries, with parameters in float32 or float64; None for the model
            itself, by the cross-entropy of its next token.
        backbone: The model, without adapters, in eval mode. Where the recipe is joint LoRA
            stays on it, on the blocks that the heads read; `lora.detach` and
            `lora.merged` say what becomes of it. All else of it stays as it is.
            Where the training fails LoRA comes off, and heads are what they were at first.
        data: Text to train and to validate on; holds the offsets of the heads.
        recipe: How to train.
        checkpoint: File that is written at each evaluation; the same call, with heads that
            start as they did, goes on from it.
        say: Called with a line at each evaluation.

    Returns:
        The learning curve and what was chosen.

    Raises:
        SettingsError: If there is nothing to train, or a head is in too narrow a dtype.
        DataError: If an offset has no position with a target in a part.
        ModelError: If LoRA cannot be put on the model.
        NumericalError: If a cross-entropy is not finite.
        RunError: If the checkpoint cannot be written, or is of another training.
    """
    trainable = NextToken(backbone.anatomy) if heads is None else heads
    _require_trainable(trainable, recipe)
    _require_targets(trainable, data)
    before: tuple[Row, ...] = ()
    with _kept(trainable), _frozen(backbone.model):
        if recipe.warmup_epochs and heads is not None:
            first = checkpoint.with_name(f"{checkpoint.stem}-warm-up{checkpoint.suffix}")
            rows = train(heads, backbone, data, recipe.warmup(), first, say).rows
            before = tuple(dataclasses.replace(row, stage="warm-up") for row in rows)
        key = _fingerprint(trainable, backbone, data, recipe)
        with _adapted(trainable, backbone, recipe) as added:
            objective = Objective(trainable, backbone, recipe.balance, recipe.products)
            loop = TrainingLoop(objective, data, recipe, added, before)
            loop.restore(checkpoint, key)
            for _ in loop.run():
                loop.save(checkpoint, key)
                say(loop.progress_line)
            return loop.finish()


@contextmanager
def _kept(heads: Trainable) -> Iterator[None]:
    """Put heads back to their first values if the training fails: the same call can go on."""
    first = [(p, p.detach().cpu().clone()) for _, p in heads.named_parameters()]
    with ExitStack() as undo:
        for parameter, values in first:
            undo.callback(parameter.data.copy_, values)
        yield
        undo.pop_all()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Let no parameter of a model take a gradient; afterwards, those that did before."""
    trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, before in trainable:
            parameter.requires_grad_(before)


@contextmanager
def _adapted(
    heads: Trainable, backbone: Backbone, recipe: Recipe
) -> Iterator[Mapping[str, nn.Parameter]]:
    """Put LoRA on what is read, if the recipe is joint; take it off if the training fails."""
    if not recipe.joint:
        yield {}
        return
    assert isinstance(heads, ReadsBackbone)  # `_require_trainable` has asked
    model, layers = backbone.model, range(1, max(heads.reads) + 1)
    with ExitStack() as undo:
        undo.callback(lora.detach, model)
        yield lora.attach(
            model,
            backbone.anatomy,
            layers,
            rank=recipe.rank,
            alpha=recipe.alpha,
            seed=recipe.seed,
        )
        undo.pop_all()


def _require_trainable(heads: Trainable, recipe: Recipe) -> None:
    values = [parameter for _, parameter in heads.named_parameters()]
    if not values and not recipe.joint:
        raise SettingsError(f"recipe {recipe.name} trains heads alone, and there are none")
    if recipe.joint and not isinstance(heads, ReadsBackbone):
        raise SettingsError(
            f"recipe {recipe.name} trains the model too, which queries ask as it is; take "
            "heads-only for them"
        )
    narrow = {str(p.dtype) for p in values} - {"torch.float32", "torch.float64"}
    if narrow:
        raise SettingsError(
            f"heads are trained in float32 or float64, these are in {', '.join(narrow)}: the "
            "steps would be lost in rounding. Call heads.float()"
        )


def _require_targets(heads: Trainable, data: Data) -> None:
    for name, part in (("train", data.train), ("validate", data.validation)):
        for offset in heads.offsets:
            if offset not in part.targets.valid or not bool(part.targets.valid[offset].any()):
                raise DataError(f"the text to {name} on has no target at offset {offset}")


def _fingerprint(heads: Trainable, backbone: Backbone, data: Data, recipe: Recipe) -> str:
    """Return a digest of all that a training depends on, the heads' first values included."""
    reads = sorted(heads.reads) if isinstance(heads, ReadsBackbone) else None
    whole = hashlib.sha256(digest([dataclasses.asdict(recipe), reads]).encode())
    for name, tensor in [*heads.named_parameters(), *heads.named_buffers()]:
        whole.update(f"{name} {tuple(tensor.shape)}".encode() + _bytes(tensor))
    for tensor in backbone.model.state_dict().values():
        whole.update(_bytes(tensor.flatten()[:SAMPLE]))
    for part in (data.train, data.validation):
        whole.update(_bytes(part.token_ids))
        for offset in heads.offsets:
            whole.update(_bytes(part.targets.ids[offset]) + _bytes(part.targets.valid[offset]))
    return whole.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().contiguous().cpu().reshape(-1)
    return plain.view(torch.uint8).numpy().tobytes()
