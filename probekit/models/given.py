"""A model as a caller gives it: a name, or an object with its tokenizer."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from probekit.errors import SettingsError
from probekit.models import loading as models
from probekit.models.loading import Loaded
from probekit.runs.setup import LOADING


def named(
    model: str | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    settings: Mapping[str, Any],
) -> tuple[dict[str, Any], Loaded | None]:
    """Return settings that name the model, and the model itself if it was given as an object.

    Args:
        model: Short name, Hub repository, local folder, or a causal model of transformers.
        tokenizer: The tokenizer of a model given as an object.
        settings: What else is asked. An object is taken as it is: nothing of how to load one.

    Raises:
        SettingsError: If an object comes without its tokenizer or with settings of loading, or
            a name with a tokenizer.
        ModelError: If the tokenizer has ids that the model does not.

    >>> named("tiny", None, {"offsets": 2})
    ({'model': 'tiny', 'offsets': 2}, None)
    """
    if isinstance(model, str):
        if tokenizer is not None:
            raise SettingsError(f"the tokenizer of {model!r} is loaded with it: leave it out")
        return {"model": model, **settings}, None
    if tokenizer is None:
        raise SettingsError("a model given as an object needs its tokenizer: tokenizer=...")
    fixed = [name for name in LOADING if name in settings]
    if fixed:
        raise SettingsError(f"a model given as an object is taken as it is: leave out {fixed}")
    loaded = models.wrap(model, tokenizer)
    return {"model": loaded.name, **settings}, loaded
