"""Load a causal language model by short name, Hub repository or folder, or take an object.

A model that cannot be loaded is an error with the way out; no other is ever put in its place.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from probekit.errors import ModelError
from probekit.models import adapters
from probekit.models import quantization as quantized
from probekit.models.devices import resolve_device, resolve_dtype
from probekit.models.loading_errors import CONFIGURATION, TOKENIZER, WEIGHTS, stated
from probekit.models.locations import ModelLocation, Origin, at_commit, find_location
from probekit.models.objects import require_tokenizer, require_values, unwrapped

# Settings that say how a model is loaded.
LOADING = "revision", "dtype", "device", "trust_remote_code", "quantization"
# The name of a weight of a block: what stands before the block's number, and the number.
BLOCK = re.compile(r"(.*?\.)(\d+)\.")


@dataclass(frozen=True, eq=False)
class Loaded:
    """A loaded model, its tokenizer, and where they are from.

    Attributes:
        model: In eval mode.
        tokenizer: As it was loaded.
        name: What to call it in tables: the short name, repository or folder.
        source: `bundled`, `folder`, `hub` or `python`.
        repository: On the Hub, or None.
        revision: The commit that was loaded, where the Hub says; else what was asked, or None.
        family: Its ladder in models.toml, or None.
        attention: The attention implementation, as loaded.
        quantization: How its weights are quantized, or None.
        adapter: Of an adapter, the model that it stands on and whether it is merged; or None.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    source: Origin
    repository: str | None = None
    revision: str | None = None
    family: str | None = None
    attention: str = ""
    quantization: str | None = None
    adapter: str | None = None

    @property
    def n_parameters(self) -> int:
        """Number of parameters, tied weights once, packed ones as so many as they are of."""
        return int(self.model.num_parameters())

    @property
    def dtype(self) -> str:
        """The dtype of the weights, such as `float32`."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        """The device of the weights (of the first, if there are several)."""
        return str(self.model.device)


def load(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    quantization: str = "auto",
) -> Loaded:
    """Load a causal language model and its tokenizer, in eval mode, without gradients.

    Args:
        name: A short name of models.toml, a repository of the Hub (`owner/name`), a folder, of a
            model or of an adapter of peft, or a file of gguf.
        revision: Branch, tag or commit on the Hub.
        dtype: `float32`, `bfloat16`, `float16`, `float64`, or `auto`: float32 on the CPU,
            elsewhere what the checkpoint has.
        device: As torch names devices; `auto`: CUDA, else the CPU; `balanced` or
            `sequential` to spread a large model over all of them.
        trust_remote_code: Whether code in the repository may run.
        quantization: `auto`: as the checkpoint is; `bnb-4bit` or `bnb-8bit` (bitsandbytes).

    Returns:
        The model and where it is from.

    Raises:
        SettingsError: If dtype, device, revision or quantization is not allowed.
        ModelError: If there is no such model, or it is incomplete or not causal.
        UnreachableError: If its repository is gated or out of reach.
    """
    chosen = resolve_device(device)
    location = find_location(name, revision)
    options = location.options | {"trust_remote_code": trust_remote_code}
    config = _config(location, options)
    kind = _class(location, config)
    location = at_commit(location)
    options |= {"revision": location.revision}
    tokenizer = _tokenizer(location, options)
    dtype = resolve_dtype(dtype, chosen)
    options |= {"dtype": dtype, "device_map": chosen}
    packed = location.gguf is not None
    options |= quantized.options(quantization, config, dtype, packed)
    model = _model(kind, location, options)
    return _loaded(location, model, tokenizer)


def wrap(model: nn.Module, tokenizer: PreTrainedTokenizerBase, name: str | None = None) -> Loaded:
    """Return a model and tokenizer of your own as if `load` had loaded them.

    Args:
        model: A causal language model, taken out of its wrapper if torch.compile or data
            parallelism put it into one; it is put into eval mode.
        tokenizer: Its tokenizer.
        name: What to call it; the name of its class if None.

    Raises:
        ModelError: If one of the two is of no use.
    """
    inner = unwrapped(model)
    require_tokenizer(tokenizer)
    called = name or type(inner).__name__
    return _loaded(ModelLocation(called, called, "python"), inner, tokenizer)


def require_rows(loaded: Loaded, token_ids: Iterable[int]) -> None:
    """Raise if the model has no row for a token of a text.

    Tokenizers may have more tokens than that, added ones that no text need hold.

    Raises:
        ModelError: If so.
    """
    embeddings: Any = loaded.model.get_input_embeddings()
    n_rows, largest = embeddings.weight.shape[0], max(token_ids, default=0)
    if largest >= n_rows:
        token = loaded.tokenizer.convert_ids_to_tokens(largest)
        raise ModelError(
            f"the text holds {token!r}, token {largest} of the tokenizer, and the vocabulary of "
            f"{loaded.name} ends at {n_rows - 1}. Take the tokenizer that came with the model, or "
            "leave that token out of the text"
        )


def longest(model: PreTrainedModel) -> int | None:
    """Return how many tokens a model takes; None where its configuration does not say."""
    config = model.config.get_text_config()
    n_tokens: int | None = getattr(config, "max_position_embeddings", None)
    return n_tokens


def fingerprint(loaded: Loaded) -> str:
    """Return the sha256 of a model: its configuration and every parameter and buffer.

    The same weights give the same fingerprint wherever they come from; another dtype, or one
    changed weight, gives another.
    """
    digest = hashlib.sha256()
    config = loaded.model.config.to_dict()
    for key in ("_name_or_path", "transformers_version"):
        config.pop(key, None)
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in loaded.model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        plain = tensor.detach().contiguous().cpu().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy())
    return digest.hexdigest()


def _config(location: ModelLocation, options: dict[str, Any]) -> PretrainedConfig:
    with stated(location, CONFIGURATION):
        config: PretrainedConfig = AutoConfig.from_pretrained(location.path, **options)
        # Names of classes, which transformers does not check.
        ", ".join(config.architectures or ())
    return config


def _tokenizer(location: ModelLocation, options: dict[str, Any]) -> PreTrainedTokenizerBase:
    with stated(location, TOKENIZER):
        path, own = location.path, location.adapter
        if own is not None and (Path(own) / "tokenizer_config.json").is_file():
            path, options = own, {**options, "revision": None}
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, **options)
        # Some faults of its files show in its first use.
        tokenizer("a")
    return tokenizer


def _model(kind: Any, location: ModelLocation, options: dict[str, Any]) -> PreTrainedModel:
    loaded: tuple[PreTrainedModel, dict[str, set[str]]]
    with stated(location, WEIGHTS):
        loaded = kind.from_pretrained(location.path, output_loading_info=True, **options)
        model, info = loaded
        if location.adapter is not None:
            merge = quantized.method(model.config) is None
            model = adapters.applied(model, Path(location.adapter), merge=merge)
        model.requires_grad_(False)
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"the checkpoint of {location.name} lacks {len(missing)} weights, which would stay "
            f"random: {', '.join(missing[:3])}. Take a complete checkpoint of a causal model"
        )
    _require_all_blocks(location, model, info["unexpected_keys"])
    return model


def _require_all_blocks(
    location: ModelLocation, model: PreTrainedModel, unused: Iterable[str]
) -> None:
    """Raise if a checkpoint has more blocks than its configuration makes."""
    held = {f".{found[0]}" for found in map(BLOCK.match, model.state_dict()) if found}

    def holds(block: str) -> bool:
        return any(each.endswith(f".{block}") for each in held)

    named = [found for found in map(BLOCK.match, unused) if found]
    left_out = [int(b[2]) for b in named if holds(f"{b[1]}0.") and not holds(b[0])]
    if left_out:
        count, n_layers = max(left_out) + 1, model.config.get_text_config().num_hidden_layers
        raise ModelError(
            f"the checkpoint of {location.name} has {count} blocks, and its config.json makes a "
            f"model of {n_layers}, without the others: set num_hidden_layers to {count} there, or "
            "save the shorter model on its own"
        )


def _class(location: ModelLocation, config: PretrainedConfig) -> Any:
    """Return the class of transformers that loads a model; one that sees is given text alone."""
    classes = config.architectures or []
    masked = [name for name in classes if name.endswith(("ForMaskedLM", "ForPreTraining"))]
    if not masked and not config.is_encoder_decoder:
        if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or _own_code(config):
            return AutoModelForCausalLM
        if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            return AutoModelForImageTextToText
    what = "encoder-decoder model" if config.is_encoder_decoder else "encoder, or no language model"
    raise ModelError(
        f"{location.name} ({config.model_type}) is an {what}; probekit reads causal (decoder-only) "
        "language models, such as `gpt2` or the built-in `tiny`"
    )


def _own_code(config: PretrainedConfig) -> bool:
    return "AutoModelForCausalLM" in getattr(config, "auto_map", {})


def _loaded(
    location: ModelLocation, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Loaded:
    require_values(model, location.name)
    model.train(False)
    how = quantized.method(model.config)
    base = location.entry.name if location.entry else location.path
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        name=location.name,
        source=location.source,
        repository=location.path if location.source == "hub" else None,
        revision=location.revision,
        family=location.entry.family if location.entry else None,
        attention=str(model.config._attn_implementation),
        quantization=how if location.gguf is None else f"{quantized.GGUF}, unpacked",
        adapter=None if location.adapter is None else f"{'on' if how else 'merged into'} {base}",
    )
