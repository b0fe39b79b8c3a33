"""Studies of other kinds of heads: queries, and what a model brings along."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import probekit
from probekit.errors import ProbekitError
from probekit.heads import files
from probekit.models.anatomy import find_anatomy
from probekit.pipelines.head_study.settings import HeadSettings
from probekit.pipelines.head_study.study_heads import study_heads
from probekit.runs.setup import load_model
from support import tiny_run
from support.head_runs import rows
from support.native_models import make


def test_native_heads_of_a_model_without_any_are_refused(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ProbekitError, match="no multi-token layers"):
        study_heads(**asked, kind="native", output=tmp_path / "run")


@pytest.mark.parametrize(
    ("strategy", "choice", "config"),
    [
        ("joint-diff-whs-rms", {}, {"read": "mix", "normalise": True}),
        ("joint-diff-whs", {}, {"read": "mix", "normalise": False}),
        ("heads-only", {"kind": "medusa", "own_unembedding": True}, {"own_unembedding": True}),
    ],
)
def test_heads_are_what_was_asked_for(
    asked: dict[str, Any],
    tmp_path: Path,
    strategy: str,
    choice: dict[str, Any],
    config: dict[str, Any],
) -> None:
    quick: dict[str, Any] = {"epochs": 1, "step_blocks": 16, "sweep": "none"}
    run = study_heads(**asked, **quick, **choice, strategies=(strategy,), output=tmp_path / "run")
    model = load_model(HeadSettings.from_mapping({**asked, **choice})).model
    path = run.folder / f"heads-{strategy}.safetensors"
    heads = files.load(path, find_anatomy(model), run.document["model"]["fingerprint"])
    assert {name: getattr(heads.config, name) for name in config} == config


@pytest.mark.parametrize("kind", ["linear", "query"])
def test_the_sweep_is_of_block_heads_whatever_the_kind(
    asked: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    quick: dict[str, Any] = {"epochs": 1, "step_blocks": 16, "strategies": ("heads-only",)}
    run = study_heads(**asked, **quick, kind=kind, output=tmp_path / "run")
    assert {row["layer"] for row in run.document["sweep"]} == {0, 1, 2}


@pytest.mark.slow
def test_heads_that_come_with_a_model_are_scored_beside_those_fitted_afterwards(
    tmp_path: Path,
) -> None:
    run = probekit.study_heads(
        "tiny-mtp", strategies=("heads-only",), sweep="none", max_tokens=6_000,
        marginal_positions=50, output=tmp_path / "run",
    )  # fmt: skip
    (own,) = rows(run, "scores", strategy="head:own", offset=2, positions="all", domain="all")
    (fitted,) = rows(run, "scores", strategy="heads-only", offset=2, positions="all", domain="all")
    assert own["nats"] < fitted["nats"]
    assert any("The model's own heads" in sentence for sentence in run.document["verdict"])


@pytest.mark.slow
def test_queries_are_trained_on_the_frozen_model_alone(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    run = study_heads(**asked, kind="query", sweep="none", step_blocks=16, output=tmp_path / "run")
    names = {row["strategy"] for row in run.document["training"]}
    assert names == {"finetune", "heads-only"}
    (model,) = rows(run, "training", strategy="finetune")
    (queries,) = rows(run, "training", strategy="heads-only")
    assert model["head_rate_factor"] == 1.0
    assert queries["learning_rate"] * queries["head_rate_factor"] == pytest.approx(0.3)
    assert not rows(run, "scores", strategy="heads-only", offset=1)
    assert rows(run, "scores", strategy="heads-only", offset=2)


def renamed(key: str) -> str:
    """Return what a checkpoint calls a tensor of multi-token layer 0."""
    for ours, theirs in {
        "mtp_block.": "mtp.layers.0.",
        "eh_proj.": "mtp.fc.",
        "enorm.": "mtp.pre_fc_norm_embedding.",
        "hnorm.": "mtp.pre_fc_norm_hidden.",
        "post_norm.": "mtp.norm.",
    }.items():
        key = key.replace(f"layers.0.{ours}", theirs)
    return key


@pytest.mark.slow
def test_layers_that_a_model_brings_along_are_scored_token_fed(
    text_file: Path, tmp_path: Path
) -> None:
    made = make("mellum")
    folder = tmp_path / "mellum"
    made.model.save_pretrained(folder)
    tiny_run.tokenizer().save_pretrained(folder)
    place = folder / "model.safetensors"
    brought = made.mtp.state_dict()
    layers = {renamed(key): brought[key].clone() for key in brought if key.startswith("layers.")}
    save_file(load_file(place) | layers, place, metadata={"format": "pt"})
    run = study_heads(
        **tiny_run.SETTINGS, model=str(folder), text=(str(text_file),), kind="native",
        output=tmp_path / "run",
    )  # fmt: skip
    (row,) = rows(run, "scores", strategy="head:native", offset=2, positions="marginal")
    (base,) = rows(run, "scores", strategy="base", offset=2, positions="marginal")
    assert not row["blind"]
    assert base["blind"]
    assert row["n_positions"] == base["n_positions"]
    assert any("Not a comparison of equals" in sentence for sentence in run.document["verdict"])
