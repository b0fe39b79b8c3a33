"""The loss of several heads and its gradient, one head's logits at a time.

The blocks that heads share are run once. What they give is cut off from them, so that each head
can be taken backwards by itself, and its logits forgotten, before the next; what the heads send
back adds up at the cut and goes through the shared blocks in one piece. [positions x vocabulary]
is never held for more than a chunk of one head.

Source: Gloeckle et al. (2024), "Better and faster large language models via multi-token
prediction", figure 2.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from probekit.activations.backbone import Backbone
from probekit.data.targets import Targets
from probekit.errors import NumericalError
from probekit.heads.training.recipes import Balance, Products
from probekit.heads.training.trainable import ReadsBackbone, ReadsItself, Trainable
from probekit.models.anatomy import Anatomy
from probekit.probes.convex.affine_objective import scaled_bias, scaled_unembedding
from probekit.scoring import losses
from probekit.shapes import Hidden, PerPosition, Targets1d, TokenIds

# Of a loss that is nothing: the other heads are then not blown up by it.
SMALLEST_RMS = 1e-12


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Token blocks and their targets: a text to train or validate on, or a batch of it.

    Attributes:
        token_ids: Token ids, shape (block, pos).
        targets: Targets of the same blocks. Only their valid positions count:
            `targets.at(mask)` trains on a part of the text alone, such as a translation.
    """

    token_ids: TokenIds
    targets: Targets

    def take(self, rows: Tensor | slice, device: torch.device) -> "TokenBatch":
        """Return some of the blocks, on a device."""
        ids, valid = self.targets.ids, self.targets.valid
        targets = Targets(
            self.targets.name,
            {k: x[rows].to(device) for k, x in ids.items()},
            {k: x[rows].to(device) for k, x in valid.items()},
        )
        return TokenBatch(self.token_ids[rows].to(device), targets)


class Objective:
    """The sum over heads of their mean cross-entropies, balanced.

    Attributes:
        heads: The heads.
        backbone: What they read.
        balance: Whether each head's loss is scaled to the root mean square, over positions, of
            the first one's; no gradient flows through the factor.
    """

    def __init__(
        self, heads: Trainable, backbone: Backbone, balance: Balance, products: Products
    ) -> None:
        self.heads, self.backbone, self.balance = heads, backbone, balance
        anatomy = backbone.anatomy
        for module in (heads, backbone.model):
            if isinstance(module, nn.Module):
                module.eval()  # dropout would draw numbers, which a resumed training lacks
        self.device = anatomy.unembedding.device
        self.autocast, dtype = _dtypes(anatomy, products)
        # The logits of these have a closed gradient; those of others are left to autograd.
        self.unembedding: Tensor | None = None
        decoders = {offset: heads.decoder(offset) for offset in heads.offsets}
        capped = any(decoder.softcap is not None for decoder in decoders.values())
        if not capped and not _own_output(heads, anatomy):
            self.unembedding = scaled_unembedding(anatomy).to(dtype)
            self.biases = {offset: scaled_bias(decoder) for offset, decoder in decoders.items()}

    def backward(self, batch: TokenBatch, *, joint: bool) -> dict[int, float]:
        """Add the gradient of the loss to what is trained.

        Args:
            batch: Blocks, on the device of the model.
            joint: Whether gradients go through the shared blocks, to their adapters.

        Returns:
            Mean cross-entropy in nats by offset, not balanced, without offsets that have no
            target in this batch.

        Raises:
            NumericalError: If a cross-entropy is not finite.
        """
        # `live`: gradients go on below the cut, to the model's adapters or to the queries.
        live = joint or isinstance(self.heads, ReadsItself)
        with torch.set_grad_enabled(live):
            reading = self._read(batch.token_ids)
        cut = {layer: x.detach().requires_grad_(live) for layer, x in reading.resid.items()}
        weigh, means = RmsBalance(self.balance), {}
        for offset, valid, targets in _targets_by_offset(self.heads, batch):
            with torch.enable_grad(), self._products():
                hidden = self.heads.hidden(replace(reading, resid=cut), offset)
            nats, slope = self._slope(hidden.detach()[valid], targets, offset, weigh)
            means[offset] = _finite(float(nats.mean()), offset)
            # [batch, pos, hidden]: zero where there is no target.
            gradient = torch.zeros_like(hidden)
            gradient[valid] = slope.to(hidden.dtype)
            hidden.backward(gradient)  # adds up in the head's parameters and at the cut
        sent = {layer: leaf.grad for layer, leaf in cut.items() if leaf.grad is not None}
        if sent:
            torch.autograd.backward([reading.resid[layer] for layer in sent], list(sent.values()))
        return means

    @torch.no_grad()
    def summed_nats(self, batch: TokenBatch) -> dict[int, tuple[float, int]]:
        """Return the summed cross-entropy in nats, and the count of positions, by offset."""
        reading, sums = self._read(batch.token_ids), {}
        for offset, valid, targets in _targets_by_offset(self.heads, batch):
            with self._products():
                hidden = self.heads.hidden(reading, offset)[valid]
            if self.unembedding is None:
                nats = float(self._nats(hidden, targets, offset).sum())
            else:
                bias = self.biases[offset]
                nats = losses.summed_nats(hidden, self.unembedding, bias, targets)
            sums[offset] = _finite(nats, offset), len(targets)
        return sums

    def _read(self, token_ids: TokenIds) -> Any:
        with self._products():
            if isinstance(self.heads, ReadsBackbone):
                return self.backbone.read(token_ids, self.heads.reads)
            assert isinstance(self.heads, ReadsItself)
            return self.heads.read(token_ids)

    def _slope(
        self, hidden: Hidden, targets: Targets1d, offset: int, weigh: "RmsBalance"
    ) -> tuple[PerPosition, Hidden]:
        """Return the cross-entropies, and the derivative of their weighted sum by `hidden`."""
        if self.unembedding is not None:
            bias = self.biases[offset]
            loss = losses.cross_entropy(hidden, self.unembedding, bias, targets)
            return loss.by_position, loss.hidden * weigh(loss.by_position)
        # The weight depends on all positions: one pass for the losses, one for their slopes.
        with torch.no_grad():
            nats = self._nats(hidden, targets, offset)
        weight, slopes = weigh(nats), []
        for rows, ids in self._chunks(hidden, targets):
            leaf = rows.clone().requires_grad_()
            with torch.enable_grad():
                (self._nats(leaf, ids, offset).sum() * weight).backward()
            assert leaf.grad is not None
            slopes.append(leaf.grad)
        return nats, torch.cat(slopes)

    def _nats(self, hidden: Hidden, targets: Targets1d, offset: int) -> PerPosition:
        parts = []
        for rows, ids in self._chunks(hidden, targets):
            with self._products():
                logits = self.heads.logits(rows, offset)
            parts.append(nn.functional.cross_entropy(logits.float(), ids, reduction="none"))
        return torch.cat(parts)

    def _chunks(self, hidden: Hidden, targets: Targets1d) -> Iterator[tuple[Tensor, Tensor]]:
        length = losses.chunk_length(self.backbone.anatomy.vocab_size, self.device)
        return zip(hidden.split(length), targets.split(length), strict=True)

    @contextmanager
    def _products(self) -> Iterator[None]:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            yield


