"""Heads that read one backbone and predict several tokens at once, each its own offset.

A head maps the residual stream x that it reads to another one, which the model's own final
norm and unembedding decode; a Medusa head stands between these two, which are shared and stay
as they are.

    block    a block of the model's own class; head 1 starts as the model's last block
    medusa   z + silu(W z) of what the norm makes of x, W zero at the start
    linear   A x + b, the identity at the start

A head may start as a linear probe of the layer that it reads, rather than as the model's last
block or the logit lens: it is then the identity, decoded by the probe's own map behind the
final norm, and what it learns is what the probe lacks.

A head reads one layer, or the mixture `mix`: the sum over l = 1 … L-1 of softmax(W / T)_l
times the stream after block l, with a W for each head.

Source: Mehra, Alonso Garcia and Mauch (2025), section 3, for blocks and mixtures (eq. 5);
Cai et al. (2024) for Medusa.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probekit.activations.backbone import Backbone, BackboneOutput
from probekit.heads.block_init import start_block
from probekit.heads.kinds import HeadConfig, Medusa, ProbeMap, identity_head, require_allowed
from probekit.models.anatomy import Anatomy
from probekit.readout import Cell, Seen
from probekit.shapes import Logits, Mask, Resid

HiddenStates = Float[Tensor, "batch pos hidden"]

# The paper's: mixtures start uniform, and T stays as it is.
TEMPERATURE, UNIFORM = 0.1, 0.1
APART = 10_007  # seeds of offsets: seed 1 at offset 3 is not seed 2 at offset 2


class Heads(nn.Module):
    """Heads by offset; made by `build` or `files.load`.

    Attributes:
        config: Their configuration.
        heads: The heads, by offset as a string.
        mixes: By offset, W of a mixture, shape (L-1,); empty where one layer is read.
        maps: By offset as a string, the probes that heads are decoded by; empty where they are
            decoded as the model is.
    """

    def __init__(
        self,
        config: HeadConfig,
        anatomy: Anatomy,
        heads: Mapping[int, nn.Module],
        maps: Mapping[int, ProbeMap] | None = None,
    ) -> None:
        """Put heads together; `build` is the way to make them."""
        super().__init__()
        self.config = config
        self.anatomy = anatomy
        self.heads = nn.ModuleDict({str(k): heads[k] for k in sorted(heads)})
        mixed = sorted(heads) if config.read == "mix" else ()
        weight = anatomy.unembedding
        self.mixes = nn.ParameterDict(
            {
                str(k): torch.full(
                    (anatomy.n_layers - 1,), UNIFORM, dtype=weight.dtype, device=weight.device
                )
                for k in mixed
            }
        )
        self.maps = nn.ModuleDict({str(k): probe for k, probe in (maps or {}).items()})
        self.requires_grad_(True)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The offsets, ascending."""
        return tuple(int(key) for key in self.heads)

    @property
    def reads(self) -> frozenset[int]:
        """Layers that the heads read."""
        if isinstance(self.config.read, int):
            return frozenset({self.config.read})
        return frozenset(range(1, self.anatomy.n_layers))

    def named_parts(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each offset with the names of its head's parameters: heads share none."""
        names = [name for name, _ in self.named_parameters()]
        for offset in self.offsets:
            yield offset, [name for name in names if name.split(".")[1] == str(offset)]

    @property
    def n_values(self) -> int:
        """Number of learned values, those of probes that heads started as included."""
        return sum(x.numel() for x in [*self.parameters(), *self.maps.buffers()])

    def decoder(self, offset: int) -> Anatomy:
        """Return how a head's residual stream is decoded: as the model's, or as by its probe."""
        if str(offset) not in self.maps:
            return self.anatomy
        probe = self.maps[str(offset)]
        assert isinstance(probe, ProbeMap)
        return probe.decoder(self.anatomy)

    def hidden(self, reading: BackboneOutput, offset: int) -> HiddenStates:
        """Return what enters the unembedding.

        Args:
            reading: What the backbone computed; holds the layers of `reads`.
            offset: One of `offsets`.

        Returns:
            The head's residual stream behind the final norm, and the map of its probe if it
            has one, shape (batch, pos, hidden).
        """
        head, resid = self.heads[str(offset)], self._input(reading, offset)
        decoder, dtype = self.decoder(offset), next(head.parameters()).dtype
        if isinstance(head, Medusa):
            out: Tensor = head(decoder.hidden(resid).to(dtype))
            return out.to(resid.dtype)
        if self.config.kind == "block":
            out = reading.call.run(head, resid)
        else:
            out = head(resid.to(dtype))
        return decoder.hidden(out.to(resid.dtype))

    def logits(
        self, hidden: Float[Tensor, "*any hidden"], offset: int
    ) -> Float[Tensor, "*any vocab"]:
        """Return the logits of what `hidden` gave at the same offset, or of rows of it."""
        head = self.heads[str(offset)]
        if not isinstance(head, Medusa) or head.unembedding is None:
            return self.decoder(offset).logits(hidden)
        logits = head.unembedding(hidden.to(head.unembedding.weight.dtype)) * self.anatomy.scale
        cap = self.anatomy.softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _input(self, reading: BackboneOutput, offset: int) -> Resid:
        if isinstance(self.config.read, int):
            return reading.resid[self.config.read]
        shares = (self.mixes[str(offset)] / TEMPERATURE).softmax(dim=0)
        # Equation 5: the sum over layers of softmax(W / T)_l times the stream after block l.
        mixed: Tensor = torch.zeros(())
        for share, layer in zip(shares, sorted(self.reads), strict=True):
            resid = reading.resid[layer]
            mixed = mixed.to(resid) + share * (
                _normalised(resid) if self.config.normalise else resid
            )
        return mixed


def build(  # noqa: PLR0913 -- the choices that make a head
    kind: str,
    anatomy: Anatomy,
    offsets: Collection[int],
    *,
    read: int | str | None = None,
    init: str | None = None,
    normalise: bool = False,
    own_unembedding: bool = False,
    probes: Mapping[int, Mapping[str, Tensor]] | None = None,
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
        own_unembedding: Give each Medusa head an unembedding of its own, the model's at first.
        probes: Linear probes of the layer read, A, b and c by offset, that the heads of these
            offsets start as; with block heads, `init` is `zero`.
        seed: Seed of `random`.

    Raises:
        SettingsError: If a choice is not allowed, or does not go with the kind.
        ModelError: If `zero` is asked of a model whose blocks cannot be the identity.
    """
    read = anatomy.n_layers - 1 if read is None else read
    config = HeadConfig(kind, read, normalise, own_unembedding)
    maps = {k: ProbeMap(tensors) for k, tensors in (probes or {}).items()}
    require_allowed(config, anatomy, offsets, init, maps)
    if kind == "block":
        heads = {k: start_block(anatomy, _start(k, init, maps), seed * APART + k) for k in offsets}
    else:
        heads = {k: identity_head(config, anatomy) for k in offsets}
    return Heads(config, anatomy, heads, maps)


def _start(offset: int, init: str | None, probed: Collection[int]) -> str:
    """Return how a block starts: that of the next token as the last block, unless a probe."""
    return "copy" if offset == 1 and offset not in probed else init or "random"


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
        offsets = [offset for offset in self.heads.offsets if offset in valid]
        if not offsets:
            return
        reading = self.backbone.read(seen.token_ids, self.heads.reads)
        layer = self.heads.config.read if isinstance(self.heads.config.read, int) else None
        for offset in offsets:
            hidden = self.heads.hidden(reading, offset)
            rows = hidden[valid[offset].to(hidden.device)]
            yield Cell(self.name, offset, layer), self.heads.logits(rows, offset).float()
