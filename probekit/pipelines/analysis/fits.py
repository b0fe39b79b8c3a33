"""What is fitted: families of probes and controls, each to its inputs and targets."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import pandas as pd
import torch

from probekit.data.documents import Split
from probekit.data.targets import Targets
from probekit.models.anatomy import find_anatomy
from probekit.probes import codelength, controls, linear, nonconvex, sklearn_reference
from probekit.probes.probe import Examples, Probes
from probekit.readout import CONTROL, RANDOM, Readout, Seen
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
    def file(self) -> str:
        """Name of the file of its probes."""
        return f"{self.label}.safetensors"


def planned(settings: Settings, layers: tuple[int, ...]) -> Iterator[Fit]:
    """Yield what is to be fitted, the linear probes first.

    Args:
        settings: Families, controls and horizon.
        layers: Layers to read.
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
    for draw in range(max(settings.seeds, controls.DRAWS)) if above else ():
        seed = (settings.seed + draw) % (LARGEST_SEED + 1)
        where = above if draw == 0 or settings.controls == "all" else above[-1:]
        yield Fit(RANDOM, "linear", seed, where, few_offsets)


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


def online_codelength(inputs: Inputs, seed: int) -> pd.DataFrame:
    """Return the online codelength of linear probes, fitted to more and more training text.

    Args:
        inputs: What they read and predict.
        seed: Seed of the order in which blocks are sent.
    """
    validation, stream = inputs.part("validation"), inputs.streams.read("train")
    setup = inputs.streams.setup

    def fitted(targets: Targets) -> Readout:
        short = codelength.Within(stream, targets)
        return linear.fit(
            (short, targets), validation, setup.anatomy, inputs.streams.layers, seed=seed
        )

    # Blocks are sorted by domain: a code is short where what was sent is like what comes.
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(setup.blocks["train"].token_ids), generator=draw)
    targets, n_tokens = inputs.targets["train"], setup.anatomy.vocab_size
    return codelength.online(fitted, stream, targets, n_tokens, order)
