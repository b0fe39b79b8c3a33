"""Test documents are read to be scored, and reach nothing that is fitted or chosen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import probekit
from probekit.data.blocks import Blocks
from probekit.pipelines.analysis import analyze
from probekit.pipelines.analysis.finished import Run
from probekit.runs.setup import Setup, load_model, prepare, with_machine_defaults
from probekit.settings import Settings

# What a readout is, and what it scores on the documents that choose.
FITTED = ["readout", "layer", "offset", "split", "n_parameters", "nats", "top1", "top5"]


def test_the_blocks_of_a_split_hold_its_documents_alone(asked: dict[str, Any]) -> None:
    settings = Settings.from_mapping(asked)
    loaded = load_model(settings)
    setup = prepare(loaded, with_machine_defaults(settings, loaded))
    seen = 0
    for part, blocks in setup.blocks.items():
        numbers = set(blocks.documents.unique().tolist()) - {-1}
        assert {setup.documents[number].split for number in numbers} == {part}
        seen += len(numbers)
    assert seen == len(setup.documents)


def test_other_test_documents_change_nothing_that_was_fitted_or_chosen(
    finished_run: Run, asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = prepare

    def with_other_tests(*args: Any, **named: Any) -> Setup:
        setup = usual(*args, **named)
        test = setup.blocks["test"]
        other = (test.token_ids + 7) % setup.anatomy.vocab_size
        return replace(setup, blocks={**setup.blocks, "test": Blocks(other, test.documents)})

    monkeypatch.setattr(analyze, "prepare", with_other_tests)
    changed = probekit.analyze(**asked, output=tmp_path)
    first, second = (
        load_file(run.folder / "probes.safetensors") for run in (finished_run, changed)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    before, after = (run.scores.query("split == 'validation'") for run in (finished_run, changed))
    assert set(before["readout"]) >= {"linear", "unigram"}
    assert before[FITTED].reset_index(drop=True).equals(after[FITTED].reset_index(drop=True))
    # The change itself was no small one.
    assert not finished_run.scores["nats"].equals(changed.scores["nats"])
    layers = [run.specialization["best_layer"].tolist() for run in (finished_run, changed)]
    assert layers[0] == layers[1]
