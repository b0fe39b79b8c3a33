"""Known answers: texts, and models of them, whose cross-entropies have a closed form.

    markov.MarkovChain    the next token depends on the last one or two; the model is exact
    planted.Planted       a model that holds the token at t + 2 at some layers alone

Laid out as blocks, marginalization, probes, floors and intervals can be held against them.
"""

from typing import Protocol, runtime_checkable

import torch
from transformers import LlamaForCausalLM

from probekit.data.blocks import OUTSIDE, Blocks
from probekit.shapes import TokenIds


@runtime_checkable
class Known(Protocol):
    """A stationary text, and a model of it."""

    @property
    def unscored(self) -> int:
        """Positions at the start of a sequence at which the model lacks tokens it needs."""
        ...

    def sample(self, n: int, length: int, generator: torch.Generator) -> TokenIds:
        """Draw n sequences of so many tokens, shape (n, length)."""
        ...

    def model(self) -> LlamaForCausalLM:
        """Return the model, in eval mode."""
        ...


def blocks(text: Known, n: int, length: int, generator: torch.Generator, first: int = 0) -> Blocks:
    """Draw sequences and lay them out: each is a block and a document, without BOS and end.

    Args:
        text: What to draw from.
        n: Number of sequences.
        length: Tokens of each.
        generator: Source of randomness.
        first: Number of the first document.

    Returns:
        Blocks of shape (n, length); the positions that the text does not score belong to no
        document.
    """
    token_ids = text.sample(n, length, generator)
    documents = torch.arange(first, first + n)[:, None].repeat(1, length)
    documents[:, : text.unscored] = OUTSIDE
    return Blocks(token_ids, documents)
