"""Models and tokenizers that are handed over as objects, taken out of what they are wrapped in."""

from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from probekit.errors import ModelError


def unwrapped(model: object) -> PreTrainedModel:
    """Return the model in a wrapper of torch.compile or data parallelism.

    Raises:
        ModelError: If it is no causal language model, or has weights without values.
    """
    inner: Any = model
    while isinstance(inner, (nn.DataParallel, DistributedDataParallel)) or _compiled(inner):
        inner = inner._orig_mod if _compiled(inner) else inner.module
    if not isinstance(inner, nn.Module) or not hasattr(inner, "get_output_embeddings"):
        raise ModelError(
            "model must be a name, a folder or a causal language model of transformers, got a "
            f"{type(inner).__name__}"
        )
    language_model: Any = inner  # a PreTrainedModel, or a PeftModel, which passes for one
    return language_model  # type: ignore[no-any-return]


def _compiled(model: object) -> bool:
    return isinstance(model, nn.Module) and hasattr(model, "_orig_mod")


def require_values(model: PreTrainedModel, name: str) -> None:
    """Raise if some of a model's weights have no values, being on the meta device.

    Raises:
        ModelError: If so.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ModelError(
            f"some weights of {name} have no values (device meta): it was made empty, or "
            "accelerate keeps them elsewhere. Load it whole onto one device"
        )


def require_tokenizer(tokenizer: object) -> None:
    """Raise unless a tokenizer is one of transformers.

    Raises:
        ModelError: If it is anything else; the message says how to make one of it.
    """
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return
    way_out = "load it with AutoTokenizer.from_pretrained"
    if type(tokenizer).__module__.partition(".")[0] == "tokenizers":
        way_out = (
            "wrap it: PreTrainedTokenizerFast(tokenizer_object=..., bos_token=..., eos_token=...)"
        )
    elif isinstance(tokenizer, str):
        way_out = f"load it: AutoTokenizer.from_pretrained({tokenizer!r})"
    raise ModelError(
        f"tokenizer must be a tokenizer of transformers, got a {type(tokenizer).__name__}; "
        f"{way_out}"
    )