class RmsBalance:
    """The factor of each head's summed cross-entropy in the loss; called for the first head first.

    Attributes:
        rms: Root mean square of the first head's cross-entropies.
    """

    def __init__(self, balance: Balance) -> None:
        self.balance, self.rms = balance, 0.0

    def __call__(self, nats: PerPosition) -> float:
        """Return the factor for the cross-entropies of a head."""
        if self.balance == "none":
            return 1 / len(nats)
        # (RMS of the first head / RMS of this one) / positions: the mean, rescaled.
        own = max(float(nats.square().mean().sqrt()), SMALLEST_RMS)
        self.rms = self.rms or own
        return self.rms / own / len(nats)


def _targets_by_offset(heads: Trainable, batch: TokenBatch) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the offsets that have targets, with their positions and the targets."""
    for offset in heads.offsets:
        valid = batch.targets.valid[offset]
        if bool(valid.any()):
            yield offset, valid, batch.targets.ids[offset][valid]


def _dtypes(anatomy: Anatomy, products: Products) -> tuple[bool, torch.dtype]:
    """Return whether blocks multiply in bfloat16, and the dtype of products with U."""
    own, device = anatomy.unembedding.dtype, anatomy.unembedding.device
    if products == "model" or (products == "auto" and own == torch.float64):
        return False, own
    if products == "bfloat16":
        return True, torch.bfloat16
    # On a CPU the many casts of autocast cost small models more than their products gain.
    return device.type == "cuda", losses.product_dtype(device)


def _own_output(heads: Trainable, anatomy: Anatomy) -> bool:
    """Say whether a head has an unembedding of its own, which is trained."""
    row = anatomy.unembedding.new_zeros(1, anatomy.d_hidden)
    with torch.enable_grad():
        return any(heads.logits(row, offset).requires_grad for offset in heads.offsets)


def _finite(nats: float, offset: int) -> float:
    if not math.isfinite(nats):
        raise NumericalError(
            f"the cross-entropy at offset {offset} is not finite. Take a lower learning rate, "
            "or products in the model's dtype"
        )
    return nats
