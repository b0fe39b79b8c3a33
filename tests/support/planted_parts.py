"""Text that holds one signal, for probes to find, and what a probe makes of it."""

import torch
from torch import Tensor, nn

from probekit.data.targets import Targets
from probekit.probes.probe import Examples, Probes
from probekit.readout import Seen
from support.heads import head_of

VOCABULARY = LENGTH = 12
IDENTITY = head_of(torch.eye(VOCABULARY))


def targets_of(ids: Tensor, horizon: int = 2) -> Targets:
    """Return the targets of blocks that are one document each."""
    valid = {k: torch.zeros_like(ids, dtype=torch.bool) for k in range(1, horizon + 1)}
    for k, mask in valid.items():
        mask[:, :-k] = True
    return Targets("text", {k: ids.roll(-k, dims=1) for k in valid}, valid)


def part(n_blocks: int, seed: int) -> Examples:
    """Return noise that holds one signal: layer 1 holds the token at t + 2, in two batches.

    The last layer holds the next token, weakly, as a model's does.
    """
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCABULARY, (n_blocks, LENGTH), generator=draw)
    resid = {k: torch.randn(n_blocks, LENGTH, VOCABULARY, generator=draw) for k in range(3)}
    hot = nn.functional.one_hot(ids, VOCABULARY).float()
    resid[1] = 0.7 * resid[1] + hot.roll(-2, dims=1)
    resid[2] = 0.5 * resid[2] + hot.roll(-1, dims=1)
    return in_two(ids, resid), targets_of(ids)


def in_two(ids: Tensor, resid: dict[int, Tensor]) -> list[Seen]:
    half = len(ids) // 2
    ends = ((0, half), (half, len(ids)))
    return [Seen(ids[a:b], {k: x[a:b] for k, x in resid.items()}, a) for a, b in ends]


def pairs(of: Examples, layer: int, offset: int) -> tuple[Tensor, Tensor]:
    """Return z and targets of a cell, selected without the code under test."""
    valid = of[1].valid[offset]
    z = torch.cat([seen.resid[layer] for seen in of[0]])
    return z[valid], of[1].ids[offset][valid]


def logits_of(found: Probes, of: Examples, layer: int, offset: int) -> Tensor:
    rows = []
    for seen in of[0]:
        valid = {offset: of[1].valid[offset][seen.blocks]}
        for cell, logits in found.predict(seen, valid):
            if cell.layer == layer:
                rows.append(logits)
    return torch.cat(rows)
