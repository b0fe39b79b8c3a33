"""Studies of heads: their numbers by hand, the same positions for all, going on, and errors."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import probekit
from probekit.activations.backbone import Backbone
from probekit.cli.main import app
from probekit.data.targets import draw_positions, text_targets
from probekit.errors import RunError
from probekit.heads import files
from probekit.heads.training import lora
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.head_study import study_heads as head_study
from probekit.pipelines.head_study.settings import HeadSettings
from probekit.pipelines.head_study.study_heads import HeadRun, study_heads
from probekit.probes import linear
from probekit.runs.reading import json_schema
from probekit.runs.setup import load_model, prepare
from probekit.runs.streams import SITE_OF_MODEL, Streams
from probekit.settings import MARGINALIZED
from support import tiny_run
from support.head_runs import QUICK, rows

SAID: list[str] = []


@pytest.fixture(scope="module")
def asked_heads(asked: dict[str, Any]) -> dict[str, Any]:
    return {**asked, **QUICK}


@pytest.fixture(scope="module")
def study(asked_heads: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> HeadRun:
    folder = tmp_path_factory.mktemp("heads") / "run"
    return study_heads(**asked_heads, output=folder, say=SAID.append)


@pytest.mark.usefixtures("study")
def test_stages_are_counted_to_the_last() -> None:
    places = re.findall(r"\((\d+) of (\d+)\)", "\n".join(SAID))
    assert places == [(str(number), places[-1][1]) for number in range(2, len(places) + 2)]
    assert places[-1][0] == places[-1][1]


def by_hand(run: HeadRun, strategy: str, offset: int, positions: str, column: str) -> float:
    table = run.documents
    own = table[
        (table["readout"] == strategy)
        & (table["offset"] == offset)
        & (table["positions"] == positions)
    ]
    return float(own[column].sum() / own["n"].sum())


@torch.no_grad()
def test_the_weights_in_the_folder_give_the_numbers(
    study: HeadRun, asked_heads: dict[str, Any]
) -> None:
    settings = HeadSettings.from_mapping(asked_heads)
    setup = prepare(load_model(settings), settings)
    model, head, test = setup.loaded.model, setup.anatomy, setup.blocks["test"]
    learned = files.load(study.folder / "heads-joint.safetensors", head, setup.fingerprint)
    lora.load(model, head, study.folder / "adapter-joint.safetensors")
    targets = text_targets(test, 2)
    reading = Backbone(model, head).read(test.token_ids, learned.reads)
    for offset in (1, 2):
        logits = learned.logits(learned.hidden(reading, offset)[targets.valid[offset]], offset)
        wanted = targets.ids[offset][targets.valid[offset]]
        expected = float(torch.nn.functional.cross_entropy(logits, wanted))
        (row,) = rows(study, "scores", strategy="joint", offset=offset, positions="all")
        assert row["nats"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("positions", ["all", "marginal"])
@pytest.mark.parametrize(("strategy", "offset"), [("heads-only", 2), ("joint", 1), ("base", 1)])
def test_the_table_is_what_the_scores_by_document_say(
    study: HeadRun, strategy: str, offset: int, positions: str
) -> None:
    (row,) = rows(study, "scores", strategy=strategy, offset=offset, positions=positions)
    for metric in ("nats", "top1", "top5"):
        expected = by_hand(study, strategy, offset, positions, f"{metric}_sum")
        assert row[metric] == pytest.approx(expected, rel=1e-9)
        assert row[f"{metric}_low"] <= row[metric] <= row[f"{metric}_high"]
    unigram = by_hand(study, "unigram", offset, positions, "nats_sum")
    assert row["bits"] == pytest.approx((unigram - row["nats"]) / math.log(2))
    (apart,) = rows(
        study,
        "differences",
        strategy="joint",
        against="finetune",
        offset=offset,
        positions="marginal",
    )
    expected = by_hand(study, "joint", offset, "marginal", "nats_sum") - by_hand(
        study, "finetune", offset, "marginal", "nats_sum"
    )
    assert apart["nats"] == pytest.approx(expected)


def test_all_strategies_are_scored_on_the_positions_that_are_marginalized(
    study: HeadRun, asked_heads: dict[str, Any]
) -> None:
    settings = HeadSettings.from_mapping(asked_heads)
    setup = prepare(load_model(settings), settings)
    test, most = setup.blocks["test"], settings.marginal_positions or MARGINALIZED
    drawn = draw_positions(test, setup.domains, settings.offsets, most, settings.seed)
    numbers = test.documents[drawn].bincount()
    table = study.documents[study.documents["positions"] == "marginal"]
    names = {"base", "finetune", "heads-only", "joint"}
    assert names <= set(table["readout"])
    for (_, _), own in table[table["readout"].isin(names)].groupby(["readout", "offset"]):
        counts = own["document"].map(lambda number: int(numbers[number]))
        assert (own["n"] == counts).all()
        assert own["n"].sum() == int(drawn.sum())


class KilledError(Exception):
    """What stops a study from outside."""


@pytest.mark.slow
def test_a_study_that_was_stopped_comes_to_the_same_numbers(
    study: HeadRun, asked_heads: dict[str, Any], tmp_path: Path
) -> None:
    def stop(line: str) -> None:
        if "joint (joint) step 2/" in line:
            raise KilledError

    with pytest.raises(KilledError):
        study_heads(**asked_heads, output=tmp_path / "run", say=stop)
    assert not (tmp_path / "run" / "heads.json").exists()
    lines: list[str] = []
    again = study_heads(**asked_heads, output=tmp_path / "run", say=lines.append)
    assert not any("train finetune" in line or "heads-only" in line for line in lines)
    for part in ("scores", "differences", "gaps", "curves", "sweep", "verdict"):
        assert again.document[part] == study.document[part], part
    assert not (tmp_path / "run" / "stages").exists()


def test_the_probe_of_the_sweep_is_the_one_that_is_fitted_alone(
    study: HeadRun, asked_heads: dict[str, Any]
) -> None:
    settings = HeadSettings.from_mapping(asked_heads)
    setup = prepare(load_model(settings), settings)
    layers = (0, 1, 2)
    streams = Streams(setup, layers, SITE_OF_MODEL)
    parts = [
        (streams.read(part), text_targets(setup.blocks[part], 2).only([2]))
        for part in ("train", "validation", "test")
    ]
    probes = linear.fit(parts[0], parts[1], setup.anatomy, layers)
    for layer in layers:
        (row,) = rows(study, "sweep", readout="linear", layer=layer)
        assert row["validation_nats"] == pytest.approx(probes.probes[layer, 2].validation_nats)
        nats, n = 0.0, 0
        stream, targets = parts[2]
        for seen in stream:
            valid = targets.valid[2][seen.blocks]
            for cell, logits in probes.predict(seen, {2: valid}):
                if cell.layer == layer:
                    wanted = targets.ids[2][seen.blocks][valid]
                    nats += float(torch.nn.functional.cross_entropy(logits, wanted) * len(wanted))
                    n += len(wanted)
        assert row["nats"] == pytest.approx(nats / n, rel=1e-5)
    (last,) = rows(study, "sweep", readout="head", layer=2)
    assert last["nats_minus_head"] is None


def test_a_study_writes_what_the_schema_says(study: HeadRun) -> None:
    schema = json_schema("heads")
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    validator.validate(dict(study.document))
    wrong = json.loads(json.dumps(study.document))
    wrong["scores"][0]["nats"] = None
    assert not validator.is_valid(wrong)


def test_the_folder_is_whole_and_read_again(
    study: HeadRun, asked_heads: dict[str, Any], tmp_path: Path
) -> None:
    names = {path.name for path in study.folder.iterdir()}
    assert {"heads.json", "scores.parquet", "documents.parquet", "run.toml", "report.html"} <= names
    assert {"heads-joint.safetensors", "adapter-joint.safetensors"} <= names
    assert "heads-finetune.safetensors" not in names
    again = study_heads(**asked_heads, output=study.folder)
    assert again.document == study.document
    with pytest.raises(RunError, match="other settings"):
        study_heads(**{**asked_heads, "epochs": 3}, output=study.folder)
    with pytest.raises(RunError, match="holds no finished study"):
        head_study.load(tmp_path)


def test_a_model_object_is_studied_and_left_as_it_was(
    study: HeadRun, asked_heads: dict[str, Any], model_folder: Path, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    own = {key: value for key, value in asked_heads.items() if key not in ("model", "device")}
    own |= {"tokenizer": tiny_run.tokenizer(), "strategies": ("heads-only",), "sweep": "none"}
    run = study_heads(model, **own, output=tmp_path)
    assert run.document["model"] == study.document["model"] | {"name": "LlamaForCausalLM"}
    (alone,) = rows(run, "scores", strategy="heads-only", offset=2, positions="all")
    (row,) = rows(study, "scores", strategy="heads-only", offset=2, positions="all")
    assert alone["nats"] == pytest.approx(row["nats"])
    assert model.state_dict().keys() == before.keys()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    # Its class is all the name that it has: another model of that class is told apart.
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    with pytest.raises(RunError, match="the model changed since"):
        study_heads(model, **own, output=tmp_path)


def test_a_folder_that_holds_something_else_is_left_alone(
    study: HeadRun, finished_run: Run, asked: dict[str, Any], tmp_path: Path
) -> None:
    folder = shutil.copytree(study.folder, tmp_path / "study")
    with pytest.raises(RunError, match="holds a run with other settings: epochs, sweep"):
        study_heads(**asked | QUICK | {"epochs": 3, "sweep": "none"}, output=folder)
    with pytest.raises(RunError, match="holds a study of heads: name another folder"):
        probekit.analyze(**asked, output=folder, overwrite=True)
    other = shutil.copytree(finished_run.folder, tmp_path / "analysis")
    with pytest.raises(RunError, match="holds an analysis: name another folder"):
        study_heads(**asked, output=other, overwrite=True)


def test_a_replaced_study_leaves_no_weights_behind(
    study: HeadRun, asked: dict[str, Any], tmp_path: Path
) -> None:
    folder = shutil.copytree(study.folder, tmp_path / "study")
    fewer = asked | QUICK | {"sweep": "none", "strategies": ("heads-only",)}
    run = study_heads(**fewer, output=folder, overwrite=True)
    named = {file for row in run.document["weights"].values() for file in row.values() if file}
    assert {path.name for path in folder.glob("*.safetensors")} == named


def test_few_documents_are_warned_of(study: HeadRun) -> None:
    (told,) = rows(study, "warnings", code="few-test-documents")
    assert re.search(r"\d test documents; below 20 the intervals are rough", told["message"])


def test_the_command_prints_a_plan_and_its_verdict(
    study: HeadRun, asked_heads: dict[str, Any]
) -> None:
    given = ["heads", "--model", asked_heads["model"], "--text", asked_heads["text"][0]]
    given += ["--device", "cpu", "--block", "32", "--batch-size", "8"]
    given += ["--epochs", "1", "--step-blocks", "8", "--rate", "0.005"]
    given += ["--max-branches", "8", "--marginal-positions", "24"]
    given += ["--strategy", "heads-only", "--strategy", "joint", "--output", str(study.folder)]
    plan = CliRunner().invoke(app, [*given, "--dry-run"])
    assert plan.exit_code == 0, plan.output
    assert "3 strategies of block heads for offsets 1 to 2" in plan.output
    assert "Read-layer sweep at layers 0, 1, 2" in plan.output
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert all(sentence in done.output for sentence in study.document["verdict"])
    assert done.output.splitlines()[-1] == f"Report: {study.report}"
    (row,) = rows(study, "scores", strategy="joint", offset=2, positions="marginal")
    assert f"{row['nats']:.3f}" in done.output


def test_a_study_is_rendered_again_to_the_same_bytes(study: HeadRun, tmp_path: Path) -> None:
    (tmp_path / "heads.json").write_bytes((study.folder / "heads.json").read_bytes())
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.exception
    assert (tmp_path / "report.html").read_text() == study.report.read_text()


def test_an_interrupted_command_says_that_it_goes_on(
    asked_heads: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(head_study, "run", interrupted)
    done = CliRunner().invoke(app, ["heads", "--model", asked_heads["model"]])
    assert done.exit_code == 130
    assert "the same command goes on" in done.output
