"""Fitted linear probes: a readout, and a file."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Module

from probekit.affine import scaled_unembedding
from probekit.anatomy import Anatomy
from probekit.errors import RunError
from probekit.readout import Cell, Seen
from probekit.shapes import Logits, Mask

TENSORS = ("A", "b", "c")


@dataclass(frozen=True)
class Probe:
    """One fitted probe, and what is known of the fit.

    Attributes:
        A: Slope, shape (hidden, hidden).
        b: Intercept, shape (hidden,).
        c: Bias of the logits, shape (vocab,).
        chosen: What validation preferred: `minimum`, `first minimum`, `start` or `lens`.
        penalty: λ of the objective.
        excess_nats: Estimate of the training objective above its minimum.
        converged: Whether that is within the tolerance.
        validation_nats: Mean cross-entropy on the validation positions.
    """

    A: Float[Tensor, "hidden hidden"]
    b: Float[Tensor, " hidden"]
    c: Float[Tensor, " vocab"]
    chosen: str
    penalty: float
    excess_nats: float
    converged: bool
    validation_nats: float

    @property
    def n_parameters(self) -> int:
        """Number of learned values."""
        return self.A.numel() + self.b.numel() + self.c.numel()


@dataclass(frozen=True)
class LinearProbes:
    """Probes by (layer, offset), as a readout called `linear`.

    Attributes:
        probes: Fitted probes.
        head: How the model decodes its residual stream.
        n_passes: Passes over the training positions that the fit took.
    """

    probes: Mapping[tuple[int, int], Probe]
    head: Anatomy
    n_passes: int

    @property
    def layers(self) -> frozenset[int]:
        """Layers that the probes read."""
        return frozenset(layer for layer, _ in self.probes)

    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield logits in float32, layer by layer and offset by offset."""
        unembedding = scaled_unembedding(self.head).float()
        for layer, group in groupby(sorted(self.probes), key=lambda key: key[0]):
            z = self.head.hidden(seen.resid[layer]).float()
            for _, offset in group:
                if offset in valid:
                    probe = self.probes[layer, offset]
                    hidden = z[valid[offset]] @ probe.A.T + probe.b
                    yield Cell("linear", offset, layer), hidden @ unembedding.T + probe.c


@contextmanager
def in_place_of_output(head: Anatomy, probe: Probe) -> Iterator[None]:
    """Let a probe of the last layer stand in for the model's output layer.

    Args:
        head: Anatomy of the model, without soft-cap (which the probe does not have).
        probe: A probe of (last layer, offset 1).
    """

    def replace(_: Module, inputs: tuple[Tensor, ...], __: Tensor) -> Tensor:
        hidden = inputs[0].float() @ probe.A.T + probe.b
        # The model goes on to multiply by its output scale, which c includes already.
        logits = hidden @ head.unembedding.float().T + probe.c / head.scale
        return logits.to(inputs[0].dtype)

    handle = head.head.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def save(probes: LinearProbes, path: Path, metadata: Mapping[str, str]) -> None:
    """Write probes as safetensors under keys linear/<layer>/<offset>/{A,b,c}.

    Args:
        probes: Probes, in the coordinates of z.
        path: File to write.
        metadata: What to note beside them, such as the model's fingerprint.
    """
    tensors: dict[str, Tensor] = {}
    fits: dict[str, dict[str, object]] = {}
    for (layer, offset), probe in probes.probes.items():
        key = f"linear/{layer}/{offset}"
        # Copies: cells that keep the head's own bias share it, and safetensors takes no views.
        for name in TENSORS:
            tensors[f"{key}/{name}"] = getattr(probe, name).contiguous().clone()
        fields = [field.name for field in dataclasses.fields(Probe)]
        fits[key] = {name: getattr(probe, name) for name in fields if name not in TENSORS}
    notes = {"fits": json.dumps(fits), "n_passes": str(probes.n_passes)}
    save_file(tensors, path, metadata=notes | dict(metadata))


def load(path: Path, head: Anatomy, fingerprint: str) -> LinearProbes:
    """Read probes for a model.

    Args:
        path: A file that `save` wrote.
        head: How the model decodes its residual stream.
        fingerprint: The model's; that of the file must be the same.

    Raises:
        RunError: If there is no such file, or it was fitted to another model.
    """
    if not path.is_file():
        raise RunError(f"there are no probes at {path}")
    device = str(head.unembedding.device)
    with safe_open(path, framework="pt", device=device) as file:
        metadata = file.metadata() or {}
        if not {"model_fingerprint", "fits", "n_passes"} <= metadata.keys():
            raise RunError(f"{path} holds no probes of probekit: its metadata says nothing of them")
        if metadata["model_fingerprint"] != fingerprint:
            raise RunError(f"the probes at {path} were fitted to another model than this one")
        found = {}
        for key, fit in json.loads(metadata["fits"]).items():
            _, layer, offset = key.split("/")
            tensors = {name: file.get_tensor(f"{key}/{name}") for name in TENSORS}
            found[int(layer), int(offset)] = Probe(**tensors, **fit)
    return LinearProbes(found, head, int(metadata["n_passes"]))
