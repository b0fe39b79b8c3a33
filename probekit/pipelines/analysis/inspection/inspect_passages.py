"""What a run's readouts say, token by token, on a few passages of the test text."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from probekit.data.blocks import Blocks
from probekit.data.targets import Targets
from probekit.pipelines.analysis.fits import Fit
from probekit.pipelines.analysis.inspection import passages
from probekit.probes import logit_lens
from probekit.probes.probe import Probes
from probekit.readout import Readout
from probekit.runs import ceiling
from probekit.runs.setup import Setup, branches_are_slow
from probekit.runs.streams import SITE_OF_MODEL, Streams
from probekit.settings import Settings


def inspect(
    setup: Setup, settings: Settings, targets: Targets, fitted: Mapping[Fit, Probes]
) -> dict[str, Any]:
    """Return the content of passages.json.

    Only the blocks that hold a passage are run.

    Args:
        setup: Model and text.
        settings: What was asked.
        targets: Targets of the test blocks.
        fitted: The probes of every fit.
    """
    blocks = setup.blocks["test"]
    most = most_tokens(setup, settings)
    chosen = passages.choose(blocks, setup.domains, settings.offsets, settings.seed, most)
    rows = sorted({passage.block for passage in chosen})
    few = Blocks(blocks.token_ids[rows], blocks.documents[rows])
    ids = {k: own[rows] for k, own in targets.ids.items()}
    valid = {k: own[rows] for k, own in targets.valid.items()}
    recorded = passages.record(
        [replace(passage, block=rows.index(passage.block)) for passage in chosen],
        _runs(setup, few, settings, fitted),
        few,
        Targets(targets.name, ids, valid),
        setup.loaded.tokenizer,
    )
    setup.branches().forget()
    for row in recorded["passages"]:
        row["name"] = setup.documents[row["document"]].name
    return recorded


def most_tokens(setup: Setup, settings: Settings) -> int:
    """Return how many tokens are shown: half where all would take longer than the ceiling."""
    slow = ceiling.wanted(settings) and branches_are_slow(setup.loaded)
    return passages.MOST_TOKENS // (2 if slow else 1)


def _runs(
    setup: Setup, few: Blocks, settings: Settings, fitted: Mapping[Fit, Probes]
) -> Iterator[passages.ReadoutsOnStream]:
    """Yield the readouts with the stream of a few blocks that they read."""
    layers = passages.chosen_layers(setup.layers)
    readouts: list[Readout] = [logit_lens.LogitLens(layers, setup.anatomy)]
    readouts += _probes(settings, fitted, layers)
    if ceiling.wanted(settings):
        readouts.append(ceiling.marginalization(setup, settings, "marginal"))
    model = logit_lens.Model(setup.anatomy)
    read = frozenset[int]().union(*(readout.layers for readout in readouts))
    of_few = replace(setup, blocks={"test": few})
    streams = Streams(of_few, tuple(sorted(read)), settings.sites[0])
    if settings.sites[0] == SITE_OF_MODEL:
        yield [model, *readouts], streams.read("test")
    else:
        yield [model], streams.finals("test")
        yield readouts, streams.read("test")


def _probes(
    settings: Settings, fitted: Mapping[Fit, Probes], layers: list[int]
) -> Iterator[Probes]:
    """Yield the linear probes, those of one more family, and those that read all layers."""
    own = {
        fit.family: probes
        for fit, probes in fitted.items()
        if fit.name == fit.family and fit.seed == settings.seed
    }
    others = [family for family in own if family not in ("linear", "concat")]
    for family in ("linear", *others[:1], "concat"):
        if family in own:
            cells = own[family].probes
            kept = {cell: cells[cell] for cell in cells if cell[0] is None or cell[0] in layers}
            yield replace(own[family], probes=kept)
