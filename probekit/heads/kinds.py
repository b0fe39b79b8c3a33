"""What kinds of heads there are, and how those that are no blocks start.

Medusa heads and linear heads start as the identity, so as the logit lens of what they read.
Source: Cai et al. (2024) for Medusa.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn.functional import silu

from probekit.errors import SettingsError
from probekit.heads.block_init import Init
from probekit.models.anatomy import Anatomy
from probekit.shapes import Resid

Kind = Literal["block", "medusa", "linear"]

# Of a probe of family `linear`.
PROBE_TENSORS = ("A", "b", "c")


@dataclass(frozen=True)
class Form:
    """What kind of heads these are: all that is not in their weights.

    Attributes:
        kind: `block`, `medusa` or `linear`.
        read: The layer that they read, or `mix`.
        normalise: Whether a mixture divides each layer by its RMS first.
        depth: Residual blocks in a Medusa head.
        own_unembedding: Whether each Medusa head has an unembedding of its own.
    """

    kind: str
    read: int | str
    normalise: bool = False
    depth: int = 1
    own_unembedding: bool = False


class Medusa(nn.Module):
    """Residual blocks x + silu(W x), and an unembedding if the head has its own."""

    def __init__(self, width: int, depth: int, unembedding: nn.Linear | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        for block in self.blocks:
            nn.init.zeros_(block.weight)  # type: ignore[arg-type]
        self.unembedding = unembedding

    def forward(self, x: Resid) -> Resid:
        """Return what the residual blocks make of a residual stream."""
        for block in self.blocks:
            x = x + silu(block(x))
        return x


class Output(nn.Module):
    """An unembedding with a bias of another: what `Anatomy.output_embeddings` is asked for."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias


class ProbeMap(nn.Module):
    """A fitted linear probe, A z + b with c at its logits, that a head is decoded by.

    A head that is the identity and is decoded by the probe of the layer that it reads is that
    probe. What was fitted stays as it is when the head is trained.
    """

    A: Tensor
    b: Tensor
    c: Tensor

    def __init__(self, fitted: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name in PROBE_TENSORS:
            self.register_buffer(name, fitted[name].detach().clone())

    @classmethod
    def blank(cls, anatomy: Anatomy) -> "ProbeMap":
        """Return one of zeros, to be filled from a file."""
        width, vocab = anatomy.d_hidden, anatomy.vocab_size
        shapes = ((width, width), (width,), (vocab,))
        zeros = [anatomy.unembedding.new_zeros(shape) for shape in shapes]
        return cls(dict(zip(PROBE_TENSORS, zeros, strict=True)))

    def forward(self, z: Tensor) -> Tensor:
        """Return A z + b, in the dtype of z."""
        return nn.functional.linear(z.to(self.A.dtype), self.A, self.b).to(z.dtype)

    def decoder(self, anatomy: Anatomy) -> Anatomy:
        """Return an anatomy that decodes a residual stream as the probe does: without soft-cap."""
        output = Output(anatomy.unembedding, (self.c / anatomy.scale).to(anatomy.unembedding))
        return replace(
            anatomy, final=(*anatomy.final, self), output_embeddings=output, softcap=None
        )


def start_map(form: Form, anatomy: Anatomy) -> nn.Module:
    """Return a Medusa or linear head that is the identity, in the model's dtype."""
    weight, width = anatomy.unembedding, anatomy.d_model
    if form.kind == "medusa":
        own = _own_unembedding(anatomy) if form.own_unembedding else None
        return Medusa(width, form.depth, own).to(weight)
    linear = nn.Linear(width, width)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear.to(weight)


def _own_unembedding(anatomy: Anatomy) -> nn.Linear:
    bias = anatomy.bias
    own = nn.Linear(anatomy.d_hidden, anatomy.vocab_size, bias=bias is not None)
    own.weight.data = anatomy.unembedding.clone()
    if bias is not None:
        own.bias.data = bias.clone()
    return own


def require_allowed(
    form: Form,
    anatomy: Anatomy,
    offsets: Collection[int],
    init: str | None,
    probed: Collection[int],
) -> None:
    """Raise a SettingsError unless such heads can be built."""
    if form.kind not in get_args(Kind):
        raise SettingsError(f"kind must be one of {', '.join(get_args(Kind))}, got {form.kind!r}")
    if not offsets or min(offsets) < 1:
        raise SettingsError(f"offsets must be 1 or more, at least one, got {sorted(offsets)}")
    last = anatomy.n_layers
    if form.read == "mix":
        if last < 2:
            raise SettingsError("a mixture needs a model of at least 2 blocks, got 1; read a layer")
    elif not (isinstance(form.read, int) and 0 <= form.read <= last):
        raise SettingsError(f"read must be mix or a layer in 0..{last}, got {form.read!r}")
    _require_fitting(form, init)
    if probed and not (set(probed) <= set(offsets) and form.read != "mix"):
        raise SettingsError(
            f"heads that start as probes read one layer, and are of the offsets {sorted(offsets)}; "
            f"got probes of {sorted(probed)}, read {form.read}"
        )
    if probed and (form.own_unembedding or (form.kind == "block" and init != "zero")):
        raise SettingsError(
            "heads that start as probes start as the identity and share the unembedding; take "
            "init zero, and no own_unembedding"
        )


def _require_fitting(form: Form, init: str | None) -> None:
    if init is not None and init not in get_args(Init):
        raise SettingsError(f"init must be one of {', '.join(get_args(Init))}, got {init!r}")
    if form.kind != "block" and init not in (None, "zero"):
        raise SettingsError(f"{form.kind} heads start as the identity; leave init out, got {init}")
    if form.normalise and form.read != "mix":
        raise SettingsError(f"normalise is for the mixture; read mix, got layer {form.read}")
    if form.depth < 1:
        raise SettingsError(f"depth must be 1 or more, got {form.depth}")
    if form.kind != "medusa" and (form.depth != 1 or form.own_unembedding):
        raise SettingsError(f"depth and own_unembedding are for medusa heads, got {form.kind}")
