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

# Temperatures at which losses are taken: from half to twice, in equal ratios; from the place
# `HALF` on they are 1 and more, each with its half among the others.
TEMPERATURES = tuple(float(t) for t in 2 ** np.linspace(-1, 1, 17))
HALF = 8
TEMPERED = tuple(f"nats_at_{temperature:.3f}" for temperature in TEMPERATURES)


@torch.no_grad()
def score_positions(
    readouts: Sequence[Readout],
    stream: Iterable[Seen],
    targets: Targets,
    where: Mask,
    documents: Tensor,
    tempered: bool = True,
) -> pd.DataFrame:
    """Return what each readout lost and hit at each position.

    Args:
        readouts: What to score.
        stream: Tokens and residual streams; holds the layers of all readouts.
        targets: Targets of the same blocks.
        where: The positions, shape (block, pos).
        documents: Document number of each position, shape (block, pos).
        tempered: Whether to say how sure they are: the last columns below.

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
            if tempered:
                sure = _tempered(logits, ids).T
                columns |= dict(zip(("confidence", *TEMPERED), sure, strict=True))
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
        # Below the largest logit, so that the confidence is one over the sum.
        below = chunk - chunk.max(1, keepdim=True).values
        of_target, powers = below.gather(1, ids[:, None])[:, 0], torch.empty_like(below)
        sums = below.new_empty(len(TEMPERATURES), len(below))
        for place, warm in enumerate(TEMPERATURES[HALF:]):
            torch.mul(below, 1 / warm, out=powers).exp_()
            sums[place + HALF] = powers.sum(1)
            # At half the temperature each exponential is squared.
            sums[place] = torch.linalg.vecdot(powers, powers)
        columns = [1 / sums[HALF]]
        columns += [
            total.log() - of_target / t for total, t in zip(sums, TEMPERATURES, strict=True)
        ]
        rows.append(torch.stack(columns, dim=1).double())
    return torch.cat(rows)
