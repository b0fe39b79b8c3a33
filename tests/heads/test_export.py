"""Medusa heads written for a serving engine, read back by its rules."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import silu
from transformers import PreTrainedModel

from probekit.activations.backbone import Backbone
from probekit.errors import SettingsError
from probekit.heads.export import export_medusa
from probekit.heads.heads import Heads, build
from probekit.models.anatomy import Anatomy, find_anatomy
from support.architectures import build as model_of

IDS = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(0))


def moved(heads: Heads) -> Heads:
    """Return heads whose weights are anything but those they start with."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in heads.parameters():
            weight.add_(torch.randn(weight.shape, generator=draws), alpha=0.1)
    return heads


def served(folder: Path, normed: Tensor) -> list[Tensor]:
    """Return each head's logits, as vLLM's Medusa computes them from its checkpoint."""
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    logits = []
    for number in range(config["num_heads"]):
        x = normed
        for layer in range(config["num_hidden_layers"]):
            x = x + silu(x @ weights.pop(f"blocks.{number}.layers.{layer}.weight").T)
        shared = config["original_lm_head"]
        name = f"lm_heads.{0 if shared else number}.weight"
        logits.append(config["logit_scale"] * x @ weights[name].T)
    assert all(name.startswith("lm_heads.") for name in weights)
    assert config["truncated_vocab_size"] == config["vocab_size"] == logits[0].shape[-1]
    return logits


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", ["llama", "cohere"])
def test_an_engine_computes_the_same_logits(tmp_path: Path, name: str, own: bool) -> None:
    model = model_of(name)
    anatomy = find_anatomy(model)
    last = anatomy.n_layers
    heads = moved(build("medusa", anatomy, (1, 2, 3), read=last, own_unembedding=own))
    export_medusa(heads, anatomy, tmp_path / "heads")
    with torch.no_grad():
        reading = Backbone(model, anatomy).read(IDS, {last})
        normed = anatomy.hidden(reading.resid[last])
        found = served(tmp_path / "heads", normed)
        for offset, logits in zip((2, 3), found, strict=True):
            expected = heads.logits(heads.hidden(reading, offset), offset)
            torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def anatomy(tiny_llama: PreTrainedModel) -> Anatomy:
    return find_anatomy(tiny_llama)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "block"}, "need kind medusa"),
        ({"read": 1}, "need heads that read the last layer, 3"),
        ({"offsets": (2, 4)}, "need consecutive offsets from 2 on"),
        ({"offsets": (1,)}, "need consecutive offsets from 2 on"),
    ],
)
def test_heads_that_no_engine_runs_are_refused(
    anatomy: Anatomy, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    choices = {"kind": "medusa", "offsets": (2, 3), "read": anatomy.n_layers} | changed
    heads = build(anatomy=anatomy, **choices)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=message):
        export_medusa(heads, anatomy, tmp_path)
    assert not list(tmp_path.iterdir())
