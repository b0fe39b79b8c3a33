"""The logit lens: the residual stream of any layer, decoded as if it were the last.

Source: nostalgebraist (2020), "interpreting GPT: the logit lens". The divergence by depth
is figure 2 of Mehra, Alonso Garcia and Mauch (2025): KL(p_l || p_final), in nats.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from probekit.models.anatomy import Anatomy
from probekit.readout import LENS, MODEL, Cell, Seen
from probekit.scoring.losses import divergence
from probekit.shapes import Logits, Mask


@dataclass(frozen=True)
class LogitLens:
    """The lens at each layer, as a readout called `lens`; nothing in it is fitted.

    At offsets beyond 1 it says how much the next-token distribution happens to tell of a
    later token.

    Attributes:
        read: Layers to read.
        anatomy: How the model decodes its residual stream.
        name: Name of the readout.
        transport: By layer, a map from its residual stream to the last one's, shape
            (model, model), applied before decoding; none where a layer is read as it is.
    """

    read: Sequence[int]
    anatomy: Anatomy
    name: str = LENS
    transport: Mapping[int, Float[Tensor, "model model"]] = field(default_factory=dict)

    @property
    def layers(self) -> frozenset[int]:
        """Layers that the lens reads."""
        return frozenset(self.read)

    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield the model's own decoding of each layer, layer by layer and offset by offset."""
        if not valid:
            return
        # The logits of a position are the same at every offset.
        wanted = torch.stack(list(valid.values())).any(dim=0)
        for cell, logits in self.decoded(seen, wanted):
            for offset, mask in valid.items():
                yield replace(cell, offset=offset), logits[mask[wanted]]

    def decoded(self, seen: Seen, wanted: Mask) -> Iterator[tuple[Cell, Logits]]:
        """Yield the model's own decoding of each layer at some positions."""
        for layer in self.read:
            resid = seen.resid[layer][wanted]
            if layer in self.transport:
                resid = (resid.float() @ self.transport[layer].T).to(resid.dtype)
            yield Cell(self.name, 1, layer), self.anatomy.decode(resid).float()


@dataclass(frozen=True)
class Model:
    """The model itself, as a readout called `model`: offset 1, its own output."""

    anatomy: Anatomy

    @property
    def layers(self) -> frozenset[int]:
        """The last layer, from which the model predicts."""
        return frozenset({self.anatomy.n_layers})

    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield the model's logits at offset 1."""
        if 1 in valid:
            resid = seen.resid[self.anatomy.n_layers][valid[1]]
            yield Cell(MODEL, 1), self.anatomy.decode(resid).float()


@torch.no_grad()
def divergences(
    stream: Iterable[Seen], anatomy: Anatomy, layers: Sequence[int], valid: Mask, documents: Tensor
) -> pd.DataFrame:
    """Return KL(p_l || p_final) of each layer in nats, summed by document.

    Args:
        stream: Holds the layers and the last one.
        anatomy: How the model decodes its residual stream.
        layers: Layers to compare with the last; without any there are no rows.
        valid: Positions to compare at, shape (block, pos).
        documents: Document number of each position, shape (block, pos).

    Returns:
        Rows of layer, document, n and kl_sum.
    """
    if not layers:
        return pd.DataFrame()
    rows = []
    for seen in stream:
        block = seen.blocks
        inside = valid[block]
        mask = inside.to(seen.token_ids.device)
        final = anatomy.decode(seen.resid[anatomy.n_layers][mask])
        for layer in layers:
            nats = divergence(anatomy.decode(seen.resid[layer][mask]), final)
            values = {"document": documents[block][inside], "kl_sum": nats.double().cpu()}
            rows.append(pd.DataFrame({k: v.numpy() for k, v in values.items()}).assign(layer=layer))
    table = pd.concat(rows).assign(n=1)
    return table.groupby(["layer", "document"], as_index=False).sum()
