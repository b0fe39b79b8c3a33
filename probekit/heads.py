"""Heads that read one backbone and predict several tokens at once, each its own offset.

A head maps the residual stream that it reads to another one, which the model's own final
norm and unembedding decode. These two are shared and stay as they are.

    block    a block of the model's own class; head 1 starts as the model's last block
    medusa   x + silu(W x), once or several times, W zero at the start
    linear   A x + b, the identity at the start

A head reads one layer, or the mixture `mix`: the sum over l = 1 … L-1 of softmax(W / T)_l
times the stream after block l, with a W for each head.

Source: Mehra, Alonso Garcia and Mauch (2025), section 3, for blocks and mixtures (eq. 5);
Cai et al. (2024) for Medusa.
"""

import dataclasses
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from probekit.anatomy import Anatomy
from probekit.backbone import Backbone, Reading
from probekit.blocks import start_block
from probekit.errors import RunError
from probekit.forms import Form, Medusa, require_allowed, start_map
from probekit.readout import Cell, Seen
from probekit.shapes import Logits, Mask, Resid

HiddenStates = Float[Tensor, "batch pos hidden"]

# The paper's: mixtures start uniform, and T stays as it is.
TEMPERATURE, UNIFORM = 0.1, 0.1
APART = 10_007  # seeds of offsets: seed 1 at offset 3 is not seed 2 at offset 2


class Heads(nn.Module):
    """Heads by offset; made by `build` or `load`.

    Attributes:
        form: What kind of heads these are.
        heads: The heads, by offset as a string.
        mixes: By offset, W of a mixture, shape (L-1,); empty where one layer is read.
    """

    def __init__(self, form: Form, anatomy: Anatomy, heads: Mapping[int, nn.Module]) -> None:
        """Put heads together; `build` is the way to make them."""
        super().__init__()
        self.form = form
        self.anatomy = anatomy
        self.heads = nn.ModuleDict({str(k): heads[k] for k in sorted(heads)})
        mixed = sorted(heads) if form.read == "mix" else ()
        weight = anatomy.unembedding
        self.mixes = nn.ParameterDict(
            {
                str(k): torch.full(
                    (anatomy.n_layers - 1,), UNIFORM, dtype=weight.dtype, device=weight.device
                )
                for k in mixed
            }
        )
        self.requires_grad_(True)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The offsets, ascending."""
        return tuple(int(key) for key in self.heads)

    @property
    def reads(self) -> frozenset[int]:
        """Layers that the heads read."""
        if isinstance(self.form.read, int):
            return frozenset({self.form.read})
        return frozenset(range(1, self.anatomy.n_layers))

    def hidden(self, reading: Reading, offset: int) -> HiddenStates:
        """Return what enters the unembedding.

        Args:
            reading: What the backbone computed; holds the layers of `reads`.
            offset: One of `offsets`.

        Returns:
            The head's residual stream behind the final norm, shape (batch, pos, hidden).
        """
        head, resid = self.heads[str(offset)], self._input(reading, offset)
        if self.form.kind == "block":
            out = reading.call.run(head, resid)
        else:
            out = head(resid.to(next(head.parameters()).dtype))
        return self.anatomy.hidden(out.to(resid.dtype))

    def logits(
        self, hidden: Float[Tensor, "*any hidden"], offset: int
    ) -> Float[Tensor, "*any vocab"]:
        """Return the logits of what `hidden` gave at the same offset, or of rows of it."""
        head = self.heads[str(offset)]
        if not isinstance(head, Medusa) or head.unembedding is None:
            return self.anatomy.logits(hidden)
        logits = head.unembedding(hidden.to(head.unembedding.weight.dtype)) * self.anatomy.scale
        cap = self.anatomy.softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _input(self, reading: Reading, offset: int) -> Resid:
        if isinstance(self.form.read, int):
            return reading.resid[self.form.read]
        shares = (self.mixes[str(offset)] / TEMPERATURE).softmax(dim=0)
        mixed: Tensor = torch.zeros(())
        for share, layer in zip(shares, sorted(self.reads), strict=True):
            resid = reading.resid[layer]
            mixed = mixed.to(resid) + share * (_normalised(resid) if self.form.normalise else resid)
        return mixed


def build(  # noqa: PLR0913 -- the choices that make a head
    kind: str,
    anatomy: Anatomy,
    offsets: Collection[int],
    *,
    read: int | str | None = None,
    init: str | None = None,
    normalise: bool = False,
    depth: int = 1,
    own_unembedding: bool = False,
    seed: int = 0,
) -> Heads:
    """Make new heads for a model, ready to be trained; they share no weight with it.

    A block head at offset 1 always starts as the model's last block, so that from layer L-1
    it is the model. Medusa and linear heads start as the identity: the logit lens.

    Args:
        kind: `block`, `medusa` or `linear`.
        anatomy: The model's.
        offsets: Offsets to predict, each at least 1.
        read: Layer to read, 0 … n_layers, or `mix`; by default L-1.
        init: How block heads beyond offset 1 start: `random` (the default) by the model's own
            rule, `copy` as its last block, `zero` as the identity.
        normalise: In a mixture, divide each layer by its RMS at each position first.
        depth: Residual blocks in a Medusa head, at least 1.
        own_unembedding: Give each Medusa head an unembedding of its own, the model's at first.
        seed: Seed of `random`.

    Raises:
        SettingsError: If a choice is not allowed, or does not go with the kind.
        ModelError: If `zero` is asked of a model whose blocks cannot be the identity.
    """
    form = Form(
        kind, anatomy.n_layers - 1 if read is None else read, normalise, depth, own_unembedding
    )
    require_allowed(form, anatomy, offsets, init)
    if kind == "block":
        heads = {
            k: start_block(anatomy, "copy" if k == 1 else init or "random", seed * APART + k)
            for k in offsets
        }
    else:
        heads = {k: start_map(form, anatomy) for k in offsets}
    return Heads(form, anatomy, heads)


def _normalised(resid: Resid) -> Resid:
    """Return a residual stream with RMS 1 at each position."""
    rms = resid.float().square().mean(dim=-1, keepdim=True).sqrt()
    return resid / rms.clamp(min=torch.finfo(torch.float32).tiny).to(resid)


@dataclass(frozen=True)
class HeadReadout:
    """Heads as a readout; it runs the backbone itself, as far as they read.

    Attributes:
        name: Name of the readout, such as `head:block`.
        backbone: The model's.
        heads: The heads.
        anatomy: The model's.
        layers: None are captured for it.
    """

    name: str
    backbone: Backbone
    heads: Heads
    anatomy: Anatomy
    layers: frozenset[int] = frozenset()

    @torch.no_grad()
    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield logits in float32, offset by offset; the layer is the one that is read."""
        wanted = [offset for offset in self.heads.offsets if offset in valid]
        if not wanted:
            return
        reading = self.backbone.read(seen.token_ids, self.heads.reads)
        layer = self.heads.form.read if isinstance(self.heads.form.read, int) else None
        for offset in wanted:
            hidden = self.heads.hidden(reading, offset)
            rows = hidden[valid[offset].to(hidden.device)]
            yield Cell(self.name, offset, layer), self.heads.logits(rows, offset).float()


