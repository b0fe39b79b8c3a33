"""The residual stream of a text, batch by batch, to be iterated any number of times.

`stream` gives a re-iterable of `Seen`, captured by hooks on the Hugging Face model: no logits, no
`hidden_states`, no block run beyond the last layer captured.

    site        layer l of it
    resid_post  the residual stream after block l; layer 0 is the input of the first block
    resid_mid   the residual stream of block l between attention and MLP
    attn_out    what the attention of block l adds
    mlp_out     what the MLP of block l adds

Every site but `resid_post` is named by transformer_lens.
"""

import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel

from probekit.activations.hooks import Capture, resid_post
from probekit.activations.transformer_bridge import bridged
from probekit.errors import RunError, SettingsError
from probekit.models.anatomy import Anatomy
from probekit.readout import Seen
from probekit.settings import Site
from probekit.shapes import Resid, TokenIds

Store = Literal["live", "memory", "device", "disk"]


@dataclass(frozen=True, eq=False)
class _OnDevice(Mapping[int, Tensor]):
    """Layers of a batch, each brought to a device when it is first read."""

    kept: Mapping[int, Tensor]
    device: torch.device
    _moved: dict[int, Tensor] = field(default_factory=dict)

    def __getitem__(self, layer: int) -> Tensor:
        if layer not in self._moved:
            self._moved[layer] = self.kept[layer].to(self.device)
        return self._moved[layer]

    def __iter__(self) -> Iterator[int]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)


@dataclass
class ResidualStream:
    """A re-iterable of `Seen`, one a batch; made by `stream`.

    Attributes:
        token_ids: Token ids of all blocks, shape (block, pos), on the CPU.
        layers: The layers captured, ascending.
        batch_size: Blocks in a forward pass.
        device: Where tokens and residuals are when they are yielded.
    """

    token_ids: TokenIds
    layers: tuple[int, ...]
    batch_size: int
    device: torch.device
    capture: Capture = field(repr=False)
    store: Store = "live"
    folder: Path | None = None
    _kept: Mapping[int, Tensor] | None = field(default=None, init=False, repr=False)

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self.token_ids) / self.batch_size)

    def __iter__(self) -> Iterator[Seen]:
        """Yield tokens and residual streams, in the order of the blocks.

        The tensors are to be read, not written to: they may be the stored ones.
        """
        if not self.layers:
            yield from self._batches(lambda _: {})
        elif self._kept is not None:
            yield from self._batches(partial(_slices, self._kept))
        else:
            yield from self._first_pass()

    def _first_pass(self) -> Iterator[Seen]:
        kept: dict[int, Tensor] = {}
        for seen in self._batches(lambda rows: self.capture(self._ids(rows))):
            if self.store != "live":
                for layer, resid in seen.resid.items():
                    if layer not in kept:
                        kept[layer] = self._space(resid)
                    kept[layer][seen.blocks] = resid
            yield seen
        if self.store != "live":
            self._kept = kept

    def _batches(self, resid_of: Callable[[slice], Mapping[int, Tensor]]) -> Iterator[Seen]:
        for first in range(0, len(self.token_ids), self.batch_size):
            rows = slice(first, first + self.batch_size)
            yield Seen(self._ids(rows), _OnDevice(resid_of(rows), self.device), first)

    def _ids(self, rows: slice) -> TokenIds:
        return self.token_ids[rows].to(self.device)

    def _space(self, resid: Resid) -> Tensor:
        """Return room for one layer of all blocks: in memory, on the device or in a file."""
        shape = (len(self.token_ids), *resid.shape[1:])
        if self.store == "disk":
            assert self.folder is not None
            return _on_disk(self.folder, shape, resid.dtype)
        device = self.device if self.store == "device" else torch.device("cpu")
        return torch.empty(shape, dtype=resid.dtype, device=device)


def stream(  # noqa: PLR0913 -- what to run, on what, what to take, how, where to keep it
    model: PreTrainedModel,
    anatomy: Anatomy,
    token_ids: TokenIds,
    layers: Iterable[int],
    *,
    batch_size: int,
    site: Site = "resid_post",
    store: Store = "live",
    folder: Path | None = None,
) -> ResidualStream:
    """Return the residual stream of token blocks, to be iterated any number of times.

    Args:
        model: The model, in eval mode.
        anatomy: Its anatomy.
        token_ids: Token ids, shape (block, pos), on the CPU.
        layers: Layers to capture, 0 (from 1, at other sites than `resid_post`) to n_layers;
            none of them, and the model is not run.
        batch_size: Blocks in a forward pass, at least 1.
        site: Where in a block.
        store: `live` runs the model in each iteration. After a first whole iteration `memory`
            has the residuals in main memory, `device` on the model's device, `disk` in
            unnamed files in `folder`, all in the model's dtype, and the model is not run again.
        folder: An existing folder, for `disk`.

    Returns:
        A stream that yields `Seen` on the model's device, without gradient, usable by autograd.

    Raises:
        SettingsError: If a layer, the batch size, the site or the store is not allowed.
        ModelError: If transformer_lens does not know the model, at sites but `resid_post`.
        NumericalError: While iterating, if an activation is not finite.
        RunError: While iterating, if the disk is too small.
    """
    captured = tuple(sorted(set(layers)))
    _require_allowed(captured, anatomy.n_layers, batch_size, site)
    _require_store(store, folder)
    if site == "resid_post":
        capture: Capture = partial(resid_post, anatomy, captured)
    else:
        capture = bridged(model, anatomy, captured, site)
    # The unembedding's device is where a model that is spread over several ends.
    device = anatomy.unembedding.device
    return ResidualStream(token_ids, captured, batch_size, device, capture, store, folder)


def _require_allowed(layers: Sequence[int], n_layers: int, batch_size: int, site: str) -> None:
    if site not in get_args(Site):
        raise SettingsError(f"site must be one of {', '.join(get_args(Site))}, got {site!r}")
    if batch_size < 1:
        raise SettingsError(f"batch size must be at least 1, got {batch_size}")
    first = 0 if site == "resid_post" else 1
    outside = [layer for layer in layers if not first <= layer <= n_layers]
    if outside:
        raise SettingsError(
            f"layers at {site} must be in {first}..{n_layers} for a model of {n_layers} blocks, "
            f"got {outside}"
        )


def _require_store(store: str, folder: Path | None) -> None:
    if store not in get_args(Store):
        raise SettingsError(f"store must be one of {', '.join(get_args(Store))}, got {store!r}")
    if store == "disk" and (folder is None or not folder.is_dir()):
        raise SettingsError(f"store `disk` needs an existing folder, got {folder}")


def _slices(kept: Mapping[int, Tensor], rows: slice) -> dict[int, Tensor]:
    return {layer: resid[rows] for layer, resid in kept.items()}


def _on_disk(folder: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a tensor in a memory-mapped file that has no name and vanishes with it."""
    count = torch.Size(shape).numel()
    needed, free = count * dtype.itemsize, shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"{folder} has {free / 1e9:.1f} GB free, one layer of activations takes "
            f"{needed / 1e9:.1f} GB; use store `live`, fewer layers or fewer tokens"
        )
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        # Taken at once: where a page of a mapped file finds no room, the process is killed.
        try:
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, needed)
        except OSError as error:
            raise RunError(f"activations cannot be kept in {folder}: {error.strerror}") from None
        flat = torch.from_file(file.name, shared=True, size=count, dtype=dtype)
    return flat.view(shape)
