"""One boundary for loading: whatever a library raises about a checkpoint becomes one sentence."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from probekit.errors import ModelError
from probekit.models.locations import ModelLocation

# Stops, not failures.
STOPS = (KeyboardInterrupt, SystemExit, GeneratorExit)
CONFIGURATION, TOKENIZER, WEIGHTS = "configuration", "tokenizer", "weights"
_HINTS = {
    CONFIGURATION: "Check that config.json is whole, and of a model type that transformers knows",
    TOKENIZER: "Check that its tokenizer files are there and whole; tokenizer.json must be of a "
    "kind that the tokenizers library knows",
    WEIGHTS: "Check that the weight files are whole, and that config.json describes them",
}


@contextmanager
def stated(location: ModelLocation, part: str) -> Iterator[None]:
    """Turn what is raised while a part of a model is loaded into a stated error.

    Args:
        location: Where the model is.
        part: One of `CONFIGURATION`, `TOKENIZER`, `WEIGHTS`.

    Raises:
        ModelError: If anything was raised, but for what stops the program.
    """
    try:
        yield
    except (*STOPS, ModelError):
        raise
    # The libraries raise what they like; a panic of one in Rust is no Exception.
    except BaseException as error:
        raise ModelError(
            f"the {part} of {location.name} could not be loaded from {location.path}: "
            f"{_reason(error, part)}"
        ) from error


def _reason(error: BaseException, part: str) -> str:
    text = str(error).strip()
    if "trust_remote_code" in text:
        return (
            "it comes with Python code of its own, which is not run unasked. Read that code, and "
            "if you trust it, load the model with --trust-remote-code"
        )
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        return (
            "its weights are a pickle of more than tensors, which could run any code, and are not "
            "read. Take a checkpoint in safetensors"
        )
    if "ignore_mismatched_sizes" in text:
        return f"its weights have other shapes than config.json describes. {_HINTS[part]}"
    # The first line says what, or the second if the first ends in a colon.
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    if isinstance(error, ImportError):  # it says what to install
        return first
    name = type(error).__name__
    shown = first if len(first.split()) > 2 else f"{name} {first}".strip()
    return f"{shown.rstrip('.')}. {_HINTS[part]}"
