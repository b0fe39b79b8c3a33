"""What drafts: the best layer of each offset, heads that come with a model or from a study."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from probekit.drafting.generate import generate
from probekit.errors import RunError
from probekit.heads import files
from probekit.heads.heads import build
from probekit.heads.queries import QueryHeads
from probekit.pipelines.drafting.candidates import Candidate, candidates
from probekit.pipelines.drafting.settings import DraftSettings
from probekit.probes.probe import Probe, ProbeKey
from probekit.runs.setup import Setup, load_model, prepare
from support.drafters import random_probes, shake
from support.head_runs import write_study


def setup_of(asked: Mapping[str, Any], **more: Any) -> tuple[DraftSettings, Setup]:
    settings = DraftSettings.from_mapping({**asked, "offsets": 3, **more})
    return settings, prepare(load_model(settings), settings, (2,))


def test_the_best_layer_of_each_offset_drafts(asked: dict[str, Any]) -> None:
    settings, setup = setup_of(asked, drafters=("linear",))
    made = random_probes(setup.anatomy, {2: 1, 3: 1})
    probe = next(iter(made.probes.values()))

    def of(nats: float) -> Probe:
        return replace(probe, validation_nats=nats)

    fitted: dict[ProbeKey, Probe]
    fitted = {(1, 2): of(2.0), (2, 2): of(3.0), (1, 3): of(5.0), (2, 3): of(4.0), (1, 1): of(1.0)}
    long, short = candidates(settings, setup, replace(made, probes=fitted), None)
    assert (long.offsets, long.layers) == ((2, 3), (1, 2))
    assert (short.offsets, short.layers) == ((2,), (1,))
    assert long.n_parameters == 2 * short.n_parameters == 2 * probe.n_parameters


def require_drafts(found: Candidate, setup: Setup) -> None:
    """Draft with it: nothing may be lost."""
    model, prompt = setup.loaded.model, setup.blocks["test"].token_ids[:1, :12]
    options: dict[str, Any] = {"max_new_tokens": 10, "do_sample": False}
    generating: Any = model
    drafted = generate(model, setup.anatomy, found.drafter, prompt, **options)
    assert torch.equal(drafted.token_ids, generating.generate(prompt, **options))


def test_heads_draft_that_come_with_the_model_or_from_a_study(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    folder, study = tmp_path / "model", tmp_path / "study"
    shutil.copytree(asked["model"], folder)
    study.mkdir()
    chosen = {**asked, "model": str(folder), "drafters": ("heads",), "heads": str(study)}
    settings, setup = setup_of(chosen)
    heads = build("block", setup.anatomy, (1, 2, 3, 4))
    heads.requires_grad_(False)
    shake(list(heads.parameters()))
    files.save(heads, folder / files.BESIDE, setup.fingerprint)
    files.save(heads, study / "a.safetensors", setup.fingerprint)
    queries = QueryHeads(setup.loaded.model, setup.anatomy, 3)
    files.save_queries(queries, study / "b.safetensors", setup.fingerprint)
    weights = {
        "finetune": None, "heads-only": "a.safetensors", "heads-from-probes": "b.safetensors",
        "joint": "c.safetensors", "heads-on-finetuned": "d.safetensors",
    }  # fmt: skip
    write_study(study, weights)
    found = list(candidates(settings, setup, None, None))
    # Of strategies that change the model none can draft for it as it is.
    names = ["head:own", "head:heads-only", "head:heads-from-probes"]
    assert [each.name for each in found] == names
    assert [each.offsets for each in found] == [(2, 3)] * 3
    assert [each.layers for each in found] == [(1,), (1,), (2,)]
    for each in found:
        require_drafts(each, setup)


def test_heads_of_another_model_are_refused(asked: dict[str, Any], tmp_path: Path) -> None:
    settings, setup = setup_of(asked, drafters=("heads",), heads=str(tmp_path))
    files.save(build("medusa", setup.anatomy, (2, 3)), tmp_path / "a.safetensors", "another")
    write_study(tmp_path, {"heads-only": "a.safetensors"})
    with pytest.raises(RunError, match="were trained on another model"):
        list(candidates(settings, setup, None, None))
    with pytest.raises(RunError, match="holds no queries for this model"):
        files.load_queries(
            tmp_path / "a.safetensors", setup.loaded.model, setup.anatomy, setup.fingerprint
        )
    with pytest.raises(RunError, match="there are no queries"):
        files.load_queries(tmp_path / "b", setup.loaded.model, setup.anatomy, setup.fingerprint)
