"""What is fitted: families of probes and controls, each to its inputs and targets."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
import torch

from probekit import files
from probekit.data.documents import Split
from probekit.data.targets import Targets
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.models.quantization import method
from probekit.probes import codelength, controls, linear, nonconvex, sklearn_reference
from probekit.probes.files import read_probes, write_probes
from probekit.probes.probe import Examples, Probe, ProbeKey, Probes
from probekit.readout import CONCAT, CONTROL, RANDOM, Readout, Seen
from probekit.runs.ranks import Ranks
from probekit.runs.setup import Setup
from probekit.runs.stages import Stages
from probekit.runs.streams import SITE_OF_MODEL, Streams
from probekit.settings import LARGEST_SEED, Family, Settings

# Families that are not convex: what they find depends on a seed.
TRAINED: tuple[Family, ...] = ("mlp", "linear-lowrank")
# How far a control may end above its minimum: less than two draws of one differ by.
CONTROL_NATS = 0.01


@dataclass(frozen=True)
class Fit:
    """One fit.

    Attributes:
        name: Name of the readout.
        family: Family of its probes.
        seed: Seed of what is random in it.
        layers: Layers to read.
        offsets: Offsets to predict.
    """

    name: str
    family: Family
    seed: int
    layers: tuple[int, ...]
    offsets: tuple[int, ...]

    @property
    def label(self) -> str:
        """Name for progress."""
        return f"{self.name}-{self.seed}"

    @property
    def parts(self) -> tuple[int | None, ...]:
        """What can be fitted without the rest: layers, or one probe that reads all (None)."""
        return (None,) if self.family == CONCAT else self.layers

    def only(self, parts: Sequence[int | None]) -> "Fit":
        """Return the fit of some of its parts."""
        layers = tuple(part for part in parts if part is not None)
        return replace(self, layers=layers) if layers else self

    def share(self, ranks: Ranks, layers: Sequence[int]) -> "Fit | None":
        """Return what of it is this rank's, if anything is: its own layers of all that are read.

        What captures a stream of its own goes round in turn, so that not one rank has it all.
        """
        if self.name == RANDOM or self.family == CONCAT:
            parts = ranks.share(self.parts, self.seed)
        else:
            parts = [layer for layer in ranks.share(layers) if layer in self.layers]
        return self.only(parts) if parts else None

    def file(self, part: int | None) -> str:
        """Name of the file of the probes of one part."""
        return f"{self.label}-layer-{'all' if part is None else part}.safetensors"


def planned(settings: Settings, layers: tuple[int, ...], untrained: bool = True) -> Iterator[Fit]:
    """Yield what is to be fitted, the linear probes first.

    Args:
        settings: Families, controls and horizon.
        layers: Layers to read.
        untrained: Whether there is room for the models with untrained blocks.
    """
    offsets = tuple(range(1, settings.offsets + 1))
    seeds = range(settings.seed, settings.seed + settings.seeds)
    families: tuple[Family, ...] = ("linear", *settings.probe)
    for family in dict.fromkeys(families):
        for seed in seeds if family in TRAINED else seeds[:1]:
            yield Fit(family, family, seed, layers, offsets)
    few_layers, few_offsets = controls.cells(settings.controls, layers, settings.offsets)
    # At layer 0 the control reads as much as the probe, and no block comes before.
    above = tuple(layer for layer in few_layers if layer > 0)
    for seed in seeds if above else ():
        yield Fit(CONTROL, "linear", seed, above, few_offsets)
    for draw in range(max(settings.seeds, controls.DRAWS)) if above and untrained else ():
        seed = (settings.seed + draw) % (LARGEST_SEED + 1)
        where = above if draw == 0 or settings.controls == "all" else above[-1:]
        yield Fit(RANDOM, "linear", seed, where, few_offsets)


def left_out(settings: Settings, setup: Setup, done: Sequence[Fit]) -> Iterator[dict[str, str]]:
    """Yield a warning of the control that was left out, for its room or for quantized weights.

    Args:
        settings: What was asked.
        setup: The model.
        done: What was fitted.
    """
    if {fit.name for fit in planned(settings, setup.layers)} > {fit.name for fit in done}:
        loaded = setup.loaded
        size = sum(parameter.nbytes for parameter in loaded.model.parameters()) / 2**30
        why = (
            f"a second model of {size:,.1f} GiB did not fit into the free memory beside this one. "
            "More memory, or the model in a narrower --dtype, brings it."
        )
        if quantized := method(loaded.model.config):
            why = (
                f"weights of the kind {quantized} cannot be drawn. The checkpoint that is not "
                "quantized brings it."
            )
        message = f"The control on models with untrained blocks was left out: {why}"
        yield {"code": "untrained-left-out", "message": message}


def unconverged(
    fitted: Iterable[tuple[str, Mapping[ProbeKey, Probe]]],
) -> Iterator[dict[str, str]]:
    """Yield a warning for each readout some of whose probes are not at their minimum."""
    for name, probes in fitted:
        left = [key for key, probe in probes.items() if not probe.converged]
        if left:
            cells = ", ".join(
                f"{'all layers' if layer is None else f'layer {layer}'} at t+{offset}"
                for layer, offset in left[:3]
            )
            yield {
                "code": "not-converged",
                "message": (
                    f"{len(left)} of {len(probes)} probes ({name}) are not known to be "
                    f"near their minimum ({cells}{', ...' if left[3:] else ''}): they may read "
                    "more than is said here. Logits that are far too sure of themselves, or "
                    "activations of very different sizes, do that; so does too little text."
                ),
            }


@dataclass(frozen=True)
class Inputs:
    """What one fit reads and predicts.

    Attributes:
        streams: Residual streams.
        targets: Targets by split.
    """

    streams: Streams
    targets: Mapping[Split, Targets]

    @property
    def finals(self) -> Iterable[Seen] | None:
        """The last layer on the training part, where `train` does not hold it."""
        return None if self.streams.site == SITE_OF_MODEL else self.streams.finals("train")

    def holding(self, layers: Sequence[int]) -> "Inputs":
        """Return what is read and predicted, these layers among it."""
        return replace(self, streams=self.streams.holding(layers))

    def part(self, split: Split) -> Examples:
        """Return stream and targets of a split."""
        return self.streams.read(split), self.targets[split]


def inputs_of(fit: Fit, inputs: Inputs) -> Inputs:
    """Return what a fit reads and predicts.

    Args:
        fit: What is fitted.
        inputs: The model's own streams and targets.
    """
    of_fit = replace(inputs, targets={s: t.only(fit.offsets) for s, t in inputs.targets.items()})
    if fit.name != RANDOM:
        of_fit = of_fit.holding(fit.layers)
    setup = inputs.streams.setup
    if fit.name == CONTROL:
        permuted = {
            split: controls.permuted_targets(targets, setup.blocks[split].token_ids, fit.seed)
            for split, targets in of_fit.targets.items()
        }
        return replace(of_fit, targets=permuted)
    if fit.name == RANDOM:
        untrained = controls.random_model(setup.loaded.model, setup.anatomy, fit.seed)
        loaded = replace(setup.loaded, model=untrained)
        setup = replace(setup, loaded=loaded, anatomy=find_anatomy(untrained))
        layers = tuple(sorted({*fit.layers, setup.anatomy.n_layers}))
        return replace(of_fit, streams=Streams(setup, layers, inputs.streams.site))
    return of_fit


def fit_or_recall(fit: Fit, inputs: Inputs, setup: Setup, stages: Stages) -> Probes:
    """Return the probes of a fit: what an earlier process finished from files, the rest fitted.

    Args:
        fit: The fit, or those of its parts that are this rank's.
        inputs: What it reads and predicts.
        setup: The model of the run, and the text.
        stages: Where the probes of each part are kept.
    """
    missing = [part for part in fit.parts if not stages.path(fit.file(part)).exists()]
    if missing:
        with stages.journal.stage(fit.label):
            probes = fit_probes(fit.only(missing), inputs)
            stages.journal.note(fit.label, "fitted", passes=probes.n_passes)
            about = notes(fit, setup, inputs.streams.site)
            for part in missing:
                of_part = {key: probe for key, probe in probes.probes.items() if key[0] == part}
                save = partial(write_probes, replace(probes, probes=of_part), metadata=about)
                files.write_checked(stages.path(fit.file(part)), save)
    else:
        stages.journal.recall(fit.label)
    # The probes of the untrained model are read against its own anatomy.
    return recall(fit, inputs.streams.setup.anatomy, setup, stages)


def recall(fit: Fit, anatomy: Anatomy, setup: Setup, stages: Stages) -> Probes:
    """Return the probes of a fit from the files of its parts."""
    paths = [stages.path(fit.file(part)) for part in fit.parts]
    parts = [read_probes(path, anatomy, setup.fingerprint) for path in paths]
    probes = {key: probe for part in parts for key, probe in part.probes.items()}
    return replace(parts[0], probes=probes, n_passes=max(part.n_passes for part in parts))


def notes(fit: Fit, setup: Setup, site: str) -> dict[str, str]:
    """Return what is noted beside the probes of a fit."""
    return {
        "model_fingerprint": setup.fingerprint,
        "site": site,
        "seed": str(fit.seed),
        "norm": "z is what enters the unembedding: the model's final norm is applied first",
    }


def fit_probes(fit: Fit, inputs: Inputs) -> Probes:
    """Fit the probes of one fit."""
    train, validation = inputs.part("train"), inputs.part("validation")
    anatomy = inputs.streams.setup.anatomy
    if fit.family == "sklearn":
        return sklearn_reference.fit(train, validation, anatomy, fit.layers)
    if fit.family in TRAINED:
        return nonconvex.fit(
            train, validation, anatomy, fit.layers, fit.family, seed=fit.seed, finals=inputs.finals
        )
    probes = linear.fit(
        train, validation, anatomy, fit.layers, family=fit.family, finals=inputs.finals,
        tolerance_nats=CONTROL_NATS if fit.name in (CONTROL, RANDOM) else linear.TOLERANCE_NATS,
        seed=fit.seed,
    )  # fmt: skip
    return replace(probes, name=fit.name)


def online_codelength(inputs: Inputs, layers: Sequence[int], seed: int) -> pd.DataFrame:
    """Return the online codelength of linear probes, fitted to more and more training text.

    Args:
        inputs: What they read and predict.
        layers: Layers to read.
        seed: Seed of the order in which blocks are sent.
    """
    validation, stream = inputs.part("validation"), inputs.streams.read("train")
    setup = inputs.streams.setup

    def fitted(targets: Targets) -> Readout:
        short = codelength.Within(stream, targets)
        return linear.fit((short, targets), validation, setup.anatomy, layers, seed=seed)

    # Blocks are sorted by domain: a code is short where what was sent is like what comes.
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(setup.blocks["train"].token_ids), generator=draw)
    targets, n_tokens = inputs.targets["train"], setup.anatomy.vocab_size
    return codelength.online(fitted, stream, targets, n_tokens, order)
