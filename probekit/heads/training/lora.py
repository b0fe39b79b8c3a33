"""LoRA on queries, keys and values: attached, detached, merged into a copy, saved.

    h = W x + (alpha / rank) B A x        W frozen, B zero at the start

Modules are found in the blocks by what they are called, whether queries, keys and values have a
matrix each or one together; where a block has none, its linear modules are named in the error.

Source: Hu et al. (2022), "LoRA: low-rank adaptation of large language models".
"""

import copy
import importlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from probekit import tensor_files
from probekit.errors import ModelError, RunError, SettingsError
from probekit.files import write_checked
from probekit.models.anatomy import Anatomy

# q_proj, key, W_v … or two or three of them in one: query_key_value, qkv_proj, Wqkv, c_attn,
# and the compressed ones of multi-head latent attention: q_a_proj, kv_b_proj.
QKV = re.compile(
    r"(w_?)?(q|k|v|kv|qkv)(_[ab])?(_(proj|lin|linear))?(_with_mqa)?"
    r"|(query|key|value|query_key_value)(_(proj|layer))?|c_attn",
    re.IGNORECASE,
)


def attach(
    model: PreTrainedModel,
    anatomy: Anatomy,
    layers: Collection[int],
    *,
    rank: int,
    alpha: float,
    seed: int = 0,
) -> Mapping[str, nn.Parameter]:
    """Put LoRA on queries, keys and values of some blocks; at first it changes nothing.

    Args:
        model: A causal language model without adapters, in eval mode; it is changed in place.
        anatomy: Its anatomy, which stays true of it.
        layers: Blocks, 1 … n_layers.
        rank: Rank of what is added, at least 1.
        alpha: What is added is scaled by alpha / rank.
        seed: Seed of the first values.

    Returns:
        What there is to train, by name, in float32 (float64 where the model is); no other
        parameter of the model is changed.

    Raises:
        SettingsError: If a layer or the rank is not allowed.
        ModelError: If the model has adapters, or a block no such modules.
    """
    if rank < 1:
        raise SettingsError(f"the rank of LoRA must be at least 1, got {rank}")
    if parameters(model):
        raise ModelError("the model has adapters already; take them off with `detach` first")
    names = targets(model, anatomy, layers)
    fused = isinstance(model.get_submodule(names[0]), Conv1D)
    peft = _peft()
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=names, fan_in_fan_out=fused, lora_dropout=0.0
    )
    trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    # peft draws from torch's own generator alone, and freezes all there is.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, model)
    model.eval()
    added = parameters(model)
    for parameter in added.values():
        if model.dtype != torch.float64:
            parameter.data = parameter.data.float()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trainable.get(name.replace(".base_layer.", "."), True))
    return added


def targets(model: PreTrainedModel, anatomy: Anatomy, layers: Collection[int]) -> list[str]:
    """Return the names of the modules that LoRA would go on.

    Args:
        model: A causal language model.
        anatomy: Its anatomy.
        layers: Blocks, 1 … n_layers.

    Raises:
        SettingsError: If a layer is not allowed.
        ModelError: If a block has no such modules, or peft is not installed.
    """
    _peft()
    outside = sorted(layer for layer in layers if not 1 <= layer <= anatomy.n_layers)
    if outside or not layers:
        raise SettingsError(
            f"LoRA goes on blocks in 1..{anatomy.n_layers}, got {outside or 'none'}"
        )
    names = []
    for layer in sorted(layers):
        in_block = _of_block(model, anatomy, layer)
        if not in_block:
            raise ModelError(
                f"block {layer} of {type(model).__name__} has no queries, keys and values that "
                f"LoRA could go on; its linear modules are called {_linear_names(anatomy, layer)}"
            )
        names += in_block
    return names


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of a model's adapters by name; none where it has no adapters."""
    return {name: p for name, p in model.named_parameters() if ".lora_" in name}


def detach(model: nn.Module) -> None:
    """Take the adapters off: the base model, bit for bit, as it was before."""
    for name, layer in list(_adapted(model)):
        _replace(model, name, layer.get_base_layer())
    # A note of peft's, by which it would take the next adapters for a second set.
    model.__dict__.pop("peft_config", None)


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the model with its adapters added to its weights.

    Returns:
        A model of the same class without adapters, in eval mode, whose memory is its own.
    """
    whole = copy.deepcopy(model)
    for _, layer in _adapted(whole):
        layer.merge(safe_merge=True)
    detach(whole)
    return whole


def save(model: PreTrainedModel, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the adapters of a model as safetensors, whole or not at all.

    Args:
        model: A model with adapters.
        path: File to write.
        metadata: What to note beside them, such as the base model's fingerprint.

    Raises:
        ModelError: If the model has no adapters.
        RunError: If the file cannot be written.
    """
    adapted = dict(_adapted(model))
    if not adapted:
        raise ModelError("the model has no adapters to save; `attach` puts some on")
    first = next(iter(adapted.values()))
    notes = {
        "modules": json.dumps(list(adapted)),
        "rank": str(first.r["default"]),
        "alpha": str(float(first.lora_alpha["default"])),
    }
    tensors = {name: p.detach().cpu().contiguous() for name, p in parameters(model).items()}
    write_checked(path, lambda temporary: save_file(tensors, temporary, notes | dict(metadata)))


def load(model: PreTrainedModel, anatomy: Anatomy, path: Path) -> Mapping[str, str]:
    """Put saved adapters on a model.

    Args:
        model: The base model, without adapters; it is changed in place.
        anatomy: Its anatomy.
        path: A file that `save` wrote.

    Returns:
        What was noted beside them.

    Raises:
        RunError: If there is no such file, or it is of a model that is built otherwise.
    """
    if not path.is_file():
        raise RunError(f"there are no adapters at {path}")
    notes, tensors = tensor_files.read(path)
    if not {"modules", "rank", "alpha"} <= notes.keys():
        raise RunError(f"{path} holds no adapters: its metadata says nothing of them")
    names = set(json.loads(notes["modules"]))
    every = range(1, anatomy.n_layers + 1)
    layers = [n for n in every if names & set(_of_block(model, anatomy, n))]
    if not names or names != {x for n in layers for x in _of_block(model, anatomy, n)}:
        raise RunError(f"the adapters at {path} are of a model that is built otherwise")
    added = attach(model, anatomy, layers, rank=int(notes["rank"]), alpha=float(notes["alpha"]))
    with torch.no_grad():
        for name, parameter in added.items():
            parameter.copy_(tensors[name])
    return notes


def _peft() -> Any:
    try:
        return importlib.import_module("peft")
    except ImportError:
        raise ModelError("LoRA needs peft: pip install 'probekit-mtp[heads]'") from None


def _of_block(model: PreTrainedModel, anatomy: Anatomy, layer: int) -> list[str]:
    """Return the whole names of the modules of a block that make queries, keys and values."""
    inside = {module for _, module in _linear(anatomy, layer)}
    return [
        name
        for name, module in model.named_modules()
        if module in inside and QKV.fullmatch(name.rpartition(".")[2])
    ]


def _linear(anatomy: Anatomy, layer: int) -> Iterator[tuple[str, nn.Module]]:
    for name, module in anatomy.blocks[layer - 1].named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield name.rpartition(".")[2], module


def _linear_names(anatomy: Anatomy, layer: int) -> str:
    return ", ".join(dict.fromkeys(name for name, _ in _linear(anatomy, layer))) or "none"


def _adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the modules that peft has put in place of others, with their names."""
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "get_base_layer"):
            yield name, module


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
