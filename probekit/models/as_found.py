"""What a caller set in torch and in his model: put aside for a call, and given back after it."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from os import PathLike, fspath
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from probekit.errors import SettingsError
from probekit.models.loading import LOADING, Loaded, wrap
from probekit.models.objects import unwrapped

# An object may be wrapped, by torch.compile or data parallelism.
Model = str | PathLike[str] | nn.Module


@contextmanager
def plain_torch() -> Iterator[None]:
    """Run in torch as it is when it is imported, whatever the caller has set.

    No autocast, no inference mode, gradients where they are asked for, float32 and the CPU where
    nothing else is said, and modules run as they are written: hooks on a compiled one would be
    compiled too. Each would change numbers without a word, or end in an error of torch.
    """
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        for device in {"cpu", torch.accelerator.current_accelerator(check_available=True)} - {None}:
            stack.enter_context(torch.autocast(str(device).partition(":")[0], enabled=False))
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def borrowed(
    model: Model, tokenizer: PreTrainedTokenizerBase | None, settings: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], Loaded | None]]:
    """Take a model by name or as an object, for as long as the context lasts.

    Args:
        model: Short name, Hub repository, local folder, or a causal model of transformers, which
            is put into eval mode and at the end, come what may, into the mode in which it was.
        tokenizer: The tokenizer of a model given as an object.
        settings: All other settings.

    Yields:
        Settings that name the model, and the model itself if it was given as an object.

    Raises:
        SettingsError: If an object comes without its tokenizer or with a setting of `LOADING`,
            or a name with a tokenizer.
        ModelError: If the model or the tokenizer is of no use.

    >>> with borrowed("tiny", None, {"offsets": 2}) as found:
    ...     found
    ({'model': 'tiny', 'offsets': 2}, None)
    """
    if isinstance(model, (str, PathLike)):
        if tokenizer is not None:
            raise SettingsError(f"the tokenizer of {str(model)!r} is loaded with it: leave it out")
        with plain_torch():
            yield {"model": fspath(model), **settings}, None
        return
    if tokenizer is None:
        raise SettingsError("a model given as an object needs its tokenizer: tokenizer=...")
    fixed = [name for name in LOADING if name in settings]
    if fixed:
        raise SettingsError(f"a model given as an object is taken as it is: leave out {fixed}")
    inner = unwrapped(model)
    modes = {module: module.training for module in inner.modules()}
    try:
        with plain_torch():
            # Autograd takes no weights that were made under inference_mode; it takes copies.
            made_for_inference = any(weight.is_inference() for weight in inner.parameters())
            loaded = wrap(copy.deepcopy(inner) if made_for_inference else inner, tokenizer)
            yield {"model": loaded.name, **settings}, loaded
    finally:
        for module, training in modes.items():
            module.training = training
