"""Train and score every strategy, and score the models that they are compared with.

All are scored on the same test positions. The model by itself gives the next token; later
tokens are what it says with the tokens between marginalized out, at the drawn positions.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from probekit.errors import ModelError
from probekit.heads import files, native
from probekit.heads.heads import HeadReadout
from probekit.heads.training.recipes import Recipe
from probekit.models.anatomy import find_anatomy
from probekit.pipelines.head_study.probe_starts import fitted_in_sweep, of_read_layer
from probekit.pipelines.head_study.settings import BASELINE
from probekit.pipelines.head_study.study import Study
from probekit.pipelines.head_study.train_strategies import load_trained, train_strategy
from probekit.probes import logit_lens
from probekit.readout import LINEAR, MODEL, Readout
from probekit.runs.ceiling import marginalize_drawn
from probekit.runs.setup import Setup
from probekit.runs.streams import SITE_OF_MODEL
from probekit.scoring.rates import DocumentSums
from probekit.scoring.score import score

# The model as it came; its own heads; the layers that it brings along.
BASE, OWN, NATIVE = "base", "head:own", "head:native"


def strategies(study: Study) -> dict[str, dict[str, Any]]:
    """Train and score every strategy; return notes of each training by name.

    Further seeds train by the rate and for the length that the first one found; their notes are
    in `again`.
    """
    notes = {name: _trained_and_scored(study, name) | {"again": []} for name in _order(study)}
    for again in study.repeated:
        for name in _order(study):
            found = Recipe(**notes[name]["recipe"] | {"rates": ()})
            notes[name]["again"].append(_trained_and_scored(again, name, found))
    return notes


def stage_count(study: Study) -> int:
    """Return how many stages a study has, the one that prepares it included."""
    trained = 2 * len(_order(study)) * study.settings.seeds
    # Linear probes are fitted and scored, of the layer that is read and of those of the sweep.
    probed = 0 if study.settings.kind == "native" else 2 - fitted_in_sweep(study)
    swept = len(study.swept) + 2 if study.sweeps else 0
    brought = (own_heads(study) is not None) + brings_layers(study)
    return trained + probed + swept + brought + len(("prepare", BASE))


def _trained_and_scored(study: Study, name: str, found: Recipe | None = None) -> dict[str, Any]:
    label = name if study.again is None else f"{name}, seed {study.seed}"
    make = partial(train_strategy, study, name, found)
    training: dict[str, Any] = study.stages.json(f"train {label}", make)
    study.stages.json(f"score {label}", partial(_score_strategy, study, name))
    return training | {"seconds": study.stages.journal.seconds.get(f"train {label}")}


def references(study: Study) -> dict[str, dict[str, Any]]:
    """Score the model as it came, and what it brings along; return notes by name."""
    by_name: dict[str, Callable[[], dict[str, Any]]] = {
        BASE: partial(_score_model, study, BASE, study.setup),
        # Scored already, among the strategies.
        BASELINE: dict,
    }
    if study.settings.kind != "native":
        by_name[LINEAR] = partial(_score_probe, study)
    if own_heads(study) is not None:
        by_name[OWN] = partial(_score_own, study)
    if brings_layers(study):
        by_name[NATIVE] = partial(_score_native, study)
    return {name: study.stages.json(f"score {name}", make) for name, make in by_name.items()}


def sums(study: Study) -> DocumentSums:
    """Return the scores of all strategies and references, by document."""
    names = [BASE, *_order(study)]
    if study.settings.kind != "native":
        names.insert(2, LINEAR)
    if own_heads(study) is not None:
        names.append(OWN)
    if brings_layers(study) and study.stages.json(f"score {NATIVE}", dict).get("reason") is None:
        names.append(NATIVE)
    seed, setup = study.settings.seed, study.setup
    tables = [study.table(name).assign(seed=seed) for name in names]
    tables += [
        each.table(n).assign(seed=each.seed) for each in study.repeated for n in _order(study)
    ]
    whole = pd.concat(tables, ignore_index=True).astype({"layer": "Int64"})
    # What a strategy reads is in its recipe; a mixture reads many layers.
    whole["layer"] = pd.array([pd.NA] * len(whole), dtype="Int64")
    whole = whole.assign(split="test")
    return DocumentSums(whole, setup.domains, setup.bytes_per_token, seed, averaged=True)


def own_heads(study: Study) -> Path | None:
    """Return the heads that lie beside the model's weights, if there are any of probekit's."""
    return files.beside(study.setup.loaded.model)


def brings_layers(study: Study) -> bool:
    """Whether the model's configuration speaks of multi-token layers of its own."""
    config = study.setup.loaded.model.config.get_text_config()
    return bool(getattr(config, "num_mtp_layers", None))


