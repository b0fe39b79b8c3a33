"""What drafts in a run: probes, floors, heads, queries and look-ups, each as a drafter.

Of probes and the lens, the layer with the lowest cross-entropy on validation is taken, offset by
offset.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from probekit.activations.backbone import Backbone
from probekit.data.targets import text_targets
from probekit.drafting.drafters import (
    Drafter,
    HeadDrafter,
    LinearDrafter,
    QueryDrafter,
    ReadoutDrafter,
)
from probekit.heads import files as head_files
from probekit.heads.heads import HeadReadout, Heads
from probekit.heads.queries import QueryHeads, QueryReadout, mean_queries
from probekit.heads.training.recipes import RECIPES
from probekit.marginalization.branch_routes import objection
from probekit.pipelines.drafting.settings import DraftSettings
from probekit.pipelines.head_study import study_heads
from probekit.probes import ngram
from probekit.probes.logit_lens import LogitLens
from probekit.probes.probe import Probe, ProbeKey, Probes
from probekit.readout import LENS, LINEAR, SKIP_BIGRAM, Readout
from probekit.runs.setup import Setup

OWN = "head:own"
LOOKUP, MEAN = "prompt-lookup", "mean-embedding"


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way of drafting.

    Attributes:
        name: What drafts.
        offsets: Offsets that it drafts: 2 and on.
        drafter: The drafter; None for prompt lookup.
        readout: The readout that it drafts by, to be scored; None where there is none.
        layers: The layers that are read, of probes that of each offset; empty where none is.
        ahead: 1 if the readout is told the newest token, else 0.
        n_parameters: Learned values.
    """

    name: str
    offsets: tuple[int, ...]
    drafter: Drafter | None = None
    readout: Readout | None = None
    layers: tuple[int, ...] = ()
    ahead: int = 0
    n_parameters: int = 0


def candidates(
    settings: DraftSettings, setup: Setup, probes: Probes | None, lens_layer: int | None
) -> Iterator[Candidate]:
    """Yield what drafts; probes also one token alone.

    Args:
        settings: What is asked for.
        setup: Model and text.
        probes: Linear probes; None if they do not draft.
        lens_layer: The layer of which the lens drafts; None if it does not.
    """
    offsets, anatomy = tuple(range(2, settings.offsets + 1)), setup.anatomy
    if probes is not None:
        yield from (_linear(probes, some) for some in dict.fromkeys((offsets, offsets[:1])))
    if lens_layer is not None:
        lens = LogitLens((lens_layer,), anatomy)
        yield Candidate(LENS, offsets, ReadoutDrafter(lens, offsets), lens, (lens_layer,))
    if SKIP_BIGRAM in settings.drafters:
        yield _skip_bigram(setup, offsets)
    if MEAN in settings.drafters and objection(setup.loaded.model, "packed") is None:
        yield _queries(MEAN, mean_queries(setup.loaded.model, anatomy, settings.offsets))
    if "heads" in settings.drafters:
        yield from _heads(settings, setup)
    if LOOKUP in settings.drafters:
        yield Candidate(LOOKUP, offsets)


def _linear(probes: Probes, offsets: tuple[int, ...]) -> Candidate:
    read: dict[int, int] = {}
    for offset in offsets:
        nats = {at: p.validation_nats for (at, of), p in probes.probes.items() if of == offset}
        read[offset] = min((at for at in nats if at is not None), key=nats.__getitem__)
    chosen: dict[ProbeKey, Probe] = {
        (layer, k): probes.probes[layer, k] for k, layer in read.items()
    }
    n_parameters = sum(probe.n_parameters for probe in chosen.values())
    return Candidate(
        LINEAR,
        offsets,
        LinearDrafter.of(probes, read),
        replace(probes, probes=chosen),
        tuple(read.values()),
        n_parameters=n_parameters,
    )


def _skip_bigram(setup: Setup, offsets: tuple[int, ...]) -> Candidate:
    """Return a floor: counts of what follows the newest token, which no probe of t is told."""
    parts = [
        (setup.blocks[part].token_ids, text_targets(setup.blocks[part], len(offsets)))
        for part in ("train", "validation")
    ]
    _, counted = ngram.fit(parts[0], parts[1], setup.anatomy.vocab_size)
    drafter = ReadoutDrafter(counted, offsets, ahead=1)
    n_parameters = sum(int(counts.nnz) for counts in counted.counts.values())
    return Candidate(SKIP_BIGRAM, offsets, drafter, counted, ahead=1, n_parameters=n_parameters)


def _queries(name: str, queries: QueryHeads) -> Candidate:
    drafter = QueryDrafter.of(queries)
    layers = (queries.anatomy.n_layers,)
    n = 0 if name == MEAN else queries.n_values
    return Candidate(
        name, drafter.offsets, drafter, QueryReadout(queries, name), layers, n_parameters=n
    )


def _heads(settings: DraftSettings, setup: Setup) -> Iterator[Candidate]:
    """Yield heads that come with the model, and those that a study trained on it as it is."""
    model, anatomy = setup.loaded.model, setup.anatomy
    own = head_files.beside(model)
    if own is not None:
        yield _trained(OWN, head_files.load(own, anatomy, None).to(model.dtype), settings, setup)
    if settings.heads is None:
        return
    study = study_heads.load(settings.heads)
    for name, files in study.document["weights"].items():
        if files["heads"] is None or RECIPES[name].joint or RECIPES[name].finetuned:
            continue
        path = study.folder / files["heads"]
        if head_files.holds_heads(path):
            heads = head_files.load(path, anatomy, setup.fingerprint)
            yield _trained(f"head:{name}", heads, settings, setup)
        else:
            queries = head_files.load_queries(path, model, anatomy, setup.fingerprint)
            yield _queries(f"head:{name}", queries)


def _trained(name: str, heads: Heads, settings: DraftSettings, setup: Setup) -> Candidate:
    heads = heads.to(setup.loaded.model.device)
    drafter = HeadDrafter(heads, settings.offsets)
    backbone = Backbone(setup.loaded.model, setup.anatomy)
    readout = HeadReadout(name, backbone, heads, setup.anatomy)
    layers = tuple(sorted(heads.reads))
    return Candidate(name, drafter.offsets, drafter, readout, layers, n_parameters=heads.n_values)