def save(heads: Heads, path: Path, fingerprint: str) -> None:
    """Write heads as safetensors under keys <kind>/<offset>.<parameter>.

    Args:
        heads: The heads.
        path: File to write.
        fingerprint: Of the model that they belong to.
    """
    tensors = {
        _key(heads.form, name): x.contiguous().clone() for name, x in heads.state_dict().items()
    }
    metadata = {
        "kind": heads.form.kind,
        "reads": str(heads.form.read),
        "form": json.dumps(dataclasses.asdict(heads.form)),
        "model_fingerprint": fingerprint,
    }
    save_file(tensors, path, metadata=metadata)


def load(path: Path, anatomy: Anatomy, fingerprint: str | None, kind: str | None = None) -> Heads:
    """Read heads for a model.

    A file of blocks that says no more of them than `reads: residual stream after block l`, as
    those that come with a model trained on several offsets, is read too. Where a file has blocks
    but none at offset 1, that head is the model's own last block.

    Args:
        path: The file.
        anatomy: The model's.
        fingerprint: The model's; that of the file must be the same. None if the caller knows
            that they belong together, such as when both lie in one folder.
        kind: What the heads must be; None for any kind.

    Returns:
        The heads, in the file's dtype, on the model's device.

    Raises:
        RunError: If there is no such file, it holds other heads, or those of another model.
    """
    if not path.is_file():
        raise RunError(f"there are no heads at {path}")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- no dict
    form = _form(path, metadata)
    if kind is not None and form.kind != kind:
        raise RunError(f"{path} holds heads of kind {form.kind}, {kind} was asked for")
    if fingerprint is not None and metadata.get("model_fingerprint") != fingerprint:
        raise RunError(
            f"the heads at {path} were trained on another model than this one, or do not say on "
            "which; take those of this model"
        )
    return _filled(path, form, anatomy, tensors)


def _form(path: Path, metadata: Mapping[str, str]) -> Form:
    if "form" in metadata:
        return Form(**json.loads(metadata["form"]))
    told = re.fullmatch(r"residual stream after block (\d+)", metadata.get("reads", ""))
    if told is None:
        raise RunError(f"{path} holds no heads of probekit: its metadata says nothing of them")
    return Form("block", int(told[1]))


def _filled(path: Path, form: Form, anatomy: Anatomy, tensors: Mapping[str, Tensor]) -> Heads:
    offsets = {_offset(key) for key in tensors}
    given = dataclasses.asdict(form)
    if form.kind == "block":
        # Built as copies: what the file lacks at offset 1 is the last block.
        given["init"] = "copy"
    blank = build(anatomy=anatomy, offsets=offsets | ({1} if "init" in given else set()), **given)
    keys = {name: _key(form, name) for name in blank.state_dict()}
    required = {name: key for name, key in keys.items() if _offset(key) in offsets}
    own = {key: blank.state_dict()[name].shape for name, key in required.items()}
    found = {key: tensor.shape for key, tensor in tensors.items()}
    if own != found:
        wrong = sorted(dict(own.items() ^ found.items()))
        raise RunError(f"the heads at {path} do not fit this model: {', '.join(wrong[:3])}")
    blank.to(next(iter(tensors.values())).dtype)
    blank.load_state_dict({name: tensors[key] for name, key in required.items()}, strict=False)
    return blank


def _key(form: Form, name: str) -> str:
    """Return the key in a file: heads.2.mlp.weight is block/2.mlp.weight, mixes.2 block/2.mix."""
    collection, _, rest = name.partition(".")
    return f"{form.kind}/{rest}.mix" if collection == "mixes" else f"{form.kind}/{rest}"


def _offset(key: str) -> int:
    """Return the offset in a key, such as 2 in block/2.mix."""
    return int(key.partition("/")[2].partition(".")[0])
