"""Heads of a finished study, written for a serving engine."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from probekit.errors import RunError, SettingsError
from probekit.heads import files as head_files
from probekit.heads.heads import build
from probekit.models import loading
from probekit.models.anatomy import find_anatomy
from probekit.models.loading import Loaded
from probekit.pipelines.head_study import export_heads
from probekit.pipelines.head_study.settings import HeadSettings
from probekit.pipelines.head_study.study_heads import HeadRun


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return loading.load("tiny-s")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategies": ("joint",)}, "got finetune, joint"),
        ({}, "need kind medusa"),
        ({"kind": "medusa"}, "need heads that read the last layer"),
    ],
)
def test_what_no_engine_runs_is_refused_before_training(
    loaded: Loaded, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        export_heads.require_exportable(loaded, HeadSettings.from_mapping(settings))


def test_the_heads_of_the_frozen_model_are_written(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anatomy = find_anatomy(loaded.model)
    monkeypatch.setattr(export_heads, "load", lambda folder: HeadRun(Path(folder), {}))
    with pytest.raises(RunError, match="no heads of the strategy heads-only"):
        export_heads.export_heads(tmp_path, tmp_path / "to", loaded)
    heads = build("medusa", anatomy, (1, 2), read=anatomy.n_layers)
    with torch.no_grad():
        weight = heads.get_parameter("heads.2.linear.weight")
        weight.copy_(torch.randn(weight.shape))
    path = tmp_path / "heads-heads-only.safetensors"
    head_files.save(heads, path, loading.fingerprint(loaded))
    written = export_heads.export_heads(tmp_path, tmp_path / "to", loaded)
    assert json.loads((written / "config.json").read_text())["num_heads"] == 1
    tensors = load_file(written / "model.safetensors")
    assert torch.equal(tensors["blocks.0.layers.0.weight"], weight)
