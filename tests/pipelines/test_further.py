"""Further readouts that a model cannot give are refused before anything is fitted."""

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

import probekit
from probekit.errors import ModelError, SettingsError
from probekit.heads import transplants
from support.architectures import build
from support.tiny_run import tokenizer


def refused(asked: dict[str, Any], folder: Path, model: PreTrainedModel, **more: Any) -> str:
    given = {name: value for name, value in asked.items() if name not in ("model", "device")} | more
    with pytest.raises(ModelError) as raised:
        probekit.analyze(model, tokenizer=tokenizer(), output=folder, **given)
    assert not (folder / "run.toml").exists()
    return str(raised.value)


def test_mask_tokens_need_a_model_that_takes_a_mask(asked: dict[str, Any], tmp_path: Path) -> None:
    said = refused(asked, tmp_path, build("mamba"), readout=["mask-token"])
    assert "mamba has no cache of keys and values alone. Leave out readout mask-token" in said


def test_a_transplant_needs_room_for_its_prompt(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_llama: Any
) -> None:
    monkeypatch.setattr(transplants, "PROMPT", "w1 " * 127)
    said = refused(asked, tmp_path, tiny_llama, readout=["transplant"])
    assert "a prompt of 128 tokens" in said
    assert "129 for offsets=2" in said
    assert "takes 128" in said


def test_mask_tokens_say_nothing_of_the_next_token(asked: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="needs offsets=2 or more, got 1"):
        probekit.analyze(**asked | {"offsets": 1}, readout=["mask-token"])
