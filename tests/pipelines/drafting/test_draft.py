"""A measured draft: what is written, from what, and that foretold and counted are one thing."""

import io
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from jsonschema import Draft202012Validator

import probekit
from probekit.activations.residual_stream import stream
from probekit.errors import DataError, RunError, SettingsError
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.drafting.candidates import candidates
from probekit.pipelines.drafting.draft import DraftRun, dry_run
from probekit.pipelines.drafting.predict import OneCell, as_blocks, prompts_of
from probekit.pipelines.drafting.settings import DraftSettings
from probekit.pipelines.drafting.trial import PLAIN, run, trials
from probekit.reports import figure_files
from probekit.runs.reading import json_schema
from probekit.runs.setup import load_model, prepare
from probekit.scoring.score import score
from support.tiny_run import jsonl

DRAFTERS = ("linear", "lens", "skip-bigram", "mean-embedding", "prompt-lookup")
QUICK: dict[str, Any] = {
    "prompts": 3,
    "prompt_tokens": 8,
    "new_tokens": 14,
    "repeats": 1,
    "offsets": 3,
}


def settings(asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**asked, **QUICK, **more}


SAID: list[str] = []


@pytest.fixture(scope="module")
def drafted(asked: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> DraftRun:
    folder = tmp_path_factory.mktemp("draft")
    chosen = settings(asked, drafters=DRAFTERS)
    return probekit.draft(**chosen, output=folder, say=SAID.append)


@pytest.mark.usefixtures("drafted")
def test_stages_are_counted_to_the_last() -> None:
    places = re.findall(r"\((\d+) of (\d+)\)", "\n".join(SAID))
    assert places[0] == ("2", str(len(places) + 1))
    assert places[-1][0] == places[-1][1]


def test_draft_json_is_what_the_schema_says(drafted: DraftRun) -> None:
    schema = json_schema("draft")
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(dict(drafted.document))
    assert drafted.document["schema"] == schema["title"]
    assert sorted(path.name for path in drafted.folder.iterdir()) == [
        "draft.json", "log.jsonl", "probes.safetensors", "report.html", "run.sha256",
        "run.toml",
    ]  # fmt: skip
    answer = drafted.document["verdict"][0]
    assert answer in drafted.report.read_text(encoding="utf-8")


def test_every_drafter_is_tried_and_loses_nothing(drafted: DraftRun) -> None:
    rows = drafted.document["drafters"]
    assert [(row["drafter"], row["widths"]) for row in rows] == [
        ("linear", [1, 1]), ("linear", [3, 2]), ("linear", [1]), ("lens", [1, 1]),
        ("skip-bigram", [1, 1]), ("mean-embedding", [1, 1]), ("prompt-lookup", [1, 1]),
    ]  # fmt: skip
    for row in rows:
        assert row["equal_texts"] == row["n_prompts"] == 3
        assert row["n_tokens"] == 3 * 13  # of 14 the first comes from the prompt's own pass
        assert row["tokens_per_forward"] == row["n_tokens"] / row["n_passes"]
        assert row["speed"] * row["pass_cost"] == pytest.approx(row["tokens_per_forward"])
        chain = max(row["widths"]) == 1 and row["drafter"] != "prompt-lookup"
        assert (row["predicted"] is not None) == chain
    # A tree holds the chain: no position takes fewer of its tokens.
    assert rows[1]["offsets"][0]["unconditional"] > rows[0]["offsets"][0]["unconditional"]


def test_its_figures_come_with_their_numbers(drafted: DraftRun) -> None:
    files = figure_files(drafted.document)
    assert {name.partition(".")[0] for name in files} == {"accepted", "speed", "cost"}
    rows = pd.read_csv(io.BytesIO(files["speed.csv"]))
    whole = drafted.drafters
    assert rows["speed"].tolist() == whole[whole["domain"] == rows["domain"][0]]["speed"].tolist()


def test_a_dry_run_says_what_would_draft(asked: dict[str, Any]) -> None:
    record = DraftSettings.from_mapping(settings(asked, drafters=DRAFTERS))
    plan, *texts = dry_run(load_model(record), record)
    assert plan.startswith("Plan: linear, lens, skip-bigram, mean-embedding, prompt-lookup draft")
    assert "tokens in documents: train" in texts[0]


def test_the_verdict_starts_with_the_answer(drafted: DraftRun) -> None:
    answer, judgement, flat = drafted.document["verdict"]
    assert answer.startswith("One token drafted by the linear probe at layer")
    assert "on this machine" in answer
    assert "prompt lookup alone" in answer
    assert judgement.startswith(("Worth drafting here", "Not worth heads"))
    assert "computed, not measured" in flat


def test_a_finished_draft_is_read_and_no_other_put_in_its_place(
    asked: dict[str, Any], drafted: DraftRun
) -> None:
    again = probekit.draft(**settings(asked, drafters=DRAFTERS), output=drafted.folder)
    assert again.document == drafted.document
    with pytest.raises(RunError, match="holds a run with other settings: drafters"):
        probekit.draft(**settings(asked, drafters=("lens",)), output=drafted.folder)


def test_the_probes_of_a_run_draft(finished_run: Run, tmp_path: Path) -> None:
    found = probekit.draft(
        run=str(finished_run.folder), drafters=("linear",), output=tmp_path / "out",
        **{**QUICK, "offsets": 2},
    )  # fmt: skip
    row = found.document["drafters"][0]
    assert (row["drafter"], row["widths"]) == ("linear", [1])
    assert found.document["model"]["fingerprint"] == finished_run.results["model"]["fingerprint"]
    assert not (found.folder / "probes.safetensors").exists()
    with pytest.raises(SettingsError, match="leave model out, got tiny-s"):
        probekit.draft("tiny-s", run=str(finished_run.folder))


def test_foretold_and_counted_are_one_thing(asked: dict[str, Any]) -> None:
    chosen = DraftSettings.from_mapping(settings(asked, drafters=("skip-bigram", "mean-embedding")))
    setup = prepare(load_model(chosen), chosen, (2,))
    drafting = list(candidates(chosen, setup, None, 1))
    tries = [trial for trial in trials(chosen, setup, drafting) if trial.chain]
    prompts = prompts_of(setup, setup.domains[0], 3, 8)
    with torch.no_grad():
        measured = run(chosen, setup, tries, prompts)
    blocks, targets = as_blocks(measured[PLAIN].drafted, prompts, 3)
    for trial in tries:
        # Where this drafter's passes began, as far as the text allows of all its drafts.
        began = torch.zeros_like(blocks.documents, dtype=torch.bool)
        accepted = 0
        for row, each in enumerate(measured[trial.label].drafted):
            for step in each.steps[1:]:
                if step.position + 2 < each.token_ids.shape[1]:
                    began[row, step.position - 1] = True
                    accepted += step.accepted
        candidate = trial.candidate
        assert candidate.readout is not None
        newest = targets.ids[1] if candidate.ahead else None
        readout = OneCell(candidate.name, candidate.readout, newest, candidate.readout.layers)
        seen = stream(
            setup.loaded.model, setup.anatomy, blocks.token_ids, readout.layers, batch_size=2
        )
        table = score([readout], seen, targets.only((2, 3)), {"began": began}, blocks.documents)
        assert table["joint_sum"].sum() == accepted > 0, candidate.name


def test_prompts_are_of_every_document_before_any_gives_two(asked: dict[str, Any]) -> None:
    chosen = DraftSettings.from_mapping(settings(asked))
    setup = prepare(load_model(chosen), chosen, (2,))
    owners = [n for n, document in enumerate(setup.documents) if document.split == "test"]
    found = prompts_of(setup, setup.domains[0], len(owners) + 1, 8)
    assert [prompt.document for prompt in found[: len(owners)]] == owners
    last, document = found[-1], setup.documents[found[-1].document]
    assert last.token_ids[0].tolist() == [setup.parting.separator.bos, *document.ids[8:16]]


def test_what_cannot_be_is_refused(asked: dict[str, Any], tmp_path: Path) -> None:
    for values, message in (
        ({"tree": (0,)}, "tree must be numbers of 1 or more"),
        ({"offsets": 1}, "offsets must be at least 2"),
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"prompt_tokens": 60}, "below 64 together"),
    ):
        with pytest.raises(SettingsError, match=message):
            probekit.draft(**settings(asked, **values), output=tmp_path)
    short = jsonl(tmp_path / "short.jsonl", [f"w{n} w{n + 1} w{n + 2} w{n + 3}" for n in range(40)])
    few = settings(asked, text=(str(short),), prompt_tokens=20, drafters=("prompt-lookup",))
    with pytest.raises(DataError, match="no test document of short has 20 tokens for a prompt"):
        probekit.draft(**few, output=tmp_path / "out")


def test_texts_can_be_sampled(asked: dict[str, Any], tmp_path: Path) -> None:
    chosen = settings(asked, drafters=("lens",), temperature=1.0, prompts=1, new_tokens=4)
    rows = probekit.draft(**chosen, output=tmp_path / "out").document["drafters"]
    assert [row["equal_texts"] for row in rows] == [None]
