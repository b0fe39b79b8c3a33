"""What a readout is: anything that gives a distribution over the token at an offset.

The scorer knows readouts by this protocol alone, so a readout of your own is scored on the
same positions as the built-in ones.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from probekit.shapes import Logits, Mask, Resid, TokenIds

# Names of readouts, as in tables and plots. Heads are `head:<kind>`.
MODEL, LENS, UNIGRAM, SKIP_BIGRAM = "model", "lens", "unigram", "skip-bigram"
LINEAR, CONCAT, LINEAR_FULL, LINEAR_LOWRANK = "linear", "concat", "linear-full", "linear-lowrank"
MLP, SKLEARN, CONTROL, RANDOM = "mlp", "sklearn", "control", "random"
MARGINAL, MARGINAL_ADAPTED = "marginal", "marginal-adapted"
# Further readouts of layers that are no probes, each run where `--readout` asks for it.
JACOBIAN_LENS, MASK_TOKEN = "jacobian-lens", "mask-token"
FURTHER = (JACOBIAN_LENS, MASK_TOKEN)
# Those that are token-fed, and so never stand beside what is blind.
TRANSPLANT = "transplant"
PROMPT_ALONE, TOKEN_ALONE = "transplant-none", "transplant-token"
FED = (TRANSPLANT, PROMPT_ALONE, TOKEN_ALONE)


@dataclass(frozen=True)
class Cell:
    """One curve point: which readout, at which offset, reading which layer.

    Attributes:
        readout: Name, as in tables and plots.
        offset: Position t predicts token t + offset; 1 is the next token.
        layer: 0 is the input of the first block, l the residual stream after block l;
            None where the readout reads no layer.
        blind: True if only tokens up to t are seen; False if the true tokens between t and
            t + offset are fed.
    """

    readout: str
    offset: int
    layer: int | None = None
    blind: bool = True


@dataclass(frozen=True)
class Seen:
    """What a model saw and computed in one forward pass.

    Attributes:
        token_ids: Token ids, shape (batch, pos).
        resid: Residual stream by layer, each of shape (batch, pos, model).
        first_block: Index of the first of these blocks among all blocks of the text.
    """

    token_ids: TokenIds
    resid: Mapping[int, Resid]
    first_block: int = 0

    @property
    def blocks(self) -> slice:
        """Which blocks of the text these are."""
        return slice(self.first_block, self.first_block + len(self.token_ids))


@runtime_checkable
class OneForAll(Protocol):
    """A readout that gives one distribution at a position, whatever the offset."""

    def decoded(self, seen: Seen, wanted: Mask) -> Iterator[tuple[Cell, Logits]]:
        """Yield logits at some positions, layer by layer.

        Args:
            seen: Tokens and residual streams of a batch.
            wanted: The positions, shape (batch, pos).

        Yields:
            A cell of offset 1 and its logits, shape (n, vocab).
        """
        ...


@runtime_checkable
class Readout(Protocol):
    """Anything that gives distributions over tokens at offsets."""

    @property
    def layers(self) -> frozenset[int]:
        """Layers to capture for it; empty for readouts of tokens alone."""
        ...

    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield logits (any additive constant) for the valid positions, cell by cell.

        Args:
            seen: Tokens and residual streams of a batch.
            valid: By offset, the positions to predict from, shape (batch, pos).

        Yields:
            A cell and its logits, shape (n, vocab), where n counts the True of
            `valid[cell.offset]`, in order of block and position.
        """
        ...
