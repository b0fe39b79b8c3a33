"""Train heads by a strategy, on a copy of the model of its own.

Weights are written and read again before they are scored, so that a study that was stopped in
between comes to the same numbers.
"""

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from probekit import files
from probekit.activations.backbone import Backbone
from probekit.errors import ModelError, SettingsError
from probekit.heads import files as head_files
from probekit.heads.heads import HeadReadout, Heads, build
from probekit.heads.native import native
from probekit.heads.queries import QueryHeads, QueryReadout
from probekit.heads.training import lora
from probekit.heads.training.recipes import Recipe
from probekit.heads.training.search import search
from probekit.heads.training.train import History, train
from probekit.models.anatomy import find_anatomy
from probekit.pipelines.head_study.probe_starts import Starts, of_read_layer, starts
from probekit.pipelines.head_study.settings import BASELINE
from probekit.pipelines.head_study.study import SWEPT_OFFSET, Study
from probekit.readout import Readout


@dataclass(frozen=True)
class TrainedHeads:
    """Heads and the copy of the model that they belong to.

    Attributes:
        backbone: The copy.
        heads: The heads; None for the model itself.
    """

    backbone: Backbone
    heads: Heads | QueryHeads | None

    @property
    def model(self) -> PreTrainedModel:
        """The copy of the model."""
        return self.backbone.model

    def readout(self, name: str) -> Readout:
        """Return the heads as a readout.

        Raises:
            ModelError: If there are none.
        """
        if isinstance(self.heads, QueryHeads):
            return QueryReadout(self.heads, name)
        if self.heads is None:
            raise ModelError("a model without heads has no readout of heads")
        return HeadReadout(name, self.backbone, self.heads, self.backbone.anatomy)

    @property
    def n_parameters(self) -> int:
        """Values that were fitted or trained, adapters included."""
        own = 0 if self.heads is None else self.heads.n_values
        return own + sum(p.numel() for p in lora.parameters(self.model).values())


def require_possible(study: Study) -> None:
    """Check, before anything is trained, that every strategy and the sweep suit this model.

    Raises:
        ProbekitError: If one does not; the message names the strategy.
    """
    settings, setup = study.settings, study.setup
    last = setup.anatomy.n_layers
    if settings.read is not None and settings.read > last:
        raise SettingsError(f"--read must be in 0..{last} for this model, got {settings.read}")
    if settings.kind == "native":
        native(setup.loaded.model, setup.anatomy)  # raises where there are none
    for name in settings.strategies:
        try:
            _require_possible(study, study.recipe(name))
        except (ModelError, SettingsError) as error:
            message = f"{name}: {error}"
            raise type(error)(message) from error
    if study.sweeps:
        _at_layer(study, study.swept[-1], SWEPT_OFFSET, {})


def _require_possible(study: Study, recipe: Recipe) -> None:
    anatomy, reads = study.setup.anatomy, {study.setup.anatomy.n_layers}
    if recipe.name != BASELINE:
        heads = _build(study, study.backbone, replace(recipe, probed=False))
        reads = set(heads.reads) if isinstance(heads, Heads) else reads
    if recipe.joint and max(reads) == 0:
        raise SettingsError(
            "heads read layer 0, and there is no block below it to train with them. Take --read 1 "
            "or more, or strategies that leave the model frozen, such as heads-only"
        )
    if recipe.joint:
        lora.targets(study.setup.loaded.model, anatomy, range(1, max(reads) + 1))


def train_strategy(study: Study, strategy: str, found: Recipe | None = None) -> dict[str, Any]:
    """Train heads by a strategy and write their weights; return notes of the training.

    Args:
        study: The study.
        strategy: Name of the strategy.
        found: The recipe that a search with the first seed led to; None to search.
    """
    recipe, trained = found or study.recipe(strategy), new_heads(study, strategy)
    recipe = replace(recipe, seed=study.seed)
    history, recipe = _trained(study, trained, recipe)
    if trained.heads is not None:
        _save(study, trained.heads, study.weights("heads", strategy))
    if recipe.joint:
        notes = {"model_fingerprint": study.setup.fingerprint}
        lora.save(trained.model, study.weights("adapter", strategy), notes)
    return training_notes(history, trained.n_parameters, recipe)


def _trained(study: Study, trained: TrainedHeads, recipe: Recipe) -> tuple[History, Recipe]:
    checkpoint = study.stages.path(f"{recipe.name}-{recipe.seed}.pt")
    given = trained.heads, trained.backbone, study.data, recipe, checkpoint
    if recipe.rates:
        return search(*given, study.stages.journal.say)
    return train(*given, study.stages.journal.say), recipe


