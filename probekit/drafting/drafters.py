"""Drafters: readouts that propose the tokens behind the newest one.

ReadoutDrafter  any blind readout of layers and the token at t, at the offsets 2 … K; or one of
                the token alone, told the newest: its offset k-1 is then the offset k here
LinearDrafter   linear probes, each of its own layer, through one product with the unembedding
HeadDrafter     trained heads; blocks with a cache of their own
QueryDrafter    embeddings behind each token that ask the model itself for later ones
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Cache

from probekit.activations.backbone import BackboneOutput, BlockCall
from probekit.drafting.reading import Reading
from probekit.errors import DataError
from probekit.heads.heads import Heads
from probekit.heads.queries import QueryHeads
from probekit.models.anatomy import Anatomy
from probekit.probes.probe import Probe, Probes
from probekit.readout import Readout, Seen
from probekit.shapes import Hidden

# Logits of the offsets 2 … K, ascending.
Drafts = Float[Tensor, "offsets vocab"]


@runtime_checkable
class Drafter(Protocol):
    """Anything that proposes tokens behind the newest one from what a pass showed."""

    @property
    def offsets(self) -> tuple[int, ...]:
        """The offsets that are drafted, 2 and on, without a gap."""
        ...

    @property
    def layers(self) -> frozenset[int]:
        """Layers of the pass that it reads."""
        ...

    @property
    def queries(self) -> Float[Tensor, "asked model"] | None:
        """Embeddings to run behind each token, in the model's dtype; None for most drafters."""
        ...

    def logits(self, reading: Reading) -> Drafts:
        """Return logits of the tokens at its offsets, in float32, shape (offsets, vocab)."""
        ...


def require_offsets(offsets: tuple[int, ...]) -> None:
    """Raise unless offsets are 2 and on, without a gap: what drafts can be verified by."""
    if not offsets or offsets != tuple(range(2, len(offsets) + 2)):
        raise DataError(
            f"a drafter must have the offsets 2, 3, … without a gap, got {list(offsets)}"
        )


@dataclass(frozen=True, eq=False)
class ReadoutDrafter:
    """A blind readout as a drafter; it sees the token at t and its residual stream.

    Attributes:
        readout: The readout, which yields one cell an offset.
        offsets: Offsets to draft.
        ahead: 0, or 1 to tell the readout the newest token in place of that at t.
        queries: None.
    """

    readout: Readout
    offsets: tuple[int, ...]
    ahead: int = 0
    queries: None = None

    @property
    def layers(self) -> frozenset[int]:
        """Layers that the readout reads."""
        return self.readout.layers

    def logits(self, reading: Reading) -> Drafts:
        """Return what the readout says at each offset."""
        at = len(reading.token_ids) - 2 + self.ahead
        seen = Seen(
            reading.token_ids[None, at : at + 1], {k: reading.at(k) for k in self.readout.layers}
        )
        here = torch.ones_like(seen.token_ids, dtype=torch.bool)
        said = self.readout.predict(seen, {k - self.ahead: here for k in self.offsets})
        by_offset = {cell.offset + self.ahead: logits for cell, logits in said}
        return torch.cat([by_offset[k] for k in self.offsets]).float()


