"""Score any readouts on the same positions.

The result is a table of sums by document: rates, intervals and paired differences all follow
from them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from probekit.data.targets import Targets
from probekit.readout import Cell, OneForAll, Readout, Seen
from probekit.scoring.losses import Losses, finite, finite_losses, losses_of_each
from probekit.shapes import Logits, Mask, Targets1d

SUMS = ("nats_sum", "top1_sum", "top5_sum", "joint_sum", "joint_nats_sum")
KEY = ("readout", "layer", "offset", "blind")


@torch.no_grad()
def score(
    readouts: Sequence[Readout],
    stream: Iterable[Seen],
    targets: Targets,
    positions: Mapping[str, Mask],
    documents: Tensor,
) -> pd.DataFrame:
    """Return what each readout lost and hit, summed by document and set of positions.

    Args:
        readouts: What to score. Those with several offsets give them in ascending order.
        stream: Tokens and residual streams; holds the layers of all readouts.
        targets: Targets of the same blocks.
        positions: Sets of positions by name, each of shape (block, pos).
        documents: Document number of each position, shape (block, pos).

    Returns:
        One row for each cell, set of positions and document: readout, layer (null where
        none is read), offset, blind, positions, document, n, and sums of

        nats, top-1, top-5;
        joint: top-1 at all of the offsets 2 … this, by this readout from this layer;
        joint nats: of all these targets together, predicted independently of each other.
        Both are NaN where it was not scored at each of these offsets.

    Raises:
        NumericalError: If a readout loses infinitely much or yields NaN.
    """
    scored = targets.at(torch.stack(list(positions.values())).any(dim=0))
    rows: list[tuple[object, ...]] = []
    for seen in stream:
        block, drafts = seen.blocks, _Drafts()
        for cell, losses, mask in _losses(readouts, seen, scored):
            columns = torch.stack([losses.nats, losses.top1, losses.top5], dim=1).double().cpu()
            columns = torch.cat([columns, drafts.joint(cell, columns, mask)], dim=1)
            for name, subset in positions.items():
                inside = subset[block][mask]
                rows += _by_document(cell, name, columns, inside, documents[block][mask])
    names = [*KEY, "positions", "document", "n", *SUMS]
    table = pd.DataFrame(rows, columns=names).astype({"layer": "Int64"})
    keys = [*KEY, "positions", "document"]
    # min_count: what is not known stays NaN, and does not become 0.
    return table.groupby(keys, dropna=False, sort=False, as_index=False).sum(min_count=1)


def _losses(
    readouts: Iterable[Readout], seen: Seen, targets: Targets
) -> Iterator[tuple[Cell, Losses, Mask]]:
    """Yield what readouts lose in one batch, cell by cell, and the positions of these losses."""
    for readout in readouts:
        if isinstance(readout, OneForAll):
            yield from _losses_of_all_offsets(readout, seen, targets)
            continue
        for cell, logits, ids, mask in predictions([readout], seen, targets):
            yield cell, finite_losses(cell, logits, ids), mask


def _losses_of_all_offsets(
    readout: OneForAll, seen: Seen, targets: Targets
) -> Iterator[tuple[Cell, Losses, Mask]]:
    valid = {k: mask[seen.blocks] for k, mask in targets.valid.items()}
    wanted = torch.stack(list(valid.values())).any(dim=0)
    device = seen.token_ids.device
    # At a position without a target at an offset, of any token: those are left out below.
    ids = torch.stack([targets.ids[k][seen.blocks][wanted] for k in valid]).to(device).clamp_min(0)
    for cell, logits in readout.decoded(seen, wanted.to(device)):
        for (offset, mask), losses in zip(valid.items(), losses_of_each(logits, ids), strict=True):
            inside, at = mask[wanted].to(device), replace(cell, offset=offset)
            yield at, finite(at, Losses(*(x[inside] for x in vars(losses).values()))), mask


def predictions(
    readouts: Iterable[Readout], seen: Seen, targets: Targets
) -> Iterator[tuple[Cell, Logits, Targets1d, Mask]]:
    """Yield what readouts predict in one batch, cell by cell.

    Args:
        readouts: What predicts.
        seen: Tokens and residual streams of the batch.
        targets: Targets of all blocks.

    Yields:
        A cell; its logits of shape (n, vocab); the n targets, and the positions that have them,
        shape (batch, pos), both on the device of `targets`.
    """
    valid = {k: mask[seen.blocks] for k, mask in targets.valid.items()}
    on_device = {k: mask.to(seen.token_ids.device) for k, mask in valid.items()}
    for readout in readouts:
        for cell, logits in readout.predict(seen, on_device):
            mask = valid[cell.offset]
            yield cell, logits, targets.ids[cell.offset][seen.blocks][mask], mask


class _Drafts:
    """Hits and losses of one batch at all offsets from 2 on, by readout and layer."""

    def __init__(self) -> None:
        self.so_far: dict[tuple[str, int | None, int], Tensor] = {}

    def joint(self, cell: Cell, columns: Tensor, mask: Mask) -> Tensor:
        """Return the product of the hits and the sum of the losses at offsets 2 … this one.

        Args:
            cell: What was scored.
            columns: Nats, top-1 and top-5 of each position, shape (n, 3).
            mask: The positions, shape (batch, pos).

        Returns:
            Joint hits and joint nats, shape (n, 2).
        """
        nats, top1 = columns[:, 0], columns[:, 1]
        if cell.offset > 2:
            before = self.so_far.get((cell.readout, cell.layer, cell.offset - 1))
            if before is None:
                return torch.full_like(columns[:, :2], float("nan"))
            nats, top1 = nats + before[mask][:, 1], top1 * before[mask][:, 0]
        joint = torch.stack([top1, nats], dim=1)
        whole = torch.zeros(*mask.shape, 2, dtype=joint.dtype)
        whole[mask] = joint
        self.so_far[cell.readout, cell.layer, cell.offset] = whole
        return joint


def _by_document(
    cell: Cell, name: str, columns: Tensor, inside: Tensor, documents: Tensor
) -> Iterator[tuple[object, ...]]:
    owners, index = documents[inside].unique(return_inverse=True)
    sums = torch.zeros(len(owners), len(SUMS), dtype=torch.float64)
    sums.index_add_(0, index, columns[inside])
    counts = index.bincount(minlength=len(owners))
    for document, n, row in zip(owners.tolist(), counts.tolist(), sums.tolist(), strict=True):
        yield (cell.readout, cell.layer, cell.offset, cell.blind, name, document, n, *row)
