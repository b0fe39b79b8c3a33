"""Mask tokens: queries that learned nothing, read at every depth.

Behind each position t stand k-1 tokens that all have the mean embedding of the vocabulary, and
the residual stream of the last of them, decoded as the model decodes its last one, predicts the
token at t+k: blind, and no token sees them. At the last layer it is what the model itself says.

Source: Goel, Gagrani, Lee and Lott (2026), "Efficient Training-Free Multi-Token Prediction via
Embedding-Space Probing", arXiv 2603.17942; there the mean is that of the prompt's embeddings.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probekit.heads.queries import QueryHeads
from probekit.readout import MASK_TOKEN, Cell, Seen
from probekit.shapes import Logits, Mask

BLOCKS_AT_ONCE = 4  # each with all its queries


@dataclass(frozen=True)
class MaskTokens:
    """Untrained queries as a readout called `mask-token`, of offsets from 2 on.

    Attributes:
        queries: The queries, as `mean_queries` makes them.
        read: Layers whose stream at the queries is decoded.
        layers: None are captured for it: it runs the model itself.
    """

    queries: QueryHeads
    read: Sequence[int]
    layers: frozenset[int] = frozenset()

    @torch.no_grad()
    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield logits in float32, layer by layer and offset by offset."""
        offsets = self.queries.asked(valid)
        if not offsets:
            return
        rows: dict[tuple[int, int], list[Tensor]] = {
            (layer, offset): [] for layer in self.read for offset in offsets
        }
        for first in range(0, len(seen.token_ids), BLOCKS_AT_ONCE):
            few = slice(first, first + BLOCKS_AT_ONCE)
            streams = self.queries.streams(seen.token_ids[few], self.read)
            for (layer, offset), found in rows.items():
                resid = streams[layer][offset]
                found.append(resid[valid[offset][few].to(resid.device)])
        for (layer, offset), found in rows.items():
            logits = self.queries.anatomy.decode(torch.cat(found)).float()
            yield Cell(MASK_TOKEN, offset, layer), logits
