"""Fitted probes of every family, as a readout.

Of a layer a probe reads z, what enters the unembedding: the model's final norm applied to
the residual stream. U is the frozen unembedding with the model's output scale.

linear          U (A z + b) + c         z of one layer
concat          U (A z + b) + c         z of all layers side by side
linear-full     A z + c                 A of (vocab, hidden): not bound to the rows of U
linear-lowrank  B (A z) + c             A of (rank, hidden), B of (vocab, rank)
mlp             U (A z + b + W silu(V z + v)) + c
sklearn         log p of the N most frequent tokens, A z + c, and of all others together
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, silu

from probekit.data.targets import Targets
from probekit.models.anatomy import Anatomy
from probekit.probes.convex.affine_objective import scaled_unembedding
from probekit.readout import (
    CONCAT,
    LINEAR,
    LINEAR_FULL,
    LINEAR_LOWRANK,
    MLP,
    SKLEARN,
    Cell,
    Seen,
)
from probekit.shapes import Hidden, Logits, Mask

ProbeKey = tuple[int | None, int]  # layer, None for all that are read, and offset
Examples = tuple[Iterable[Seen], Targets]  # a stream, read once a pass, and its targets
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Probe:
    """One fitted probe, and what is known of the fit.

    Attributes:
        tensors: Learned values by name, as the family has them.
        chosen: What validation preferred, such as `minimum`, `start`, `lens` or `unigram`.
        penalty: Weight of the penalty that validation preferred.
        excess_nats: Estimate of the training objective above its minimum; None where that
            is not convex.
        converged: Whether that is within the tolerance; where the objective is not convex,
            whether validation stopped the training before its last step.
        validation_nats: Mean cross-entropy on the validation positions.
    """

    tensors: Tensors
    chosen: str
    penalty: float
    excess_nats: float | None
    converged: bool
    validation_nats: float

    @property
    def n_parameters(self) -> int:
        """Number of learned values."""
        return sum(tensor.numel() for tensor in self.tensors.values())


@dataclass(frozen=True)
class Probes:
    """Probes of one family by (layer, offset), as a readout; layer None reads all of `read`.

    Attributes:
        probes: Fitted probes.
        anatomy: How the model decodes its residual stream.
        n_passes: Passes over the training positions that the fit took.
        family: One of `FORMS`.
        read: Layers that a probe of all layers reads, in order.
        name: Name of the readout; by default the family's.
    """

    probes: Mapping[ProbeKey, Probe]
    anatomy: Anatomy
    n_passes: int
    family: str = LINEAR
    read: tuple[int, ...] = ()
    name: str = field(default="")

    @property
    def layers(self) -> frozenset[int]:
        """Layers that the probes read."""
        return frozenset({*self.read, *(layer for layer, _ in self.probes if layer is not None)})

    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield logits in float32, layer by layer and offset by offset."""
        form = FORMS[self.family]
        unembedding = scaled_unembedding(self.anatomy).float()
        for layer, group in groupby(sorted(self.probes, key=_order), key=lambda key: key[0]):
            z = final_hidden(self.anatomy, seen, self.read if layer is None else (layer,))
            for _, offset in group:
                if offset in valid:
                    logits = form(self.probes[layer, offset].tensors, z[valid[offset]], unembedding)
                    yield Cell(self.name or self.family, offset, layer), logits


def final_hidden(
    anatomy: Anatomy, seen: Seen, layers: tuple[int, ...]
) -> Float[Tensor, "batch pos features"]:
    """Return z: the final norm applied to each of these layers, side by side, in float32."""
    return torch.cat([anatomy.hidden(seen.resid[layer]).float() for layer in layers], dim=-1)


def _order(key: ProbeKey) -> tuple[int, int]:
    layer, offset = key
    return (-1 if layer is None else layer), offset


def _affine(probe: Tensors, z: Hidden, unembedding: Tensor) -> Logits:
    # A sum of its own would take another pass over [n, vocab].
    hidden = linear(z, probe["A"], probe["b"])
    return linear(hidden, unembedding, probe["c"])


def _full(probe: Tensors, z: Hidden, _: Tensor) -> Logits:
    return z @ probe["A"].T + probe["c"]


def _lowrank(probe: Tensors, z: Hidden, _: Tensor) -> Logits:
    return (z @ probe["A"].T) @ probe["B"].T + probe["c"]


def _mlp(probe: Tensors, z: Hidden, unembedding: Tensor) -> Logits:
    bent = silu(z @ probe["V"].T + probe["v"]) @ probe["W"].T
    return (z @ probe["A"].T + probe["b"] + bent) @ unembedding.T + probe["c"]


def _frequent(probe: Tensors, z: Hidden, _: Tensor) -> Logits:
    # The last class is all the tokens that have none of their own, which `rest` shares out.
    of_classes = (z @ probe["A"].T + probe["c"]).log_softmax(dim=1)
    logits = of_classes[:, -1:] + probe["rest"]
    logits[:, probe["tokens"]] = of_classes[:, :-1]
    return logits


# The logits of a family, from its tensors, z and U in float32.
FORMS = {
    LINEAR: _affine,
    CONCAT: _affine,
    LINEAR_FULL: _full,
    LINEAR_LOWRANK: _lowrank,
    MLP: _mlp,
    SKLEARN: _frequent,
}


@contextmanager
def in_place_of_output(anatomy: Anatomy, probe: Probe) -> Iterator[None]:
    """Let a linear probe of the last layer stand in for the model's output layer.

    Args:
        anatomy: Anatomy of the model, without soft-cap (which the probe does not have).
        probe: A probe of (last layer, offset 1), of the family `linear`.
    """
    slope, shift, bias = (probe.tensors[name] for name in ("A", "b", "c"))

    def replaced(hidden: Tensor) -> Tensor:
        mapped = linear(hidden.float(), slope, shift)
        # The model goes on to multiply by its output scale, which c includes already.
        logits = linear(mapped, anatomy.unembedding.float(), bias / anatomy.scale)
        return logits.to(hidden.dtype)

    output: Any = anatomy.output_embeddings
    patched = output.__dict__.get("forward")  # where somebody patched it
    output.forward = replaced
    try:
        yield
    finally:
        del output.forward
        if patched is not None:
            output.forward = patched
