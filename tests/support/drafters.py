"""Drafters of random models, each with the readout that it drafts by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from probekit.activations.backbone import Backbone
from probekit.activations.hooks import resid_post
from probekit.drafting.chain import Step
from probekit.drafting.drafters import (
    Drafter,
    HeadDrafter,
    LinearDrafter,
    QueryDrafter,
    ReadoutDrafter,
)
from probekit.heads.heads import HeadReadout, build
from probekit.heads.queries import QueryHeads, QueryReadout, mean_queries
from probekit.marginalization.branch_routes import objection
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.probes.logit_lens import LogitLens
from probekit.probes.probe import Probe, Probes
from probekit.readout import Readout, Seen

OFFSETS = (2, 3, 4)
END = 0  # of the models of `architectures`


@dataclass(frozen=True)
class Pair:
    """A drafter, and the readout whose words it must propose at every position."""

    name: str
    drafter: Drafter
    readout: Readout


def pairs(model: PreTrainedModel) -> Iterator[Pair]:
    """Yield drafters of every kind that a model allows; what they learned is drawn at random."""
    anatomy = find_anatomy(model)
    lens = LogitLens((2,), anatomy)
    yield Pair("lens", ReadoutDrafter(lens, OFFSETS), lens)
    read = {2: 3, 3: 1, 4: 2}
    probes = random_probes(anatomy, read)
    yield Pair("linear", LinearDrafter.of(probes, read), probes)
    for kind, layer in (("block", 2), ("block", 1), ("medusa", 2), ("linear", 0)):
        heads = build(kind, anatomy, (1, *OFFSETS), read=layer)
        heads.requires_grad_(False)
        shake(list(heads.parameters()))
        readout = HeadReadout("head", Backbone(model, anatomy), heads, anatomy)
        yield Pair(f"{kind} at {layer}", HeadDrafter(heads), readout)
    if objection(model, "packed") is None:
        queries = QueryHeads(model, anatomy, max(OFFSETS))
        yield Pair("queries", QueryDrafter.of(queries), QueryReadout(queries))
        mean = mean_queries(model, anatomy, max(OFFSETS))
        yield Pair("mean embeddings", QueryDrafter.of(mean), QueryReadout(mean))


def random_probes(anatomy: Anatomy, read: Mapping[int, int]) -> Probes:
    """Return probes near the logit lens, of one layer each offset."""
    draw = torch.Generator().manual_seed(0)
    width, vocab = anatomy.d_hidden, anatomy.vocab_size

    def probe() -> Probe:
        tensors = {
            "A": torch.eye(width) + 0.1 * torch.randn(width, width, generator=draw),
            "b": 0.1 * torch.randn(width, generator=draw),
            "c": 0.1 * torch.randn(vocab, generator=draw),
        }
        return Probe(tensors, "minimum", 1.0, 0.0, True, 1.0)

    return Probes({(layer, offset): probe() for offset, layer in read.items()}, anatomy, 1)


def shake(parameters: Sequence[Tensor]) -> None:
    """Add noise in place, so that heads do not all say what the model does."""
    draw = torch.Generator().manual_seed(0)
    for parameter in parameters:
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))


@torch.no_grad()
def said(readout: Readout, anatomy: Anatomy, text: Tensor) -> dict[int, Tensor]:
    """Return what a readout says at every position of a text, by offset; the end is left out."""
    resid = resid_post(anatomy, sorted(readout.layers), text) if readout.layers else {}
    everywhere = torch.ones_like(text, dtype=torch.bool)
    cells = readout.predict(Seen(text, resid), dict.fromkeys(OFFSETS, everywhere))
    found = {cell.offset: logits.clone() for cell, logits in cells}
    for logits in found.values():
        logits[:, END] = float("-inf")
    return found


def proposals(steps: Sequence[Step]) -> Iterator[tuple[int, int, list[int]]]:
    """Yield position t, offset and candidates of everything that was drafted."""
    for step in steps:
        for offset, candidates in enumerate(step.drafted, start=2):
            yield step.position - 1, offset, list(candidates)
