"""The main job, end to end on a tiny model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import probekit
from probekit.activations.residual_stream import stream
from probekit.data.targets import text_targets
from probekit.errors import RunError, SettingsError
from probekit.models.anatomy import find_anatomy
from probekit.pipelines.analysis import fits
from probekit.pipelines.analysis.finished import Run
from probekit.progress import Journal
from probekit.runs.setup import load_model, prepare, with_machine_defaults
from probekit.runs.stages import Stages
from probekit.scoring.score import score
from probekit.settings import Settings
from support import tiny_run

UNREPEATABLE = {"id", "created", "command", "seconds", "stage_seconds"}


def comparable(run: Run) -> dict[str, Any]:
    results = json.loads(json.dumps(run.results))
    results["run"] = {k: v for k, v in results["run"].items() if k not in UNREPEATABLE}
    return dict(results)


def test_a_run_folder_is_whole(finished_run: Run) -> None:
    names = {path.name for path in finished_run.folder.iterdir()}
    assert names == {
        "results.json", "scores.parquet", "probes.safetensors", "passages.json", "report.html",
        "run.toml", "log.jsonl", "documents.parquet", "marginal-positions.parquet",
        "run.sha256",
    }  # fmt: skip
    page = finished_run.report.read_text()
    assert page.startswith("<!")
    assert page.rstrip().endswith("</html>")


def test_a_second_run_gives_the_same_numbers(
    finished_run: Run, asked: dict[str, Any], tmp_path: Path
) -> None:
    again = probekit.analyze(**asked, output=tmp_path)
    assert comparable(again) == comparable(finished_run)
    tensors, first = (load_file(run.folder / "probes.safetensors") for run in (again, finished_run))
    assert tensors.keys() == first.keys()
    assert all(torch.equal(tensors[key], first[key]) for key in first)


def forbid(*_: object, **__: object) -> Any:
    raise AssertionError("this was done already")


def test_the_same_command_again_reads_the_finished_run(
    finished_run: Run, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "fit_probes", forbid)
    said: list[str] = []
    again = probekit.analyze(**asked, output=finished_run.folder, say=said.append)
    assert again.results == finished_run.results
    assert said[-1].endswith("holds this run already")


class InterruptionError(Exception):
    pass


def interrupt(*_: object, **__: object) -> Any:
    raise InterruptionError


def test_a_finished_run_is_not_passed_off_as_one_of_another_text(
    finished_run: Run, asked: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder)
    path = Path(asked["text"][0])
    changed = tmp_path / path.name
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    changed.write_text("".join(lines[1:]), encoding="utf-8")
    toml = (folder / "run.toml").read_text(encoding="utf-8")
    (folder / "run.toml").write_text(toml.replace(str(path), str(changed)), encoding="utf-8")
    (folder / "run.sha256").unlink()
    with pytest.raises(RunError, match="the text changed since"):
        probekit.analyze(**asked | {"text": (str(changed),)}, output=folder)


def test_an_interrupted_run_goes_on_behind_its_finished_stages(
    finished_run: Run, asked: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probekit.pipelines.analysis.scores.scorer.LogitLens", interrupt)
        with pytest.raises(InterruptionError):
            probekit.analyze(**asked, output=tmp_path)
    assert not (tmp_path / "results.json").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fits, "fit_probes", forbid)
        resumed = probekit.analyze(**asked, output=tmp_path)
    assert resumed.results["scores"] == finished_run.results["scores"]
    assert not (tmp_path / "stages").exists()


def test_a_stage_of_another_model_or_text_is_not_taken_up(
    asked: dict[str, Any], text_file: Path, tmp_path: Path
) -> None:
    settings = Settings.from_mapping(asked)
    loaded = load_model(settings)
    prepared = prepare(loaded, with_machine_defaults(settings, loaded))
    other = tiny_run.jsonl(tmp_path / text_file.name, tiny_run.documents(seed=5))
    changed = Settings.from_mapping({**asked, "text": (str(other),)})
    read = prepare(loaded, with_machine_defaults(changed, loaded))
    journal = Journal(tmp_path / "log.jsonl", print)
    made = [Stages.of_run(tmp_path, journal, setup, settings) for setup in (prepared, read)]
    assert len({stages.fingerprint for stages in made}) == 2


def test_the_model_s_cross_entropy_is_what_transformers_says(
    finished_run: Run, asked: dict[str, Any]
) -> None:
    settings = finished_run.settings
    loaded = load_model(settings)
    blocks = prepare(loaded, settings).blocks["test"]
    model = AutoModelForCausalLM.from_pretrained(asked["model"], dtype=torch.float32)
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(
            model(blocks.token_ids).logits[:, :-1].transpose(1, 2),
            blocks.token_ids[:, 1:],
            reduction="none",
        )
    expected = float(losses[blocks.valid(1)[:, :-1]].mean())
    scores = finished_run.scores.query("readout == 'model' and positions == 'all'")
    assert scores["nats"].item() == pytest.approx(expected, abs=1e-4)
    assert scores["n_positions"].item() == int(blocks.valid(1).sum())


def test_every_readout_is_scored_on_the_same_positions(finished_run: Run) -> None:
    for (_, _, positions, _), group in finished_run.scores.groupby(
        ["split", "domain", "positions", "offset"]
    ):
        assert group["n_positions"].nunique() == 1
        assert positions == "all" or group["n_positions"].iloc[0] == 24
    names = set(finished_run.scores["readout"])
    assert names >= {"model", "lens", "linear", "unigram", "skip-bigram", "marginal"}


def test_the_lens_at_the_last_layer_is_the_model(finished_run: Run) -> None:
    scores = finished_run.scores.query("offset == 1 and split == 'test'")
    last = scores.query("readout == 'lens' and layer == 2").set_index("positions")["nats"]
    model = scores.query("readout == 'model'").set_index("positions")["nats"]
    assert last.to_dict() == pytest.approx(model.to_dict(), abs=1e-5)


def test_probes_are_applied_to_new_text(finished_run: Run) -> None:
    probes = probekit.load_probes(finished_run.folder)
    loaded = load_model(finished_run.settings)
    blocks = prepare(loaded, finished_run.settings).blocks["test"]
    seen = stream(
        loaded.model, find_anatomy(loaded.model), blocks.token_ids, probes.layers, batch_size=4
    )
    targets = text_targets(blocks, 2)
    table = score([probes], seen, targets, {"all": blocks.valid(1)}, blocks.documents)
    sums = table.groupby(["layer", "offset"])[["nats_sum", "n"]].sum()
    stored = finished_run.scores.query(
        "readout == 'linear' and split == 'test' and positions == 'all'"
    ).set_index(["layer", "offset"])["nats"]
    assert (sums["nats_sum"] / sums["n"]).to_dict() == pytest.approx(stored.to_dict(), abs=1e-6)


def quick(asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**asked, "marginal": "off", **more}


def test_a_model_object_is_analyzed_with_its_tokenizer(
    asked: dict[str, Any], model_folder: Path, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    own = {k: v for k, v in quick(asked).items() if k not in ("model", "device")}
    run = probekit.analyze(model, tokenizer=tiny_run.tokenizer(), output=tmp_path, **own)
    assert run.results["model"]["name"] == "LlamaForCausalLM"
    assert run.results["marginal"] == []
    assert not set(run.scores["readout"]) & {"marginal", "marginal-adapted"}


def test_a_model_object_alone_is_an_error(tiny_llama: Any) -> None:
    with pytest.raises(SettingsError, match=r"needs its tokenizer: tokenizer=\.\.\."):
        probekit.analyze(tiny_llama)
    with pytest.raises(SettingsError, match=r"is taken as it is: leave out \['dtype'\]"):
        probekit.analyze(tiny_llama, tokenizer=tiny_run.tokenizer(), dtype="bfloat16")
    with pytest.raises(SettingsError, match="the tokenizer of 'tiny' is loaded with it"):
        probekit.analyze("tiny", tokenizer=tiny_run.tokenizer())


def test_a_single_offset_and_layer_work_to_the_report(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    run = probekit.analyze(**{**asked, "offsets": 1, "layers": (1,)}, output=tmp_path)
    assert set(run.scores["offset"]) == {1}
    assert set(run.scores["layer"].dropna()) == {1, 2}  # the last is where forgetting is from
    assert run.results["marginal"] == []
    assert run.report.is_file()


@pytest.mark.slow
def test_other_sites_are_read(asked: dict[str, Any], tmp_path: Path) -> None:
    run = probekit.analyze(**quick(asked, site="mlp_out"), output=tmp_path)
    linear = run.scores.query("readout == 'linear'")
    assert set(linear["site"]) == {"mlp_out"}
    assert set(linear["layer"]) == {1, 2}
    assert run.scores.query("readout == 'lens'")["kl_nats"].isna().all()
    assert run.passages is not None
    assert run.passages["layers"] == [1, 2]
    first = run.passages["readings"][0]
    assert (first["readout"], first["layer"]) == ("model", None)


def test_two_texts_are_told_apart(asked: dict[str, Any], tmp_path: Path, text_file: Path) -> None:
    other = tiny_run.jsonl(tmp_path / "other.jsonl", tiny_run.documents(seed=7))
    texts = (f"one={text_file}", f"two={other}")
    asked = quick(asked, text=texts, controls="none", offsets=1)
    run = probekit.analyze(**asked, output=tmp_path / "run")
    assert set(run.scores["domain"]) == {"all", "one", "two"}
    counts = run.scores.query("readout == 'unigram' and offset == 1 and split == 'test'")
    by_domain = counts.query("positions == 'all'").set_index("domain")["n_positions"]
    assert by_domain["all"] == by_domain["one"] + by_domain["two"]
