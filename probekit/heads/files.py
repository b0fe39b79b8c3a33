"""Files of heads: safetensors with keys <kind>/<offset>.<parameter>; of queries, one tensor."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from probekit import tensor_files
from probekit.errors import RunError
from probekit.heads.heads import Heads, build
from probekit.heads.kinds import HeadConfig, ProbeMap
from probekit.heads.queries import QueryHeads
from probekit.models.anatomy import Anatomy

# Between the offset and the name of a tensor of the probe that a head is decoded by.
PROBE = ".probe."
# Learned queries in their file; the file of heads that come with a model.
QUERIES, BESIDE = "query/embeddings", "heads.safetensors"


def save(heads: Heads, path: Path, fingerprint: str) -> None:
    """Write heads.

    Args:
        heads: The heads.
        path: File to write.
        fingerprint: Of the model that they belong to.
    """
    tensors = {
        _key(heads.config, name): x.contiguous().clone() for name, x in heads.state_dict().items()
    }
    metadata = {
        "kind": heads.config.kind,
        "reads": str(heads.config.read),
        "form": json.dumps(dataclasses.asdict(heads.config)),
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
        RunError: If there is no such file, it is damaged, it holds other heads, or those of another
            model.
    """
    if not path.is_file():
        raise RunError(f"there are no heads at {path}")
    metadata, tensors = tensor_files.read(path)
    config = _config(metadata)
    if config is None:
        raise RunError(f"{path} holds no heads of probekit: its metadata says nothing of them")
    if kind is not None and config.kind != kind:
        raise RunError(f"{path} holds heads of kind {config.kind}, {kind} was asked for")
    if fingerprint is not None and metadata.get("model_fingerprint") != fingerprint:
        raise RunError(
            f"the heads at {path} were trained on another model than this one, or do not say on "
            "which; take those of this model"
        )
    return _filled(path, config, anatomy, tensors)


def holds_heads(path: Path) -> bool:
    """Whether there is a file, and it is one of heads that `load` reads."""
    if not path.is_file():
        return False
    with tensor_files.opened(path) as file:
        return _config(file.metadata() or {}) is not None


def beside(model: PreTrainedModel) -> Path | None:
    """Return the heads that lie beside a model's weights; None if there are none of probekit's."""
    folder = model.config.name_or_path
    path = Path(folder) / BESIDE if folder else None
    return path if path is not None and holds_heads(path) else None


def save_queries(queries: QueryHeads, path: Path, fingerprint: str) -> None:
    """Write learned queries.

    Args:
        queries: The queries.
        path: File to write.
        fingerprint: Of the model that they ask.
    """
    tensors = {QUERIES: queries.embeddings.detach().cpu().contiguous()}
    save_file(tensors, path, {"kind": "query", "model_fingerprint": fingerprint})


def load_queries(
    path: Path, model: PreTrainedModel, anatomy: Anatomy, fingerprint: str
) -> QueryHeads:
    """Read learned queries for a model.

    Raises:
        RunError: If there is no such file, or its queries are for another model.
        ModelError: If branches cannot be kept apart by a mask in this model.
    """
    if not path.is_file():
        raise RunError(f"there are no queries at {path}")
    metadata, tensors = tensor_files.read(path)
    if metadata.get("model_fingerprint") != fingerprint or metadata.get("kind") != "query":
        raise RunError(f"{path} holds no queries for this model")
    learned = tensors[QUERIES]
    queries = QueryHeads(model, anatomy, len(learned) + 1)
    with torch.no_grad():
        queries.embeddings.copy_(learned)
    return queries


def _config(metadata: Mapping[str, str]) -> HeadConfig | None:
    if "form" in metadata:
        names = {field.name for field in dataclasses.fields(HeadConfig)}
        # Earlier files name the depth of Medusa heads too; it was always 1.
        return HeadConfig(**{k: v for k, v in json.loads(metadata["form"]).items() if k in names})
    layer = re.fullmatch(r"residual stream after block (\d+)", metadata.get("reads", ""))
    return HeadConfig("block", int(layer[1])) if layer else None


def _filled(
    path: Path, config: HeadConfig, anatomy: Anatomy, tensors: Mapping[str, Tensor]
) -> Heads:
    """Return heads of a configuration, filled with the tensors of a file."""
    offsets = {_offset(key) for key in tensors}
    choices = dataclasses.asdict(config)
    if config.kind == "block":
        # Built as copies: what the file lacks at offset 1 is the last block.
        choices["init"] = "copy"
    next_token = {1} if config.kind == "block" else set()
    blank = build(anatomy=anatomy, offsets=offsets | next_token, **choices)
    for offset in sorted({_offset(key) for key in tensors if PROBE in key}):
        blank.maps[str(offset)] = ProbeMap.blank(anatomy)
    keys = {name: _key(config, name) for name in blank.state_dict()}
    required = {name: key for name, key in keys.items() if _offset(key) in offsets}
    expected = {key: blank.state_dict()[name].shape for name, key in required.items()}
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    if expected != shapes:
        wrong = sorted(dict(expected.items() ^ shapes.items()))
        raise RunError(f"the heads at {path} do not fit this model: {', '.join(wrong[:3])}")
    blank.to(next(iter(tensors.values())).dtype)
    blank.load_state_dict({name: tensors[key] for name, key in required.items()}, strict=False)
    return blank


def _key(config: HeadConfig, name: str) -> str:
    """Return the key in a file.

    `heads.2.mlp.weight` is block/2.mlp.weight, `mixes.2` block/2.mix, `maps.2.A` block/2.probe.A.
    """
    collection, _, rest = name.partition(".")
    if collection == "mixes":
        return f"{config.kind}/{rest}.mix"
    return f"{config.kind}/{rest.replace('.', PROBE) if collection == 'maps' else rest}"


def _offset(key: str) -> int:
    """Return the offset in a key, such as 2 in block/2.mix."""
    return int(key.partition("/")[2].partition(".")[0])
