"""Axes and the tensors that are made of them.

    batch     blocks of tokens in one forward pass
    pos       positions in a block, BOS included
    model     width of the residual stream
    hidden    width of what enters the unembedding; `model` unless there is a projection
    features  what a probe reads: `hidden` of one layer, or of several side by side
    vocab     rows of the unembedding
    n         selected positions, in order of block and position

An annotation is checked in tests (jaxtyping with beartype) and costs nothing otherwise.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

TokenIds = Int[Tensor, "batch pos"]
Mask = Bool[Tensor, "batch pos"]
Resid = Float[Tensor, "batch pos model"]
Hidden = Float[Tensor, "n hidden"]
Logits = Float[Tensor, "n vocab"]
Targets1d = Int[Tensor, " n"]
PerPosition = Float[Tensor, " n"]