@dataclass(frozen=True, eq=False)
class LinearDrafter:
    """Linear probes as a drafter, one an offset.

    Attributes:
        anatomy: How the model decodes its residual stream.
        read: The layer that is read, by offset.
        probes: Probes of the family `linear`, by offset.
        queries: None.
    """

    anatomy: Anatomy
    read: Mapping[int, int]
    probes: Mapping[int, Probe]
    queries: None = None

    @classmethod
    def of(cls, probes: Probes, read: Mapping[int, int]) -> "LinearDrafter":
        """Return a drafter of fitted probes.

        Args:
            probes: Probes of the family `linear`.
            read: The layer to read, by offset.

        Raises:
            DataError: If the offsets are not 2, 3, … without a gap.
        """
        require_offsets(tuple(sorted(read)))
        return cls(probes.anatomy, read, {k: probes.probes[read[k], k] for k in sorted(read)})

    @property
    def offsets(self) -> tuple[int, ...]:
        """The offsets of the probes."""
        return tuple(self.probes)

    @property
    def layers(self) -> frozenset[int]:
        """The layers of the probes."""
        return frozenset(self.read.values())

    @cached_property
    def _bias(self) -> Drafts:
        return torch.stack([probe.tensors["c"].float() for probe in self.probes.values()])

    def logits(self, reading: Reading) -> Drafts:
        """Return U (A z + b) + c of each offset, through one pass over U."""
        rows: list[Hidden] = []
        for offset, probe in self.probes.items():
            z = self.anatomy.hidden(reading.at(self.read[offset]))[0].float()
            rows.append(torch.addmm(probe.tensors["b"], z, probe.tensors["A"].T))
        unembedding = self.anatomy.unembedding
        hidden = (torch.cat(rows) * self.anatomy.scale).to(unembedding.dtype)
        return (hidden @ unembedding.T).float() + self._bias


@dataclass(frozen=True, eq=False)
class HeadDrafter:
    """Trained heads as a drafter.

    A block attends to what it computed of earlier positions: each head has a cache of its own,
    which is kept in step with the model's.

    Attributes:
        heads: Heads with the offsets 2, 3, … without a gap; that of the next token is not used.
        horizon: Largest offset to draft; None for that of the heads.
        queries: None.
    """

    heads: Heads
    horizon: int | None = None
    queries: None = None
    _caches: dict[int, Cache] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_offsets(self.offsets)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The offsets of the heads from 2 on."""
        most = self.horizon or self.heads.offsets[-1]
        return tuple(offset for offset in self.heads.offsets if 1 < offset <= most)

    @property
    def layers(self) -> frozenset[int]:
        """Layers that the heads read."""
        return self.heads.reads

    def logits(self, reading: Reading) -> Drafts:
        """Return what each head says."""
        attends = self.heads.config.kind == "block"
        row = reading.row if attends else 0
        resid = reading.resid if attends else {k: reading.at(k) for k in self.layers}
        rows = []
        for offset in self.offsets:
            call = self._call(reading, offset) if attends else reading.call
            hidden = self.heads.hidden(BackboneOutput(resid, call), offset)
            rows.append(self.heads.logits(hidden[0, row : row + 1], offset))
            if attends:
                reading.caching.keep(self._caches[offset], reading.rows, reading.kept)
        return torch.cat(rows).float()

    def _call(self, reading: Reading, offset: int) -> BlockCall:
        if reading.first:
            self._caches[offset] = reading.caching.fresh()
        return reading.call_with(self._caches[offset])


@dataclass(frozen=True, eq=False)
class QueryDrafter:
    """Queries as a drafter: embeddings behind each token of a pass, read at the last layer.

    Attributes:
        anatomy: How the model decodes its residual stream.
        queries: m_1 … m_{K-1}, of which m_{k-1} asks for the token at offset k.
    """

    anatomy: Anatomy
    queries: Float[Tensor, "asked model"]

    @classmethod
    def of(cls, heads: QueryHeads) -> "QueryDrafter":
        """Return a drafter of learned queries."""
        return cls(heads.anatomy, heads.embeddings.detach().to(heads.model.dtype))

    @property
    def offsets(self) -> tuple[int, ...]:
        """2 and on, one a query."""
        return tuple(range(2, len(self.queries) + 2))

    @property
    def layers(self) -> frozenset[int]:
        """The last layer."""
        return frozenset({self.anatomy.n_layers})

    def logits(self, reading: Reading) -> Drafts:
        """Return what the model says at each query."""
        resid = reading.resid[self.anatomy.n_layers][0, reading.asked]
        return self.anatomy.logits(self.anatomy.hidden(resid)).float()
