"""Train heads on a model, alone or together with it, or the model itself.

AdamW; the rate falls from its highest to 0 by a cosine; gradients of heads and of the model are
clipped, each, to a norm of 1. The weights that are kept are those that validation likes best, by
the sum over offsets of its cross-entropies.

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
from probekit.heads.training.balanced_loss import Batches, Objective
from probekit.heads.training.learner import Learner, NextToken, ReadsBackbone
from probekit.heads.training.loop import Course, Data, History, Row
from probekit.heads.training.recipes import Recipe
from probekit.progress import Say
from probekit.provenance import digest

__all__ = ["Batches", "Data", "History", "Learner", "Row", "train"]

# Of a parameter, to tell one model from another.
SAMPLE = 256


def train(
    learner: Learner | None,
    backbone: Backbone,
    data: Data,
    recipe: Recipe,
    checkpoint: Path,
    say: Say,
) -> History:
    """Train heads by a recipe, or the model itself; the best weights are left in place.

    Args:
        learner: Heads or queries, with parameters in float32 or float64; None for the model
            itself, by the cross-entropy of its next token.
        backbone: The model, without adapters, in eval mode. Where the recipe is joint LoRA
            stays on it, on the blocks that the heads read; `lora.off`, `lora.detach`
            and `lora.merged` say what becomes of it. All else of it stays as it is.
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
    pupil = NextToken(backbone.anatomy) if learner is None else learner
    _require_trainable(pupil, recipe)
    _require_targets(pupil, data)
    before: tuple[Row, ...] = ()
    with _kept(pupil), _frozen(backbone.model):
        if recipe.warmup_epochs and learner is not None:
            first = checkpoint.with_name(f"{checkpoint.stem}-warm-up{checkpoint.suffix}")
            rows = train(learner, backbone, data, recipe.warmup(), first, say).rows
            before = tuple(dataclasses.replace(row, stage="warm-up") for row in rows)
        key = _fingerprint(pupil, backbone, data, recipe)
        with _adapted(pupil, backbone, recipe) as added:
            objective = Objective(pupil, backbone, recipe.balance, recipe.products)
            course = Course(objective, data, recipe)
            course.begin(added, before)
            course.restore(checkpoint, key)
            for _ in course.run():
                course.save(checkpoint, key)
                say(course.line)
            return course.finish()


@contextmanager
def _kept(learner: Learner) -> Iterator[None]:
    """Put heads back to their first values if the training fails: the same call can go on."""
    first = [(p, p.detach().cpu().clone()) for _, p in learner.named_parameters()]
    with ExitStack() as undo:
        for parameter, values in first:
            undo.callback(parameter.data.copy_, values)
        yield
        undo.pop_all()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Ask for no gradient of a model; afterwards, for what was asked before."""
    asked = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, before in asked:
            parameter.requires_grad_(before)


@contextmanager
def _adapted(
    learner: Learner, backbone: Backbone, recipe: Recipe
) -> Iterator[Mapping[str, nn.Parameter]]:
    """Put LoRA on what is read, if the recipe is joint; take it off if the training fails."""
    if not recipe.joint:
        yield {}
        return
    assert isinstance(learner, ReadsBackbone)  # `_require_trainable` has asked
    model, layers = backbone.model, range(1, max(learner.reads) + 1)
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


def _require_trainable(learner: Learner, recipe: Recipe) -> None:
    values = [parameter for _, parameter in learner.named_parameters()]
    if not values and not recipe.joint:
        raise SettingsError(f"recipe {recipe.name} trains heads alone, and there are none")
    if recipe.joint and not isinstance(learner, ReadsBackbone):
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


def _require_targets(learner: Learner, data: Data) -> None:
    for name, part in (("train", data.train), ("validate", data.validation)):
        for offset in learner.offsets:
            if offset not in part.targets.valid or not bool(part.targets.valid[offset].any()):
                raise DataError(f"the text to {name} on has no target at offset {offset}")


def _fingerprint(learner: Learner, backbone: Backbone, data: Data, recipe: Recipe) -> str:
    """Return a digest of all that a training depends on, the heads' first values included."""
    reads = sorted(learner.reads) if isinstance(learner, ReadsBackbone) else None
    whole = hashlib.sha256(digest([dataclasses.asdict(recipe), reads]).encode())
    for name, tensor in [*learner.named_parameters(), *learner.named_buffers()]:
        whole.update(f"{name} {tuple(tensor.shape)}".encode() + _bytes(tensor))
    for tensor in backbone.model.state_dict().values():
        whole.update(_bytes(tensor.flatten()[:SAMPLE]))
    for part in (data.train, data.validation):
        whole.update(_bytes(part.token_ids))
        for offset in learner.offsets:
            whole.update(_bytes(part.targets.ids[offset]) + _bytes(part.targets.valid[offset]))
    return whole.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().contiguous().cpu().reshape(-1)
    return plain.view(torch.uint8).numpy().tobytes()
