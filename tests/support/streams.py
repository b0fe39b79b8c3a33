"""Token ids to stream, and the whole of what was streamed."""

from collections.abc import Iterator

import torch
from torch import Tensor

from probekit.activations.residual_stream import ResidualStream
from probekit.readout import Seen
from support.architectures import VOCABULARY

IDS = torch.randint(0, VOCABULARY, (5, 20), generator=torch.Generator().manual_seed(0))
ALL = range(4)


def whole(batches: Iterator[Seen] | ResidualStream) -> dict[int, Tensor]:
    """Return the residual stream of all batches by layer."""
    seen = list(batches)
    return {layer: torch.cat([each.resid[layer] for each in seen]) for layer in seen[0].resid}