def training_notes(history: History, n_parameters: int, recipe: Recipe) -> dict[str, Any]:
    """Return notes of a training that JSON can hold.

    `validation` has the cross-entropy in nats of the weights that were kept, by offset.
    """
    return {
        "curve": [asdict(row) for row in history.rows],
        "validation": {str(offset): nats for offset, nats in history.kept().items()},
        "best_steps": {str(offset): step for offset, step in history.best_steps.items()},
        "stopped_early": history.stopped_early,
        "n_parameters": n_parameters,
        "recipe": asdict(recipe),
    }


def new_heads(study: Study, strategy: str) -> TrainedHeads:
    """Return new heads on a copy of the model, or of the finetuned model if the recipe asks."""
    recipe = study.recipe(strategy)
    backbone = _backbone(study, recipe)
    return TrainedHeads(backbone, None if strategy == BASELINE else _build(study, backbone, recipe))


def load_trained(study: Study, strategy: str) -> TrainedHeads:
    """Return the heads, and the model, that a finished stage trained."""
    recipe = study.recipe(strategy)
    backbone = _backbone(study, recipe)
    # Before adapters: a copy of the last block must not carry any.
    heads = None if strategy == BASELINE else _read(study, backbone, strategy)
    if recipe.joint:
        lora.load(backbone.model, backbone.anatomy, study.weights("adapter", strategy))
    return TrainedHeads(backbone, heads)


def _backbone(study: Study, recipe: Recipe) -> Backbone:
    model = finetuned(study) if recipe.finetuned else copy.deepcopy(study.setup.loaded.model)
    return Backbone(model, find_anatomy(model))


def _read(study: Study, backbone: Backbone, strategy: str) -> Heads | QueryHeads:
    path = study.weights("heads", strategy)
    if study.settings.kind == "query":
        return head_files.load_queries(
            path, backbone.model, backbone.anatomy, study.setup.fingerprint
        )
    return head_files.load(path, backbone.anatomy, study.setup.fingerprint)


def finetuned(study: Study) -> PreTrainedModel:
    """Return a copy of the model with what `finetune` trained merged into it."""
    model = copy.deepcopy(study.setup.loaded.model)
    lora.load(model, find_anatomy(model), study.weights("adapter", BASELINE))
    return lora.merged(model)


def train_at(
    study: Study, layer: int, offset: int, probes: Starts
) -> tuple[Heads, History, Recipe]:
    """Train a block head for one offset on one layer of the frozen model.

    Args:
        study: The study.
        layer: The layer to read.
        offset: The offset.
        probes: The linear probe of the layer by offset, which the head starts as; none where
            it starts as `study.settings.init` says.
    """
    recipe = replace(study.recipe("heads-only"), name=f"layer {layer}")
    heads = _at_layer(study, layer, offset, probes)
    checkpoint = study.stages.path(f"layer-{layer}.pt")
    say = study.stages.journal.say
    history = train(heads, study.backbone, study.data.only(offset), recipe, checkpoint, say)
    return heads, history, recipe


def _at_layer(study: Study, layer: int, offset: int, probes: Starts) -> Heads:
    return build(
        "block",
        study.setup.anatomy,
        [offset],
        read=layer,
        init=study.settings.init,
        probes=probes,
        seed=study.seed,
    ).float()


def _build(study: Study, backbone: Backbone, recipe: Recipe) -> Heads | QueryHeads:
    settings = study.settings
    if settings.kind == "query":
        return _queries(study, backbone)
    heads = build(
        settings.kind,
        backbone.anatomy,
        range(1, settings.offsets + 1),
        read="mix" if recipe.mix else settings.read,
        init=settings.init if settings.kind == "block" else None,
        normalise=recipe.normalise,
        own_unembedding=settings.own_unembedding,
        probes=starts(of_read_layer(study), study.read_layer) if recipe.probed else None,
        seed=study.seed,
    )
    return heads.float() if backbone.model.dtype != torch.float64 else heads


def _queries(study: Study, backbone: Backbone) -> QueryHeads:
    settings = study.settings
    return QueryHeads(backbone.model, backbone.anatomy, settings.offsets, study.seed)


def _save(study: Study, heads: Heads | QueryHeads, path: Path) -> None:
    fingerprint = study.setup.fingerprint
    if isinstance(heads, Heads):
        files.write_checked(path, lambda temporary: head_files.save(heads, temporary, fingerprint))
        return
    files.write_checked(
        path, lambda temporary: head_files.save_queries(heads, temporary, fingerprint)
    )
