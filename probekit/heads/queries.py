"""Queries: learned embeddings behind each position that ask the frozen model for later tokens.

The branch of position t is m_1 … m_{K-1} at the positions t+1 …; it sees the tokens up to t
and its own earlier queries. What comes out at m_{k-1} predicts the token at t+k: blind, at the
model's full depth. All branches of a block run in one forward pass, kept apart by the mask, and
no token sees a query: at offset 1 there is the model itself.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.activations.backbone import probe_ids
from probekit.activations.hooks import pass_of
from probekit.errors import ModelError, SettingsError
from probekit.marginalization.branch_routes import additive, objection, windows
from probekit.models.anatomy import Anatomy
from probekit.models.loading import longest
from probekit.models.rounding import within_rounding
from probekit.readout import Cell, Seen
from probekit.shapes import Logits, Mask, Resid, TokenIds


@dataclass(frozen=True, eq=False)
class QueryReading:
    """The last residual stream of a batch by offset, each of shape (batch, pos, model)."""

    resid: Mapping[int, Resid]


class QueryHeads(nn.Module):
    """Learned queries for the offsets 2 … horizon of a frozen model.

    Attributes:
        model: The model; not a part of this module, so that it is neither trained nor saved.
        anatomy: Its anatomy.
        embeddings: m_1 … m_{K-1}, shape (horizon - 1, width of the token embeddings).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        anatomy: Anatomy,
        horizon: int,
        seed: int = 0,
        way_out: str = "Use block, medusa or linear heads",
    ) -> None:
        """Start each query as the embedding of a token drawn at random.

        Args:
            model: The model.
            anatomy: Its anatomy.
            horizon: Largest offset, at least 2.
            seed: Seed of the draw.
            way_out: What to do where the model takes no queries: the end of the message.

        Raises:
            SettingsError: If the horizon is too small.
            ModelError: If branches cannot be kept apart by a mask in this model.
        """
        super().__init__()
        if horizon < 2:
            raise SettingsError(
                f"queries are for offsets from 2 on; horizon must be 2 or more, got {horizon}"
            )
        why_not = objection(model, "packed")
        if why_not is not None:
            raise ModelError(_refusal(model, why_not, way_out))
        self._held = (model,)  # in a tuple: torch would take it for a part of this module
        self.anatomy = anatomy
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(anatomy.vocab_size, (horizon - 1,), generator=generator)
        with torch.no_grad():
            drawn = self._embed(ids.to(anatomy.unembedding.device))
        # Steps of the optimizer would be lost in the rounding of a narrower dtype.
        wide = torch.promote_types(drawn.dtype, torch.float32)
        self.embeddings = nn.Parameter(drawn.to(wide, copy=True))
        self._verify(way_out)

    @property
    def model(self) -> PreTrainedModel:
        """The model that is asked."""
        return self._held[0]

    @property
    def offsets(self) -> tuple[int, ...]:
        """The offsets, ascending: 2 … horizon."""
        return tuple(range(2, len(self.embeddings) + 2))

    def asked(self, valid: Mapping[int, Mask]) -> list[int]:
        """Return those offsets that are wanted, ascending."""
        return [offset for offset in self.offsets if offset in valid]

    def read(self, token_ids: TokenIds) -> QueryReading:
        """Run the tokens and all queries.

        Args:
            token_ids: Token ids, shape (batch, pos).

        Returns:
            The residual stream after the last block at offsets 1 (the model's own) … horizon,
            each of shape (batch, pos, model); gradients flow to the queries. Where the token
            that a query asks for would lie beyond the block, its number means nothing.
        """
        last = self.anatomy.n_layers
        return QueryReading(self.streams(token_ids, [last])[last])

    def streams(self, token_ids: TokenIds, layers: Collection[int]) -> dict[int, dict[int, Resid]]:
        """Return what `read` does, of several layers: the residual streams by layer and offset."""
        token_ids = token_ids.to(self.model.device)
        batch, length = token_ids.shape
        # Level 0 are the tokens, level k the query m_k behind each of them, at position t + k.
        level = torch.arange(len(self.embeddings) + 1, device=token_ids.device)
        positions = (level[:, None] + torch.arange(length, device=token_ids.device)).flatten()
        # Queries behind the last position predict tokens beyond the block: a token that is in the
        # block is predicted by a query that stands before it.
        most = longest(self.model)
        positions = positions if most is None else positions.clamp(max=most - 1)
        queries = self.embeddings.repeat_interleave(length, dim=0).expand(batch, -1, -1)
        embedded = torch.cat([self._embed(token_ids), queries.to(self.model.dtype)], dim=1)
        masks = {
            kind: additive(visible(length, len(level), window, token_ids.device), self.model.dtype)
            for kind, window in windows(self.model).items()
        }
        found = self._run(
            layers,
            inputs_embeds=embedded,
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            position_ids=positions.expand(batch, -1),
        )
        return {
            layer: dict(enumerate(resid.unflatten(1, (-1, length)).unbind(dim=1), start=1))
            for layer, resid in found.items()
        }

    def hidden(self, reading: QueryReading, offset: int) -> Float[Tensor, "batch pos hidden"]:
        """Return what enters the unembedding at an offset, shape (batch, pos, hidden)."""
        return self.anatomy.hidden(reading.resid[offset])

    @property
    def n_values(self) -> int:
        """Number of learned values."""
        return self.embeddings.numel()

    def decoder(self, offset: int) -> Anatomy:  # noqa: ARG002 -- as heads have it
        """Return how it is decoded: as the model is."""
        return self.anatomy

    def logits(
        self,
        hidden: Float[Tensor, "*any hidden"],
        offset: int,  # noqa: ARG002 -- as heads have it
    ) -> Float[Tensor, "*any vocab"]:
        """Return the logits of what `hidden` gave, or of rows of it: the model's own decoding."""
        return self.anatomy.logits(hidden)

    def _embed(self, token_ids: Tensor) -> Tensor:
        embed: Any = self.model.get_input_embeddings()
        embedded: Tensor = embed(token_ids)
        return embedded

    def _run(self, layers: Collection[int], **inputs: Any) -> dict[int, Resid]:
        """Return the residual stream at some layers, from whatever goes in."""
        return pass_of(inputs, self.anatomy, layers).resid

    @torch.no_grad()
    def _verify(self, way_out: str) -> None:
        """Compare the last position's branch with the tokens and queries run as one sequence."""
        token_ids = probe_ids(self.anatomy)
        try:
            reading = self.read(token_ids)
        except (RuntimeError, TypeError, ValueError) as error:
            why = f"it takes no mask for them: {error}"
            raise ModelError(_refusal(self.model, why, way_out)) from error
        whole = torch.cat(
            [self._embed(token_ids), self.embeddings[None].to(self.model.dtype)], dim=1
        )
        last = self.anatomy.n_layers
        expected = self._run([last], inputs_embeds=whole)[last][:, token_ids.shape[1] - 1 :]
        packed = torch.stack([resid[:, -1] for resid in reading.resid.values()], dim=1)
        if not within_rounding(packed, expected):
            why = "packed, it computes other numbers"
            raise ModelError(_refusal(self.model, why, way_out))


