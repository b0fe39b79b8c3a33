"""Quantized weights: as asked for when a model is loaded, or as its checkpoint has them."""

from typing import Any

import torch
import transformers
from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

from probekit.errors import SettingsError
from probekit.models.rounding import tolerance

AUTO, FOUR, EIGHT = "auto", "bnb-4bit", "bnb-8bit"
GGUF = "gguf"
# Relative difference that other tokens of a batch make to a state: bitsandbytes' eight bits keep
# the columns apart in which any token has an outlier (0.02 seen).
NOISE = 0.05
GgufConfig: Any = getattr(transformers, "GgufConfig", None)


def method(config: PretrainedConfig) -> str | None:
    """Return how the weights of a model are quantized, as its configuration says; None if not.

    >>> config = PretrainedConfig(quantization_config={"quant_method": "gptq", "bits": 4})
    >>> method(config), method(PretrainedConfig())
    ('gptq', None)
    """
    found: Any = getattr(config, "quantization_config", None)
    if found is None:
        return None
    values = found if isinstance(found, dict) else found.to_dict()
    for bits, name in (("load_in_4bit", FOUR), ("load_in_8bit", EIGHT)):
        if values.get(bits):
            return name
    named = values.get("quant_method", "unknown")
    name = str(getattr(named, "value", named))
    return None if name == GGUF else name  # it is unpacked when it is loaded


def options(
    asked: str, config: PretrainedConfig, dtype: str, packed: bool = False
) -> dict[str, Any]:
    """Return arguments of `from_pretrained` that quantize a model as asked.

    Args:
        asked: `auto`: as the checkpoint is; `bnb-4bit` (NF4) or `bnb-8bit` (LLM.int8).
        config: The model's configuration.
        dtype: Of the weights that stay as they are, and of products; or `auto`.
        packed: Whether they are read from a file of gguf, of which plain ones are made.

    Raises:
        SettingsError: If that is no such word, or the checkpoint is quantized already.
    """
    if asked not in (AUTO, FOUR, EIGHT):
        raise SettingsError(f"quantization must be {AUTO}, {FOUR} or {EIGHT}, got {asked!r}")
    if asked == AUTO:
        # Older versions of transformers make plain weights always.
        return {"quantization_config": GgufConfig(dequantize=True)} if packed and GgufConfig else {}
    if own := GGUF if packed else method(config):
        raise SettingsError(
            f"--quantization {asked}: this checkpoint is quantized already ({own}), and is loaded "
            "as it is: leave --quantization out, or take the checkpoint that it was made of"
        )
    if asked == EIGHT:
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    products = (config.dtype or torch.bfloat16) if dtype == "auto" else getattr(torch, dtype)
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=products
        )
    }


def noise(model: PreTrainedModel) -> float:
    """Return the relative difference that other tokens of a batch may make: that of rounding.

    Of a model that is quantized, whose kind may round by all of them, it is 0.05.
    """
    return NOISE if method(model.config) else tolerance(model.dtype)
