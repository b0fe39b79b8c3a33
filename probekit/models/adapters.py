"""Adapters of peft: the model that one stands on, and that model with it."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from probekit.errors import ModelError

FILE = "adapter_config.json"


def base_of(folder: Path) -> tuple[str, str | None]:
    """Return the name and revision of the model that an adapter's folder says it stands on.

    Raises:
        ModelError: If it does not say.
    """
    try:
        values = json.loads((folder / FILE).read_text(encoding="utf-8"))
        base, revision = values["base_model_name_or_path"], values.get("revision")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        base = revision = None
    if not base or not isinstance(base, str):
        raise ModelError(
            f"{folder} holds an adapter, and its {FILE} does not say on which model it stands: "
            "write its name or folder there, as base_model_name_or_path"
        )
    return base, revision


def applied(model: PreTrainedModel, folder: Path, *, merge: bool) -> PreTrainedModel:
    """Return a model with an adapter, whose weights are added to its own if they can be.

    Args:
        model: The model that the adapter stands on, which is changed.
        folder: The adapter's.
        merge: Whether to add them; quantized weights would be rounded again.

    Raises:
        ModelError: If peft is not there, or the adapter adds tokens and not weights.
    """
    try:
        from peft import PeftModel
    except ImportError:
        raise ModelError(
            f"{folder} holds an adapter, which needs one more package: pip install peft"
        ) from None
    adapted = PeftModel.from_pretrained(model, str(folder))
    if adapted.active_peft_config.is_prompt_learning:
        raise ModelError(
            f"{folder} holds an adapter of the kind {adapted.active_peft_config.peft_type.value}, "
            "which stands before the text and is none of the model's weights: it is not read"
        )
    inner: Any = adapted.merge_and_unload() if merge else adapted.get_base_model()
    return inner  # type: ignore[no-any-return]
