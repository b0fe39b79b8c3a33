"""What it costs a model that a part of its residual stream is taken out at one position.

Of each drawn position t, in turn: the part that the probe of (layer, k) reads beyond that of
(layer, 1), random parts of as many directions, random parts that hold as much of the variance, and
the part of another offset. Scored are the tokens of the text: that at t+1, predicted at t itself,
and those at t+2 … t+k when their turns come, the tokens between being as they were.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from probekit.causal.rerun import Rerun
from probekit.causal.subspaces import Directions, Layer, Part, smallest
from probekit.data.targets import Targets
from probekit.models.anatomy import Anatomy
from probekit.probes.probe import Examples, Probes
from probekit.readout import Seen
from probekit.scoring.losses import losses, product_length
from probekit.scoring.score import SUMS
from probekit.shapes import Mask

# Names of what was taken out, as readouts of a table of scores.
WHOLE, READ, OTHER = "whole", "read", "other"
# Random parts of as many directions, and those that hold as much of the variance besides.
RANDOM, ALIKE = "random", "alike"
# The set of positions where parts are taken out.
POSITIONS = "causal"
# Random parts of either kind.
DRAWS = 8
# What is taken out in turn: nothing, what is read, what is read of another offset, random parts.
PARTS = 3 + 2 * DRAWS
# The rank is the smallest whose removal costs the probe this share of the most that any does.
ENOUGH = 0.9
# So many directions may always be taken out; of more, an eighth.
FEW = 16
# Validation positions by which the rank is chosen.
HELD_OUT = 1_000


@dataclass(frozen=True)
class Chosen:
    """The part that is read of one offset and not of the next token.

    Attributes:
        layer: The layer.
        offset: The offset, 2 or more.
        parts: What is taken out by name: `READ`, `OTHER` where there is another offset, and draws
            of `RANDOM` and `ALIKE`.
        rank: Number of its directions.
        variance: Share of the variance of r that lies in them.
        probe_nats: What its removal costs the probe itself, on validation.
    """

    layer: int
    offset: int
    parts: Mapping[str, Part]
    rank: int
    variance: float
    probe_nats: float


def choose(
    layer: Layer,
    next_token: Directions,
    offset: int,
    probes: Probes,
    validation: Examples,
    seed: int,
) -> Chosen:
    """Choose the part of one offset, its rank by validation, and what it is compared with.

    Args:
        layer: What is known of the layer on training text.
        next_token: The directions that its probe of the next token reads.
        offset: The offset, 2 or more.
        probes: Linear probes of the layer, at this offset and maybe others.
        validation: A stream that holds the layer, and targets.
        seed: Seed of the random parts and of the validation positions.
    """
    at = layer.number
    directions = layer.read_beyond(probes.probes[at, offset], next_token)
    resid, ids = _held_out(validation, at, offset, seed)
    alone = Probes({(0, 1): probes.probes[at, offset]}, probes.anatomy, 0)
    before = _mean_nats(alone, resid, ids)
    costs = [
        (rank, _mean_nats(alone, layer.part(directions[:, :rank]).removed(resid), ids) - before)
        for rank in _ranks(directions.shape[1])
    ]
    rank = smallest(costs, ENOUGH)
    read = directions[:, :rank]
    variance, draw = layer.variance(read), torch.Generator().manual_seed(seed)
    found = {READ: read}
    others = [k for of, k in probes.probes if of == at and k not in (1, offset)]
    if others:
        # The next one, whose tokens are most alike; of the last offset the one before.
        other = min((k for k in others if k > offset), default=max(others))
        found[OTHER] = layer.read_beyond(probes.probes[at, other], next_token)[:, :rank]
    for number in range(DRAWS):
        found[f"{RANDOM}-{number}"] = layer.random(rank, next_token, draw, None)
        found[f"{ALIKE}-{number}"] = layer.random(rank, next_token, draw, variance)
    parts = {name: layer.part(each) for name, each in found.items()}
    return Chosen(at, offset, parts, rank, variance, dict(costs)[rank])


@torch.no_grad()
def effects(
    chosen: Chosen, rerun: Rerun, stream: Iterable[Seen], targets: Targets, where: Mask,
    documents: Tensor,
) -> pd.DataFrame:  # fmt: skip
    """Return what each removal makes the model lose, summed by document.

    Args:
        chosen: What is taken out.
        rerun: Runs the model from the layer on.
        stream: Holds the layer and the last one.
        targets: The tokens of the text at offsets 1 … this one.
        where: Positions to change, one at a time, shape (block, pos).
        documents: Document number of each position, shape (block, pos).

    Returns:
        Rows as `probekit.scoring.score.score` gives them, the readout being what was taken out,
        `whole` for nothing, and the offset that of the token that was scored; and of what was
        taken out the columns `read_offset`, `rank`, `variance_share` and `probe_nats`.
    """
    where = where & targets.valid[chosen.offset]
    # At t + step - 1 stands the prediction of the token at t + step.
    steps = range(1, chosen.offset + 1)
    found, numbers = [], []
    for seen in stream:
        for row, token_ids in enumerate(seen.token_ids):
            block = seen.first_block + row
            positions = where[block].nonzero()[:, 0]
            if len(positions):
                ids = torch.stack([targets.ids[k][block, positions] for k in steps], dim=1)
                hidden = _removed(
                    chosen, rerun, token_ids, seen.resid[chosen.layer][row], positions
                )
                found.append(_losses(rerun.anatomy, hidden, ids))
                numbers.append(documents[block, positions])
    names, of_all = (WHOLE, *chosen.parts), torch.cat(found, dim=1)
    tables = [
        _table(name, step, of_all[part, :, step - 1], torch.cat(numbers))
        for part, name in enumerate(names)
        for step in steps
    ]
    return pd.concat(tables, ignore_index=True).assign(
        layer=chosen.layer,
        read_offset=chosen.offset,
        rank=chosen.rank,
        variance_share=chosen.variance,
        probe_nats=chosen.probe_nats,
    )


def _removed(
    chosen: Chosen, rerun: Rerun, token_ids: Tensor, resid: Tensor, positions: Tensor
) -> Float[Tensor, "part n step hidden"]:
    """Return what enters the unembedding at t … t+k-1: nothing taken out, then each part."""
    at = positions.to(resid.device)
    own = resid[at]
    changed = [own, *(part.removed(own) for part in chosen.parts.values())]
    repeated = at.repeat(len(changed))
    hidden = rerun.hidden(token_ids, resid, repeated, torch.cat(changed), chosen.offset)
    by_part: Tensor = hidden.unflatten(0, (len(changed), -1))
    return by_part


def _losses(
    anatomy: Anatomy, hidden: Float[Tensor, "part n step hidden"], ids: Tensor
) -> Float[Tensor, "part n step 3"]:
    """Return nats, top-1 and top-5 of each prediction."""
    rows, each = hidden.flatten(0, 2), ids.to(hidden.device).expand(hidden.shape[:3]).flatten()
    length = product_length(anatomy.vocab_size, hidden.device)
    parts = []
    for some, wanted in zip(rows.split(length), each.split(length), strict=True):
        found = losses(anatomy.logits(some).float(), wanted)
        parts.append(torch.stack([found.nats, found.top1, found.top5], dim=1).double().cpu())
    by_part: Tensor = torch.cat(parts).unflatten(0, hidden.shape[:3])
    return by_part


def _table(name: str, offset: int, found: Tensor, documents: Tensor) -> pd.DataFrame:
    columns = dict(zip(SUMS, found.T.numpy(), strict=False))  # joint ones are of no use here
    table = pd.DataFrame(columns | dict.fromkeys(SUMS[3:], 0.0)).assign(n=1)
    sums = table.groupby(documents.numpy()).sum().rename_axis("document").reset_index()
    return sums.assign(readout=name, offset=offset, blind=False, positions=POSITIONS)


def _ranks(most: int) -> Sequence[int]:
    """Return ranks to try: powers of two, up to all directions or an eighth of many."""
    largest = min(most, max(FEW, most // 8))
    powers = [2**power for power in range(largest.bit_length())]
    return [*(power for power in powers if power < largest), largest]


def _held_out(validation: Examples, layer: int, offset: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return residual streams and targets of some validation positions."""
    stream, targets = validation
    drawn = targets.only([offset]).sampled(HELD_OUT, seed)
    parts = []
    for seen in stream:
        mask = drawn.valid[offset][seen.blocks]
        resid = seen.resid[layer][mask.to(seen.token_ids.device)]
        parts.append((resid, drawn.ids[offset][seen.blocks][mask]))
    return torch.cat([resid for resid, _ in parts]), torch.cat([ids for _, ids in parts])


def _mean_nats(alone: Probes, resid: Tensor, ids: Tensor) -> float:
    """Return the mean cross-entropy of a single probe on residual streams of its layer."""
    seen = Seen(ids[None], {0: resid[None]})
    ((_, logits),) = alone.predict(seen, {1: torch.ones_like(ids, dtype=torch.bool)[None]})
    return float(losses(logits, ids.to(logits.device)).nats.double().mean())
