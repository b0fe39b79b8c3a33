"""Studies of heads on what cannot, or can barely, be studied: said before anything is trained."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from probekit.errors import SettingsError
from probekit.pipelines.head_study import study_heads as head_study
from probekit.pipelines.head_study.settings import HeadSettings
from probekit.pipelines.head_study.study_heads import study_heads
from probekit.runs.setup import load_model
from support import tiny_run
from support.head_runs import QUICK, rows


def test_a_model_object_of_heads_needs_its_tokenizer(tiny_llama: PreTrainedModel) -> None:
    with pytest.raises(SettingsError, match=r"needs its tokenizer: tokenizer=\.\.\."):
        study_heads(tiny_llama)
    with pytest.raises(SettingsError, match=r"is taken as it is: leave out \['dtype'\]"):
        study_heads(tiny_llama, tokenizer=tiny_run.tokenizer(), dtype="bfloat16")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"read": 3}, r"read must be in 0\.\.2"),
        (
            {"read": 0, "strategies": ("heads-only", "joint")},
            "joint: heads read layer 0, and there",
        ),
    ],
)
def test_what_this_model_cannot_do_is_said_before_anything_is_trained(
    wrong: dict[str, Any], message: str, asked: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=message):
        study_heads(**asked, **wrong, output=tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.pt"))
    settings = HeadSettings.from_mapping(asked | wrong)
    with pytest.raises(SettingsError, match=message):
        head_study.dry_run(load_model(settings), settings)


def test_a_model_of_one_block_has_heads_but_no_mixture(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    config = AutoModelForCausalLM.from_pretrained(asked["model"]).config
    config.num_hidden_layers = 1
    model = AutoModelForCausalLM.from_config(config).eval()
    given = {key: value for key, value in asked.items() if key not in ("model", "device")}
    given |= {"tokenizer": tiny_run.tokenizer(), "strategies": ("joint-diff-whs",)}
    with pytest.raises(
        SettingsError, match="joint-diff-whs: a mixture needs a model of at least 2"
    ):
        study_heads(model, **given, output=tmp_path / "run")
    given["strategies"] = ("heads-only",)
    run = study_heads(model, **given, epochs=1, step_blocks=16, output=tmp_path / "run")
    assert {row["layer"] for row in run.document["sweep"]} == {0, 1}


@pytest.mark.slow
def test_the_largest_seed_that_is_allowed_is_one(asked: dict[str, Any], tmp_path: Path) -> None:
    quick: dict[str, Any] = {"epochs": 1, "step_blocks": 16, "init": "random", "sweep": "none"}
    run = study_heads(**asked | quick | {"seed": 2**63 - 1}, output=tmp_path / "run")
    assert run.document["run"]["seed"] == 2**63 - 1


@pytest.mark.slow
def test_a_file_beside_the_model_that_is_not_ours_is_no_head(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    folder = shutil.copytree(asked["model"], tmp_path / "model")
    save_file({"x": torch.zeros(1)}, folder / "heads.safetensors")
    quick = QUICK | {"model": str(folder), "sweep": "none", "strategies": ("heads-only",)}
    run = study_heads(**asked | quick, output=tmp_path / "run")
    assert not rows(run, "scores", strategy="head:own")
