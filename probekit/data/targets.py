"""Targets: the token at an offset from each position, and the positions that have one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from probekit.data.blocks import Blocks
from probekit.data.documents import SPLITS, Split
from probekit.errors import SettingsError
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

    def sampled(self, n: int, *seeds: int) -> "Targets":
        """Return the targets at `n` positions of each offset, drawn anew for each, or at all."""
        valid = {}
        for offset, mask in self.valid.items():
            places = mask.flatten().nonzero()[:, 0]
            draw = np.random.default_rng((*seeds, offset))
            drawn = torch.zeros_like(mask).flatten()
            drawn[places[torch.from_numpy(draw.permutation(len(places))[:n])]] = True
            valid[offset] = drawn.view_as(mask)
        return Targets(self.name, self.ids, valid)


def write_targets(by_split: Mapping[Split, Targets], path: Path) -> None:
    """Write targets as safetensors, under keys <split>/<offset>/<ids or valid>."""
    tensors = {}
    for split, targets in by_split.items():
        for offset, ids in targets.ids.items():
            tensors[f"{split}/{offset}/ids"] = ids.contiguous()
            tensors[f"{split}/{offset}/valid"] = targets.valid[offset].contiguous()
    save_file(tensors, path, metadata={"name": next(iter(by_split.values())).name})


def read_targets(path: Path) -> dict[Split, Targets]:
    """Return the targets that `write_targets` wrote."""
    with safe_open(path, framework="pt") as file:
        name = file.metadata()["name"]
        keys = {tuple(key.split("/")[:2]) for key in file.keys()}  # noqa: SIM118 -- not a dict
        by_split: dict[Split, Targets] = {}
        for split in SPLITS:
            offsets = sorted(int(offset) for of, offset in keys if of == split)
            ids, valid = (
                {k: file.get_tensor(f"{split}/{k}/{part}") for k in offsets}
                for part in ("ids", "valid")
            )
            by_split[split] = Targets(name, ids, valid)
    return by_split


def text_targets(blocks: Blocks, horizon: int) -> Targets:
    """Return the reference tokens at offsets 1 … `horizon`.

    Raises:
        SettingsError: If the horizon is not in 1 … pos - 1.

    >>> from probekit.data.blocks import pack
    >>> from probekit.data.separator import Separator
    >>> blocks = pack([[5, 6, 7]], [0], 4, Separator("eos", bos=None, end=9, scored=True))
    >>> targets = text_targets(blocks, horizon=2)
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
        by_document = [
            (allowed & (blocks.documents == n)).nonzero() for n in numbers if domains[n] == domain
        ]
        order = torch.randperm(len(by_document), generator=generator)[:count]
        left = count
        # From the shortest on, so that what short documents cannot give longer ones do.
        for rank, positions in enumerate(sorted((by_document[i] for i in order), key=len)):
            share = min(len(positions), left // (len(order) - rank))
            left -= share
            chosen = positions[torch.randperm(len(positions), generator=generator)[:share]]
            drawn[chosen[:, 0], chosen[:, 1]] = True
    return drawn
