"""Score readouts position by position: losses, hits, confidence, and losses at temperatures."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probekit.data.targets import Targets
from probekit.readout import Readout, Seen
from probekit.scoring.losses import chunk_length, finite_losses
from probekit.scoring.score import predictions
from probekit.shapes import Logits, Mask, Targets1d

# Temperatures at which losses are taken: from half to twice, in equal ratios.
TEMPERATURES = tuple(float(t) for t in 2 ** np.linspace(-1, 1, 17))
TEMPERED = tuple(f"nats_at_{temperature:.3f}" for temperature in TEMPERATURES)


@torch.no_grad()
def score_positions(
    readouts: Sequence[Readout],
    stream: Iterable[Seen],
    targets: Targets,
    where: Mask,
    documents: Tensor,
) -> pd.DataFrame:
    """Return what each readout lost and hit at each position.

    Args:
        readouts: What to score.
        stream: Tokens and residual streams; holds the layers of all readouts.
        targets: Targets of the same blocks.
        where: The positions, shape (block, pos).
        documents: Document number of each position, shape (block, pos).

    Returns:
        Rows of readout, layer (null where none is read), offset, block, position, document; nats,
        top1, top5; confidence, the largest probability; and `TEMPERED`: nats of softmax(logits / T)
        for each of `TEMPERATURES`.

    Raises:
        NumericalError: If a readout loses infinitely much or yields NaN.
    """
    tables, scored = [], targets.at(where)
    for seen in stream:
        for cell, logits, ids, mask in predictions(readouts, seen, scored):
            losses = finite_losses(cell, logits, ids)
            block, position = mask.nonzero(as_tuple=True)
            columns = {
                "block": block + seen.first_block,
                "position": position,
                "document": documents[seen.blocks][mask],
                "nats": losses.nats.double(),
                "top1": losses.top1.double(),
                "top5": losses.top5.double(),
            }
            columns |= dict(zip(("confidence", *TEMPERED), _tempered(logits, ids).T, strict=True))
            table = pd.DataFrame({name: x.cpu().numpy() for name, x in columns.items()})
            place = {"readout": cell.readout, "layer": cell.layer, "offset": cell.offset}
            tables.append(table.assign(**place))
    return pd.concat(tables, ignore_index=True).astype({"layer": "Int64"})


def _tempered(logits: Logits, targets: Targets1d) -> Tensor:
    """Return confidence, then nats at each temperature, shape (n, 1 + temperatures)."""
    rows = []
    length = chunk_length(logits.shape[1], logits.device)
    targets = targets.to(logits.device)
    for chunk, ids in zip(logits.split(length), targets.split(length), strict=True):
        chunk = chunk.float()  # noqa: PLW2901
        of_target = chunk.gather(1, ids[:, None])[:, 0]
        columns = [(chunk.max(1).values - chunk.logsumexp(1)).exp()]
        columns += [(chunk / t).logsumexp(1) - of_target / t for t in TEMPERATURES]
        rows.append(torch.stack(columns, dim=1).double())
    return torch.cat(rows)
