"""The grid of cells that a fit shares passes over: inputs, starting moments, validation.

A cell is a layer and an offset. In a pass over the residual stream the z of a batch is computed
once for all cells that read the same layers, one after another, and each cell gets the rows at
positions that have a target at its offset.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import torch
from torch import Tensor

from probekit.errors import DataError
from probekit.models.anatomy import Anatomy
from probekit.probes.moments import Moments
from probekit.probes.probe import Examples, ProbeKey, final_hidden
from probekit.readout import Seen

Label = TypeVar("Label", bound=Hashable)
# The summed cross-entropy of a probe on z and the targets, in nats.
SummedNats = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class GridCell:
    """One probe of a grid.

    Attributes:
        layer: The layer that it reads; None if it reads all of them.
        offset: How many tokens ahead its targets are.
        read: Layers whose z it reads, side by side, in order.
    """

    layer: int | None
    offset: int
    read: tuple[int, ...]

    def seeds(self, seed: int) -> tuple[int, ...]:
        """Seeds of what is drawn for this cell: it does not depend on which others there are."""
        return (seed, self.offset, *self.read)

    @property
    def key(self) -> ProbeKey:
        """The key of its probe."""
        return self.layer, self.offset

    def starts_at_lens(self, anatomy: Anatomy, finals: Iterable[Seen] | None) -> bool:
        """Whether it reads and predicts what the model's own output layer does."""
        return finals is None and (self.read[-1], self.offset) == (anatomy.n_layers, 1)


def grid_cells(
    layers: Iterable[int], offsets: Iterable[int], together: bool = False
) -> list[GridCell]:
    """Return the cells of every layer, or of all layers together, and every offset, in order."""
    ordered = tuple(sorted(layers))
    groups = {None: ordered} if together else {layer: (layer,) for layer in ordered}
    return [
        GridCell(layer, offset, read)
        for layer, read in groups.items()
        for offset in sorted(offsets)
    ]


def cell_batches(
    part: Examples, anatomy: Anatomy, cells: Iterable[GridCell]
) -> Iterator[tuple[GridCell, Tensor, Tensor]]:
    """Yield, batch by batch, each cell with its z of shape (n, features) and its n targets.

    Args:
        part: A stream that holds the layers of all cells, and its targets.
        anatomy: How the model decodes its residual stream.
        cells: Cells that read the same layers stand together.
    """
    stream, targets = part
    groups = [(read, list(group)) for read, group in groupby(cells, key=lambda cell: cell.read)]
    for seen in stream:
        for read, group in groups:
            z = final_hidden(anatomy, seen, read)
            for cell in group:
                valid = targets.valid[cell.offset][seen.blocks].to(z.device)
                yield cell, z[valid], targets.ids[cell.offset][seen.blocks].to(z.device)[valid]


def sampled(
    part: Examples, anatomy: Anatomy, cells: Iterable[GridCell], n: int, *seeds: int
) -> dict[GridCell, tuple[Tensor, Tensor]]:
    """Return z and targets of each cell at `n` positions of its offset, or at all: a sample.

    Args:
        part: A stream that holds the layers of all cells, and its targets.
        anatomy: How the model decodes its residual stream.
        cells: Cells that read the same layers stand together.
        n: Positions, drawn without replacement; the same ones for every layer.
        *seeds: Seeds of the draw.
    """
    cells, (stream, targets) = list(cells), part
    batches: dict[GridCell, list[tuple[Tensor, Tensor]]] = {cell: [] for cell in cells}
    for cell, z, ids in cell_batches((stream, targets.sampled(n, *seeds)), anatomy, cells):
        batches[cell].append((z, ids))
    return {
        cell: (torch.cat([z for z, _ in parts]), torch.cat([ids for _, ids in parts]))
        for cell, parts in batches.items()
    }


def cell_moments(
    train: Examples, finals: Iterable[Seen] | None, anatomy: Anatomy, cells: Sequence[GridCell]
) -> dict[GridCell, Moments]:
    """Collect z at t against the last layer's z at t + offset - 1, which predicts the same token.

    Args:
        train: A stream that holds the layers of all cells, and its targets.
        finals: A stream of the same blocks that holds the last layer; `train`'s if None.
        anatomy: How the model decodes its residual stream.
        cells: Cells that read the same layers stand together.
    """
    stream, targets = train
    moments = {cell: Moments() for cell in cells}
    pairs = (
        ((seen, seen) for seen in stream) if finals is None else zip(stream, finals, strict=True)
    )
    for seen, seen_last in pairs:
        final = final_hidden(anatomy, seen_last, (anatomy.n_layers,))
        for read, group in groupby(cells, key=lambda cell: cell.read):
            z = final_hidden(anatomy, seen, read)
            for cell in group:
                valid = targets.valid[cell.offset][seen.blocks].to(z.device)
                block, pos = valid.nonzero(as_tuple=True)
                moments[cell].update(z[block, pos], final[block, pos + cell.offset - 1])
    return moments


def mean_nats(
    part: Examples, anatomy: Anatomy, candidates: Mapping[GridCell, Mapping[Label, SummedNats]]
) -> dict[GridCell, dict[Label, float]]:
    """Return the mean cross-entropy of each candidate of each cell, in nats.

    Raises:
        DataError: If there is no position with a target at an offset.
    """
    sums = {cell: dict.fromkeys(labels, 0.0) for cell, labels in candidates.items()}
    counts = dict.fromkeys(candidates, 0)
    for cell, z, ids in cell_batches(part, anatomy, candidates):
        counts[cell] += len(ids)
        for label, summed_nats in candidates[cell].items():
            sums[cell][label] += summed_nats(z, ids)
    for cell, count in counts.items():
        require_validation(count, cell.offset)
    return {
        cell: {label: nats / counts[cell] for label, nats in by_label.items()}
        for cell, by_label in sums.items()
    }


def require_validation(count: int, offset: int) -> None:
    """Raise a DataError if validation has no position with a target at an offset."""
    if not count:
        raise DataError(f"validation has no position with a target at offset {offset}")
