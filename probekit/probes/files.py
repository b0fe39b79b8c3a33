"""Files of fitted probes, in safetensors."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from probekit import tensor_files
from probekit.errors import RunError
from probekit.models.anatomy import Anatomy
from probekit.probes.probe import Probe, ProbeKey, Probes


def write_probes(probes: Probes, path: Path, metadata: Mapping[str, str]) -> None:
    """Write probes as safetensors under keys <family>/<layer or all>/<offset>/<tensor>.

    Args:
        probes: Probes, in the coordinates of z.
        path: File to write.
        metadata: What to note beside them, such as the model's fingerprint.
    """
    tensors: dict[str, Tensor] = {}
    fits: dict[str, dict[str, Any]] = {}
    for (layer, offset), probe in probes.probes.items():
        key = f"{probes.family}/{'all' if layer is None else layer}/{offset}"
        # Copies: cells that keep the head's own bias share it, and safetensors takes no views.
        tensors |= {f"{key}/{name}": x.contiguous().clone() for name, x in probe.tensors.items()}
        fits[key] = {
            f.name: getattr(probe, f.name) for f in dataclasses.fields(Probe) if f.name != "tensors"
        }
    whole = {"n_passes": probes.n_passes, "read": probes.read, "name": probes.name}
    notes = {"family": probes.family, "probes": json.dumps(whole), "fits": json.dumps(fits)}
    save_file(tensors, path, metadata=notes | dict(metadata))


def read_probes(path: Path, anatomy: Anatomy, fingerprint: str) -> Probes:
    """Read probes for a model.

    Args:
        path: A file that `write_probes` wrote.
        anatomy: How the model decodes its residual stream.
        fingerprint: The model's; that of the file must be the same.

    Raises:
        RunError: If there is no such file, it is damaged, or it was fitted to another model.
    """
    if not path.is_file():
        raise RunError(f"there are no probes at {path}")
    metadata, stored = tensor_files.read(path, str(anatomy.unembedding.device))
    if not {"model_fingerprint", "fits", "family", "probes"} <= metadata.keys():
        raise RunError(f"{path} holds no probes of probekit: its metadata says nothing of them")
    if metadata["model_fingerprint"] != fingerprint:
        raise RunError(f"the probes at {path} were fitted to another model than this one")
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in stored.items():
        key, _, last = name.rpartition("/")
        tensors.setdefault(key, {})[last] = tensor
    try:
        fits, whole = json.loads(metadata["fits"]), json.loads(metadata["probes"])
        probes = {_key(key): Probe(tensors[key], **fit) for key, fit in fits.items()}
        whole["read"] = tuple(whole["read"])
        return Probes(probes, anatomy, family=metadata["family"], **whole)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} holds no probes of this version of probekit: {error}") from None


def _key(text: str) -> ProbeKey:
    _, layer, offset = text.split("/")
    return (None if layer == "all" else int(layer)), int(offset)