def weights(study: Study, folder: Path) -> dict[str, dict[str, str | None]]:
    """Copy the weights of all strategies into the run folder; return the files' names."""
    copied: dict[str, dict[str, str | None]] = {}
    for name in _order(study):
        copied[name] = {}
        for part in ("heads", "adapter"):
            path, file = study.weights(part, name), f"{part}-{name}.safetensors"
            copied[name][part] = file if path.exists() else None
            if path.exists():
                shutil.copyfile(path, folder / file)
    return copied


def scored(study: Study, readouts: Sequence[Readout], setup: Setup) -> pd.DataFrame:
    """Score readouts that run the model themselves, or read its last layer."""
    layers = tuple(sorted(frozenset().union(*(readout.layers for readout in readouts))))
    stream = setup.stream("test", layers, SITE_OF_MODEL)
    documents = setup.blocks["test"].documents
    return score(readouts, stream, study.targets["test"], study.positions, documents)


def _order(study: Study) -> tuple[str, ...]:
    """Return the strategies, the finetuned model first: others are trained on it."""
    if study.settings.kind == "native":
        return (BASELINE,)
    return (BASELINE, *study.settings.trained)


def _score_strategy(study: Study, name: str) -> dict[str, Any]:
    if name == BASELINE:
        return _score_model(study, name, _with_model(study.setup, load_trained(study, name).model))
    table = scored(study, [load_trained(study, name).readout(name)], study.setup)
    study.keep_table(name, table)
    return {}


def _with_model(setup: Setup, model: PreTrainedModel) -> Setup:
    """Return the same text with another model."""
    loaded = replace(setup.loaded, model=model)
    return replace(setup, loaded=loaded, anatomy=find_anatomy(model))


def _score_model(study: Study, name: str, setup: Setup) -> dict[str, Any]:
    """Score a model: the next token by itself, later ones marginalized."""
    readouts: list[Readout] = [logit_lens.Model(setup.anatomy)]
    if name == BASE:
        readouts.append(study.unigram)
    next_token = scored(study, readouts, setup)
    next_token["readout"] = next_token["readout"].replace(MODEL, name)
    targets, drawn = study.targets["test"], study.positions["marginal"]
    ceiling = marginalize_drawn(name, study.settings, setup, targets, drawn)
    study.keep_table(name, pd.concat([next_token, ceiling.table], ignore_index=True))
    return {"marginal": ceiling.rows, "checks": [asdict(check) for check in ceiling.checks]}


def _score_probe(study: Study) -> dict[str, Any]:
    """Score the linear probe of the layer that heads read; return its losses on validation."""
    probes = of_read_layer(study)
    study.keep_table(LINEAR, scored(study, [probes], study.setup))
    nats = {str(offset): probe.validation_nats for (_, offset), probe in probes.probes.items()}
    return {"layer": study.read_layer, "validation": nats}


def _score_own(study: Study) -> dict[str, Any]:
    path = own_heads(study)
    assert path is not None  # `references` has asked
    heads = files.load(path, study.setup.anatomy, None).to(study.setup.loaded.model.dtype)
    readout = HeadReadout(OWN, study.backbone, heads, heads.anatomy)
    study.keep_table(OWN, scored(study, [readout], study.setup))
    return {"offsets": list(heads.offsets), "read": str(heads.config.read)}


def _score_native(study: Study) -> dict[str, Any]:
    loaded = study.setup.loaded
    try:
        readout = native.native(loaded.model, study.setup.anatomy)
    except ModelError as error:
        if study.settings.kind == "native":
            raise
        return {"reason": str(error)}
    study.keep_table(NATIVE, scored(study, [readout], study.setup))
    return {"offsets": list(readout.offsets)}