@torch.no_grad()
def mean_queries(model: PreTrainedModel, anatomy: Anatomy, horizon: int) -> QueryHeads:
    """Return queries that learned nothing: each is the mean token embedding.

    Args:
        model: The model.
        anatomy: Its anatomy.
        horizon: Largest offset, at least 2.

    Raises:
        ModelError: If branches cannot be kept apart by a mask in this model.

    Source: Goel et al. (2026), arXiv 2603.17942.
    """
    queries = QueryHeads(model, anatomy, horizon, way_out="Leave out --readout mask-token")
    # Through the module: some models scale what they look up.
    ids = torch.arange(anatomy.vocab_size, device=anatomy.unembedding.device)
    queries.embeddings.copy_(queries._embed(ids).float().mean(dim=0))
    return queries


def visible(
    length: int, levels: int, window: int | None, device: torch.device
) -> Bool[Tensor, "seen seen"]:
    """Return which of tokens and queries each of them sees; level 0 are the tokens.

    Args:
        length: Tokens in a block.
        levels: Queries in a branch, and 1.
        window: How many positions back a layer sees, itself included; None for all.
        device: Where to make it.

    Returns:
        Shape (levels · length, levels · length), level by level.

    >>> visible(2, 2, None, torch.device("cpu")).int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 1]]
    """
    level = torch.arange(levels, device=device).repeat_interleave(length)
    start = torch.arange(length, device=device).repeat(levels)
    tokens = (level == 0) & (start <= start[:, None])
    own = (level > 0) & (level <= level[:, None]) & (start == start[:, None])
    seen = tokens | own
    if window is not None:
        position = level + start
        seen &= position[:, None] - position < window
    return seen


@dataclass(frozen=True)
class QueryReadout:
    """Queries as a readout; it runs the model itself.

    Attributes:
        queries: The queries.
        name: Name of the readout.
        layers: None are captured for it.
    """

    queries: QueryHeads
    name: str = "head:query"
    layers: frozenset[int] = frozenset()

    @torch.no_grad()
    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield logits in float32, offset by offset."""
        offsets = self.queries.asked(valid)
        if not offsets:
            return
        reading = self.queries.read(seen.token_ids)
        for offset in offsets:
            hidden = self.queries.hidden(reading, offset)
            rows = hidden[valid[offset].to(hidden.device)]
            yield Cell(self.name, offset), self.queries.logits(rows, offset).float()


def _refusal(model: PreTrainedModel, why: str, way_out: str) -> str:
    return f"queries cannot be kept apart in {type(model).__name__}: {why}. {way_out}"
