"""Configurations of heads, and the modules of Medusa heads, linear heads and probes.

Medusa heads and linear heads start as the identity, so as the logit lens of what they read.
Source: Cai et al. (2024) for Medusa.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from probekit.errors import SettingsError
from probekit.heads.block_init import Init
from probekit.models.anatomy import Anatomy

Kind = Literal["block", "medusa", "linear"]

# Of a probe of family `linear`.
PROBE_TENSORS = ("A", "b", "c")


@dataclass(frozen=True)
class HeadConfig:
    """The configuration of heads: all that is not in their weights.

    Attributes:
        kind: `block`, `medusa` or `linear`.
        read: The layer that they read, or `mix`.
        normalise: Whether a mixture divides each layer by its RMS first.
        own_unembedding: Whether each Medusa head has an unembedding of its own.
    """

    kind: str
    read: int | str
    normalise: bool = False
    own_unembedding: bool = False


class Medusa(nn.Module):
    """A residual block z + silu(W z) behind the final norm, and perhaps an unembedding."""

    def __init__(self, width: int, unembedding: nn.Linear | None) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.linear.weight)
        self.unembedding = unembedding

    def forward(self, z: Float[Tensor, "*any hidden"]) -> Float[Tensor, "*any hidden"]:
        """Return what the block makes of what enters the unembedding, in the same shape."""
        return z + silu(self.linear(z))


class Output(nn.Module):
    """The model's unembedding with another bias, as `Anatomy.output_embeddings` has it."""

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


def identity_head(config: HeadConfig, anatomy: Anatomy) -> nn.Module:
    """Return a Medusa or linear head that is the identity, in the model's dtype."""
    weight = anatomy.unembedding
    if config.kind == "medusa":
        own = _own_unembedding(anatomy) if config.own_unembedding else None
        return Medusa(anatomy.d_hidden, own).to(weight)
    linear = nn.Linear(anatomy.d_model, anatomy.d_model)
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
    config: HeadConfig,
    anatomy: Anatomy,
    offsets: Collection[int],
    init: str | None,
    probed: Collection[int],
) -> None:
    """Raise a SettingsError unless such heads can be built."""
    if config.kind not in get_args(Kind):
        raise SettingsError(f"kind must be one of {', '.join(get_args(Kind))}, got {config.kind!r}")
    if not offsets or min(offsets) < 1:
        raise SettingsError(f"offsets must be 1 or more, at least one, got {sorted(offsets)}")
    last = anatomy.n_layers
    if config.read == "mix":
        if last < 2:
            raise SettingsError("a mixture needs a model of at least 2 blocks, got 1; read a layer")
    elif not (isinstance(config.read, int) and 0 <= config.read <= last):
        raise SettingsError(f"read must be mix or a layer in 0..{last}, got {config.read!r}")
    _require_fitting(config, init)
    if probed and not (set(probed) <= set(offsets) and config.read != "mix"):
        raise SettingsError(
            f"heads that start as probes read one layer, and are of the offsets {sorted(offsets)}; "
            f"got probes of {sorted(probed)}, read {config.read}"
        )
    if probed and (config.own_unembedding or (config.kind == "block" and init != "zero")):
        raise SettingsError(
            "heads that start as probes start as the identity and share the unembedding; take "
            "init zero, and no own_unembedding"
        )


def _require_fitting(config: HeadConfig, init: str | None) -> None:
    if init is not None and init not in get_args(Init):
        raise SettingsError(f"init must be one of {', '.join(get_args(Init))}, got {init!r}")
    if config.kind != "block" and init not in (None, "zero"):
        raise SettingsError(
            f"{config.kind} heads start as the identity; leave init out, got {init}"
        )
    if config.normalise and config.read != "mix":
        raise SettingsError(f"normalise is for the mixture; read mix, got layer {config.read}")
    if config.own_unembedding and config.kind != "medusa":
        raise SettingsError(f"own_unembedding is for medusa heads, got {config.kind}")
