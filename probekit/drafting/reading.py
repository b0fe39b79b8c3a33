"""What a verification pass showed of the position before the newest token.

A pass runs tokens that are certain, then drafted ones, of which some are accepted. Position t is
the last token that was run and is in the text; the token at t+1, the newest, follows from the
model's output there and has not been run. A drafter reads position t and proposes t+2 … t+K.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from probekit.activations.backbone import BlockCall
from probekit.models.anatomy import Anatomy
from probekit.models.module_calls import residual_in, residual_out
from probekit.shapes import Resid


@dataclass(frozen=True, eq=False)
class Caching:
    """How a cache of keys and values is kept in step with the text.

    Attributes:
        fresh: Makes an empty one.
        keep: Drops from it what the last pass ran and the text does not hold: the cache, rows
            run in the pass, rows kept.
    """

    fresh: Callable[[], DynamicCache]
    keep: Callable[[Cache, int, Int[Tensor, " kept"]], None]


@dataclass(frozen=True, eq=False)
class Reading:
    """What one pass showed, and which of its rows are in the text.

    Attributes:
        token_ids: The text up to the newest token, shape (text,).
        resid: Residual stream by layer of all rows of the pass, each of shape (1, rows, model).
        call: What the model passed to its last block besides the stream.
        kept: Rows that are in the text, ascending; the last is position t.
        rows: Rows of the pass.
        asked: Rows of the queries behind position t; none where there are none.
        first: Whether it is the first pass over a text.
        caching: How a drafter's own cache is kept in step.
    """

    token_ids: Int[Tensor, " text"]
    resid: Mapping[int, Resid]
    call: BlockCall
    kept: Int[Tensor, " kept"]
    rows: int
    asked: Int[Tensor, " asked"]
    first: bool
    caching: Caching

    @property
    def row(self) -> int:
        """The row of position t."""
        return int(self.kept[-1])

    def at(self, layer: int) -> Resid:
        """Return the residual stream of a layer at position t, shape (1, 1, model)."""
        return self.resid[layer][:, self.row : self.row + 1]

    def call_with(self, cache: Cache) -> BlockCall:
        """Return the last block's call with another cache in place of the model's."""

        def other(value: Any) -> Any:
            return cache if isinstance(value, Cache) else value

        named = {name: other(value) for name, value in self.call.named.items()}
        return BlockCall(tuple(map(other, self.call.arguments)), named)


@dataclass
class Watch:
    """Hooks on a model that keep what its last pass showed; made by `watching`.

    Attributes:
        resid: Residual stream by layer, each of shape (1, rows, model).
        call: The last block's call; None before the first pass.
        passes: Forward passes so far.
        rows: Rows of the last pass.
    """

    resid: dict[int, Resid] = field(default_factory=dict)
    call: BlockCall | None = None
    passes: int = 0
    rows: int = 0


@contextmanager
def watching(anatomy: Anatomy, layers: Collection[int]) -> Iterator[Watch]:
    """Keep what each forward pass shows of some layers, while the context is open.

    Args:
        anatomy: The model's.
        layers: Layers to keep, each in 0 … n_layers.
    """
    watch, blocks = Watch(), anatomy.blocks

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        resid = residual_in(args, kwargs)
        watch.passes, watch.rows = watch.passes + 1, resid.shape[1]
        if 0 in layers:
            watch.resid[0] = resid.clone()  # some models write into the stream later

    def leave(layer: int) -> Callable[..., None]:
        def keep(_: nn.Module, __: Any, output: Any) -> None:
            watch.resid[layer] = residual_out(output).clone()

        return keep

    def last(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        watch.call = BlockCall(args[1:], named)

    handles = [blocks[0].register_forward_pre_hook(enter, with_kwargs=True)]
    handles += [blocks[-1].register_forward_pre_hook(last, with_kwargs=True)]
    handles += [blocks[at - 1].register_forward_hook(leave(at)) for at in layers if at]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()
