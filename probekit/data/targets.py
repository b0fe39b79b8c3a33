"""Targets: the token that a readout at an offset is asked for, and where it is asked."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probekit.data.blocks import Blocks
from probekit.errors import ModelError, SettingsError
from probekit.marginalization.branch_engine import BranchEngine
from probekit.shapes import Mask, TokenIds


@dataclass(frozen=True)
class Targets:
    """Targets by offset, and where they exist.

    Attributes:
        name: `text`: the reference tokens; `model`: the model's own greedy continuation.
        ids: By offset, token ids of shape (batch, pos); meaningless where not valid.
        valid: By offset, positions that have a target, shape (batch, pos).
    """

    name: str
    ids: Mapping[int, TokenIds]
    valid: Mapping[int, Mask]

    def at(self, mask: Mask) -> "Targets":
        """Return these targets at the positions of `mask` alone."""
        return Targets(self.name, self.ids, {k: v & mask for k, v in self.valid.items()})

    def only(self, offsets: Collection[int]) -> "Targets":
        """Return the targets at these offsets alone."""
        return Targets(
            self.name, {k: self.ids[k] for k in offsets}, {k: self.valid[k] for k in offsets}
        )


def text_targets(blocks: Blocks, horizon: int) -> Targets:
    """Return the reference tokens at offsets 1 … `horizon`.

    Raises:
        SettingsError: If the horizon is not in 1 … pos - 1.

    >>> from probekit.data.blocks import pack
    >>> targets = text_targets(pack([[5, 6, 7]], [0], block=4, bos=None, end=9), horizon=2)
    >>> targets.ids[2][targets.valid[2]]
    tensor([7, 9])
    """
    longest = blocks.token_ids.shape[1] - 1
    if not 1 <= horizon <= longest:
        raise SettingsError(
            f"offsets must be in 1..{longest} for blocks of {longest + 1} tokens, got {horizon}"
        )
    offsets = range(1, horizon + 1)
    return Targets(
        "text", {k: blocks.targets(k) for k in offsets}, {k: blocks.valid(k) for k in offsets}
    )


@torch.no_grad()
def model_targets(engine: BranchEngine, blocks: Blocks, horizon: int) -> Targets:
    """Return the model's own greedy continuation of every prefix, 1 … `horizon` tokens long.

    Positions are those that have a text target, so that both are scored on the same.

    Args:
        engine: Branches of the model; one branch a position is run.
        blocks: Token blocks.
        horizon: Largest offset.

    Raises:
        SettingsError: If the horizon is not in 1 … pos - 1.
        ModelError: If the branches are not what the model computes one by one.
    """
    text = text_targets(blocks, horizon)
    check = engine.check_first(blocks.token_ids[0])
    if not check.passed:
        raise ModelError(check.message)
    ids = {k: torch.zeros_like(blocks.token_ids) for k in text.valid}
    for row, token_ids in enumerate(blocks.token_ids):
        valid = {k: mask[row] for k, mask in text.valid.items()}
        for k, greedy in zip(valid, _greedy(engine, token_ids, valid), strict=False):
            ids[k][row][valid[k]] = greedy.cpu()
    return Targets("model", ids, text.valid)


def _greedy(
    engine: BranchEngine, token_ids: Tensor, valid: Mapping[int, Tensor]
) -> Iterator[Tensor]:
    """Yield the continuations of one block at the valid positions, offset by offset."""
    places = valid[1].nonzero()[:, 0]
    if not len(places):
        return
    prefix = engine.read(token_ids)
    found = prefix.logits[places.to(prefix.logits.device)].argmax(dim=1)
    yield found
    tree = prefix.tree(places)
    for offset in range(2, max(valid) + 1):
        # Of the nodes of the level above, those whose position has a target this far ahead.
        longer = valid[offset][places].nonzero()[:, 0].to(found.device)
        if not len(longer):
            return
        pieces = tree.grow(longer, found[longer], keep=offset < max(valid))
        found = torch.cat([log_probs.argmax(dim=1) for _, log_probs in pieces])
        places = places[longer.cpu()]
        yield found


def draw_positions(
    blocks: Blocks, domains: Sequence[str], horizon: int, count: int, seed: int
) -> Mask:
    """Draw `count` positions a domain, as evenly over its documents as they allow.

    Where there are more documents than that, so many are drawn, and one position of each.

    Args:
        blocks: Blocks of one split.
        domains: Domain of each document number.
        horizon: Only positions with a target this far ahead are drawn, so that the same
            positions serve at every offset.
        count: Positions a domain.
        seed: Seed of the draw.

    Returns:
        The drawn positions, shape (block, pos).
    """
    generator = torch.Generator().manual_seed(seed)
    allowed = blocks.valid(horizon)
    drawn = torch.zeros_like(allowed)
    numbers = blocks.documents[allowed].unique().tolist()
    for domain in dict.fromkeys(domains):
        own = [
            (allowed & (blocks.documents == n)).nonzero() for n in numbers if domains[n] == domain
        ]
        order = torch.randperm(len(own), generator=generator)[:count]
        left = count
        # From the shortest on, so that what short documents cannot give longer ones do.
        for rank, places in enumerate(sorted((own[i] for i in order), key=len)):
            share = min(len(places), left // (len(order) - rank))
            left -= share
            chosen = places[torch.randperm(len(places), generator=generator)[:share]]
            drawn[chosen[:, 0], chosen[:, 1]] = True
    return drawn
