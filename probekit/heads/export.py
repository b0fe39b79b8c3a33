"""Medusa heads for serving engines: config.json and model.safetensors, as vLLM reads them.

An engine gives the heads what the model's final norm makes of the last block, and decodes what
they make of it by the unembedding. Head i is of offset i + 2.

Source: vllm/model_executor/models/medusa.py and vllm/transformers_utils/configs/medusa.py.
"""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from probekit import files
from probekit.errors import SettingsError
from probekit.heads.heads import Heads
from probekit.heads.kinds import Medusa
from probekit.models.anatomy import Anatomy


def export_medusa(heads: Heads, anatomy: Anatomy, folder: Path) -> None:
    """Write Medusa heads for a serving engine, which runs them on the model as it came.

    Args:
        heads: Medusa heads that read the last layer, of consecutive offsets. One at offset 1 is
            left out: there the engine has the model.
        anatomy: The model's.
        folder: Where to write; made if it is not there.

    Raises:
        SettingsError: If an engine could not run them; the message says why.
    """
    require_served(heads, anatomy)
    exported = [heads.heads[str(offset)] for offset in _ahead(heads)]
    own = heads.config.own_unembedding
    tensors: dict[str, Tensor] = {} if own else {"lm_heads.0.weight": anatomy.unembedding}
    for number, head in enumerate(exported):
        assert isinstance(head, Medusa)
        tensors[f"blocks.{number}.layers.0.weight"] = head.linear.weight
        if head.unembedding is not None:
            tensors[f"lm_heads.{number}.weight"] = head.unembedding.weight
    config = {
        "architectures": ["MedusaModel"],
        "model_type": "medusa",
        "hidden_size": anatomy.d_hidden,
        "vocab_size": anatomy.vocab_size,
        "truncated_vocab_size": anatomy.vocab_size,
        "num_heads": len(exported),
        "num_hidden_layers": 1,
        "medusa_fc_bias": False,
        "original_lm_head": not own,
        "logit_scale": anatomy.scale,
        "torch_dtype": str(anatomy.unembedding.dtype).removeprefix("torch."),
    }
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    files.write(
        folder / "model.safetensors", lambda path: save_file(stored, path, {"format": "pt"})
    )
    files.write_text(folder / "config.json", files.as_json(config))


def require_served(heads: Heads, anatomy: Anatomy) -> None:
    """Raise a SettingsError unless an engine can run such heads."""
    config, offsets = heads.config, _ahead(heads)
    needs = {
        "kind medusa, for no engine reads other heads that are blind": config.kind == "medusa",
        f"heads that read the last layer, {anatomy.n_layers}": config.read == anatomy.n_layers,
        "heads that did not start as probes": not heads.maps,
        "a model whose unembedding has no bias": anatomy.bias is None,
        "consecutive offsets from 2 on": offsets == list(range(2, 2 + len(offsets))) != [],
    }
    failed = [wanted for wanted, given in needs.items() if not given]
    if failed:
        raise SettingsError(
            f"exported heads need {failed[0]}; got kind {config.kind}, layer {config.read}, "
            f"offsets {', '.join(map(str, heads.offsets))}. Train them by `--kind medusa --read "
            f"{anatomy.n_layers} --strategy heads-only`"
        )


def _ahead(heads: Heads) -> list[int]:
    return [offset for offset in heads.offsets if offset > 1]
