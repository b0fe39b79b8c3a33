"""What one packed pass runs: certain tokens, a tree of candidates, queries behind each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Int
from torch import Tensor

# Slots that nothing was drafted for: the parent of the first is in the cache.
BEFORE = -1


@dataclass(frozen=True, eq=False)
class Slots:
    """What one pass runs.

    Attributes:
        tokens: Token ids, shape (slots,); of queries they mean nothing.
        parents: The slot before each, `BEFORE` for the first.
        n_certain: So many slots are a chain of tokens that are in the text.
        n_tokens: So many slots are tokens; the others are queries.
        asked: Which query each of the others is.
    """

    tokens: Int[Tensor, " slots"]
    parents: tuple[int, ...]
    n_certain: int
    n_tokens: int
    asked: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, certain: Int[Tensor, " certain"], drafted: Sequence[Sequence[int]], n_queries: int
    ) -> "Slots":
        """Lay out a pass.

        Args:
            certain: Tokens of the text that were not run yet.
            drafted: Candidates by offset; each stands behind each of the offset before.
            n_queries: Queries behind each candidate, and behind the last certain token.
        """
        parents = [BEFORE, *range(len(certain) - 1)]
        tokens, above = list[int](), [len(certain) - 1]
        for candidates in drafted:
            level = []
            for parent in above:
                for token in candidates:
                    level.append(len(parents))
                    parents.append(parent)
                    tokens.append(token)
            above = level
        n_tokens, asked = len(parents), list[int]()
        for owner in range(len(certain) - 1, n_tokens) if n_queries else ():
            parents += [owner, *range(len(parents), len(parents) + n_queries - 1)]
            asked += range(n_queries)
        behind = certain.new_tensor([*tokens, *[0] * len(asked)])
        ids = torch.cat([certain, behind])
        return cls(ids, tuple(parents), len(certain), n_tokens, tuple(asked))

    @property
    def chain(self) -> bool:
        """Whether each slot stands behind the one before, as the model itself takes it."""
        return not self.asked and all(b == a + 1 for a, b in pairwise(self.parents))

    @property
    def depths(self) -> list[int]:
        """How far behind the text in the cache each slot is, 0 for the first."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent == BEFORE else depths[parent] + 1)
        return depths

    def children(self, slot: int) -> dict[int, int]:
        """Return the candidates behind a slot, each token with its slot."""
        return {
            int(self.tokens[at]): at
            for at in range(self.n_certain, self.n_tokens)
            if self.parents[at] == slot
        }

    def queries_behind(self, slot: int) -> range:
        """Return the slots of the queries behind a candidate or the last certain token."""
        n = max(self.asked, default=-1) + 1
        first = self.n_tokens + (slot - self.n_certain + 1) * n
        return range(first, first + n)

    def visible(self, n_cached: int, window: int | None) -> Bool[Tensor, "slots keys"]:
        """Return which keys each slot sees: the text in the cache, ancestors, itself.

        Args:
            n_cached: Tokens in the cache.
            window: How many positions back a layer sees, itself included; None for all.
        """
        device, n = self.tokens.device, len(self.parents)
        own = torch.eye(n, dtype=torch.bool)
        for slot, parent in enumerate(self.parents):
            if parent != BEFORE:
                own[slot] |= own[parent]
        depth = torch.tensor(self.depths)
        text = torch.ones(n, n_cached, dtype=torch.bool)
        if window is not None:
            own &= depth[:, None] - depth < window
            text &= n_cached + depth[:, None] - torch.arange(n_cached) < window
        return torch.cat([text, own], dim=1).to(device)
