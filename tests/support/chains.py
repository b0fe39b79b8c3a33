"""A prefix of a Markov chain: what the branch engine would give for it, without a model."""

from collections.abc import Iterator

import torch
from torch import Tensor

from probekit.marginalization.branch_tree import Prefix, Tree


class ChainPrefix(Prefix):
    """A position is its current token: p(x_{t+1} | x_t) is a row of the transition matrix."""

    def __init__(self, transition: Tensor) -> None:
        object.__setattr__(self, "log_transition", transition.log().float())

    def log_probs(self, positions: Tensor) -> Tensor:
        """Return the row of each token."""
        rows: Tensor = self.log_transition[positions]  # type: ignore[attr-defined]
        return rows

    def tree(self, positions: Tensor) -> Tree:
        """Return a tree whose branches depend on their last token alone."""
        return ChainTree(self, positions)


class ChainTree(Tree):
    """Branches of a Markov chain."""

    def grow(
        self, parents: Tensor, tokens: Tensor, keep: bool = True
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield all of a level as one piece; nothing is kept for the next."""
        del keep
        assert bool((parents.diff() >= 0).all())
        yield slice(0, len(tokens)), self.prefix.log_probs(tokens)


def sharp_chain(n_tokens: int, seed: int, power: float = 6.0) -> Tensor:
    """Return a transition matrix with a few likely tokens and a long tail, float64."""
    draw = torch.Generator().manual_seed(seed)
    weights = torch.rand(n_tokens, n_tokens, generator=draw, dtype=torch.float64).pow(power)
    return (weights + 1e-6) / (weights + 1e-6).sum(1, keepdim=True)


def walk(transition: Tensor, starts: Tensor, steps: int, seed: int) -> Tensor:
    """Return tokens at 0, 1, … steps of chains, shape (n, steps + 1)."""
    draw = torch.Generator().manual_seed(seed)
    tokens = [starts]
    for _ in range(steps):
        probs = transition[tokens[-1]]
        tokens.append(torch.multinomial(probs, 1, generator=draw)[:, 0])
    return torch.stack(tokens, dim=1)
