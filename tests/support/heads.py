"""A model's head alone, for readouts that are tested without a model."""

from torch import Tensor, nn

from probekit.models.anatomy import Anatomy


def head_of(weight: Tensor, bias: Tensor | None = None) -> Anatomy:
    """Return the head of a model of two blocks without final norm."""
    unembedding = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    unembedding.weight.data = weight
    if bias is not None:
        unembedding.bias.data = bias
    blocks = (nn.Identity(), nn.Identity())
    return Anatomy(nn.Identity(), blocks, (), unembedding, d_model=weight.shape[1])
