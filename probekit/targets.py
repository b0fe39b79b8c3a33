"""Targets: the token that a readout at an offset is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass

from probekit.errors import SettingsError
from probekit.shapes import Mask, TokenIds
from probekit.tokens import Blocks


@dataclass(frozen=True)
class Targets:
    """Targets by offset, and where they exist.

    Attributes:
        name: `text`: the reference tokens.
        ids: By offset, token ids of shape (batch, pos); meaningless where not valid.
        valid: By offset, positions that have a target, shape (batch, pos).
    """

    name: str
    ids: Mapping[int, TokenIds]
    valid: Mapping[int, Mask]

    def at(self, mask: Mask) -> "Targets":
        """Return these targets at the positions of `mask` alone."""
        return Targets(self.name, self.ids, {k: v & mask for k, v in self.valid.items()})


def text_targets(blocks: Blocks, horizon: int) -> Targets:
    """Return the reference tokens at offsets 1 … `horizon`.

    Raises:
        SettingsError: If the horizon is not in 1 … pos - 1.

    >>> from probekit.tokens import pack
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
