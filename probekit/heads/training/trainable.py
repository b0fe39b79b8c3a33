"""What can be trained: heads, queries, or the model itself as a head of the next token."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from probekit.activations.backbone import BackboneOutput
from probekit.models.anatomy import Anatomy
from probekit.shapes import TokenIds


@runtime_checkable
class Trainable(Protocol):
    """What can be trained: heads, each with its offset."""

    @property
    def offsets(self) -> tuple[int, ...]:
        """The offsets, ascending; the first is what the others are balanced against."""
        ...

    def hidden(self, reading: Any, offset: int) -> Float[Tensor, "batch pos hidden"]:
        """Return what enters the unembedding, with gradient."""
        ...

    def decoder(self, offset: int) -> Anatomy:
        """Return how a head's residual stream is decoded."""
        ...

    def logits(
        self, hidden: Float[Tensor, "*any hidden"], offset: int
    ) -> Float[Tensor, "*any vocab"]:
        """Return the logits of what `hidden` gave."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what there is to train, by name."""
        ...

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what belongs to it and stays as it is, by name."""
        ...


@runtime_checkable
class ReadsBackbone(Trainable, Protocol):
    """Heads that read layers of a backbone."""

    @property
    def reads(self) -> frozenset[int]:
        """Layers that the heads read."""
        ...


@runtime_checkable
class ReadsItself(Trainable, Protocol):
    """Heads that run the whole model themselves, as queries do."""

    def read(self, token_ids: TokenIds) -> Any:
        """Return a frozen dataclass with residual streams in `resid`, with gradient."""
        ...


class NextToken(nn.Module):
    """The model itself, as a head without parameters that reads the last layer."""

    offsets = (1,)

    def __init__(self, anatomy: Anatomy) -> None:
        super().__init__()
        self.anatomy = anatomy
        self.reads = frozenset({anatomy.n_layers})

    def hidden(self, reading: BackboneOutput, offset: int) -> Float[Tensor, "batch pos hidden"]:
        """Return what enters the unembedding."""
        assert offset == 1
        return self.anatomy.hidden(reading.resid[self.anatomy.n_layers])

    def decoder(self, offset: int) -> Anatomy:
        """Return how it is decoded: as the model is."""
        assert offset == 1
        return self.anatomy

    def logits(
        self, hidden: Float[Tensor, "*any hidden"], offset: int
    ) -> Float[Tensor, "*any vocab"]:
        """Return the model's logits."""
        assert offset == 1
        return self.anatomy.logits(hidden)
