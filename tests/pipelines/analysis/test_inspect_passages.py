"""The passages of a run: what its readouts say, against brute force, and who shows them."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from torch import Tensor
from transformers import PreTrainedModel

import probekit
from probekit import files
from probekit.activations.residual_stream import stream
from probekit.cli import main
from probekit.data.blocks import Blocks
from probekit.data.documents import Split
from probekit.data.targets import Targets, text_targets
from probekit.errors import RunError
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization
from probekit.models.anatomy import find_anatomy
from probekit.pipelines.analysis import analyze
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.analysis.fits import Fit
from probekit.pipelines.analysis.inspection import inspect_passages
from probekit.pipelines.analysis.inspection.passages import Passage, record
from probekit.probes.logit_lens import LogitLens, Model
from probekit.probes.probe import Probe, Probes
from probekit.readout import Readout, Seen
from probekit.runs.reading import json_schema
from probekit.runs.setup import Setup, load_model, prepare
from probekit.settings import Settings
from support import tiny_run

HORIZON = 3

VALUES = "nats", "rank", "top", "probs"


def read(document: dict[str, Any], readout: str, layer: int | None, offset: int) -> dict[str, Any]:
    (found,) = (
        each
        for each in document["readings"]
        if (each["readout"], each["layer"], each["offset"]) == (readout, layer, offset)
    )
    return dict(found)


def used(document: dict[str, Any]) -> set[int]:
    """Return the entries of the vocabulary that occur."""
    rows = [each["tokens"] for each in document["passages"]]
    rows += [row for each in document["passages"] for row in each["targets"].values()]
    rows += [top for each in document["readings"] for row in each["top"] for top in row if top]
    return {i for row in rows for i in row if i is not None}


def ids_of(document: dict[str, Any]) -> list[int]:
    """Return the token id of each entry of the vocabulary, spelt by `tiny_run.tokenizer`."""
    known = {"<s>": 0, "</s>": 1, "<unk>": 2} | {f" w{n}": n + 3 for n in range(tiny_run.WORDS)}
    return [
        known[text] if text in known else int(text.removeprefix("<token ")[:-1])
        for text in document["vocabulary"]
    ]


def expected_entry(logits: Tensor, target: int) -> tuple[float, int, list[int], list[float]]:
    log_probs = logits.double().log_softmax(0).tolist()
    order = sorted(range(len(log_probs)), key=lambda i: -log_probs[i])
    rank = 1 + sum(p > log_probs[target] for p in log_probs)
    return -log_probs[target], rank, order[:5], [math.exp(log_probs[i]) for i in order[:5]]


def require_same(
    document: dict[str, Any],
    reading: dict[str, Any],
    logits: Mapping[tuple[int, int], Tensor],
    chosen: list[Passage],
    targets: Targets,
) -> None:
    """Require what brute force says of the logits at each block and position."""
    ids, offset = ids_of(document), reading["offset"]
    for number, each in enumerate(chosen):
        for i, place in enumerate(each.positions):
            values = [reading[name][number][i] for name in VALUES]
            index = document["passages"][number]["targets"][str(offset)][i]
            if not targets.valid[offset][place]:
                assert values == [None] * 4
                assert index is None
                continue
            target = int(targets.ids[offset][place])
            assert ids[index] == target
            nats, rank, top, probs = expected_entry(logits[place], target)
            assert values[0] == pytest.approx(nats, abs=2e-4)
            assert values[1] == rank
            assert [ids[entry] for entry in values[2]] == top
            assert values[3] == pytest.approx(probs, abs=1e-4)


SHORT = [Passage("a", 0, 0, 3, 8), Passage("a", 1, 1, 5, 6), Passage("b", 2, 1, 12, 9)]


@pytest.fixture(scope="module")
def short() -> Blocks:
    """Return two blocks of 24 with the documents of SHORT, each passage up to a document's end."""
    ids = torch.randint(3, 60, (2, 24), generator=torch.Generator().manual_seed(1))
    documents = torch.full((2, 24), -1)
    documents[0, 1:11], documents[1, 5:11], documents[1, 12:21] = 0, 1, 2
    return Blocks(ids, documents)


def test_lens_model_and_marginalization_are_what_the_model_says(
    tiny_llama: PreTrainedModel, short: Blocks
) -> None:
    anatomy, truncation = find_anatomy(tiny_llama), Truncation("top", max_branches=4)
    targets = text_targets(short, HORIZON)
    seen = stream(tiny_llama, anatomy, short.token_ids, [1, anatomy.n_layers], batch_size=1)
    marginal = Marginalization(BranchEngine(tiny_llama), truncation)
    readouts: list[Readout] = [LogitLens([1], anatomy), Model(anatomy), marginal]
    document = record(SHORT, [(readouts, seen)], short, targets, tiny_run.tokenizer())
    with torch.no_grad():
        out = tiny_llama(short.token_ids, output_hidden_states=True)
        lens = tiny_llama.lm_head(tiny_llama.model.norm(out.hidden_states[1]))
    places = [place for each in SHORT for place in each.positions]
    for offset in (1, 2, 3):
        by_place = {place: lens[place] for place in places}
        require_same(document, read(document, "lens", 1, offset), by_place, SHORT, targets)
    by_place = {place: out.logits[place] for place in places}
    require_same(document, read(document, "model", None, 1), by_place, SHORT, targets)
    whole = Marginalization(BranchEngine(tiny_llama), truncation)
    everywhere = {k: short.valid(k) for k in (2, 3)}
    for cell, logits in whole.predict(Seen(short.token_ids, {}), everywhere):
        spots = map(tuple, everywhere[cell.offset].nonzero().tolist())
        by_place = dict(zip(spots, logits, strict=True))
        reading = read(document, "marginal", None, cell.offset)
        require_same(document, reading, by_place, SHORT, targets)
    assert used(document) == set(range(len(document["vocabulary"])))
    assert len(document["readings"]) == 6
    assert document["layers"] == [1]
    assert document["offsets"] == [1, 2, 3]


def test_a_run_holds_what_the_schema_says(finished_run: Run) -> None:
    document = finished_run.passages
    assert document is not None
    Draft202012Validator.check_schema(json_schema("passages"))
    Draft202012Validator(json_schema("passages")).validate(document)
    cells = [(each["readout"], each["layer"], each["offset"]) for each in document["readings"]]
    layered = {
        (name, layer, k) for name in ("lens", "linear") for layer in range(3) for k in (1, 2)
    }
    assert set(cells) == layered | {("model", None, 1), ("marginal", None, 2)}
    assert len(cells) == len(set(cells))
    assert used(document) == set(range(len(document["vocabulary"])))
    for number, each in enumerate(document["passages"]):
        for reading in document["readings"]:
            lengths = {len(reading[name][number]) for name in VALUES}
            assert lengths == {len(each["tokens"])}


@pytest.fixture(scope="module")
def setup(finished_run: Run) -> Setup:
    settings = finished_run.settings
    return prepare(load_model(settings), settings)


def test_the_same_run_gives_the_same_bytes(finished_run: Run, setup: Setup) -> None:
    fitted = analyze.load_probes(finished_run.folder, setup.loaded)
    fit = Fit("linear", "linear", 0, setup.layers, (1, 2))
    targets = text_targets(setup.blocks["test"], 2)
    again = inspect_passages.inspect(setup, finished_run.settings, targets, {fit: fitted})
    text = (finished_run.folder / "passages.json").read_text(encoding="utf-8")
    assert files.as_json(again, indent=None) == text


@pytest.mark.parametrize("part", ["test", "train"])
def test_readings_are_of_the_place_that_they_name(
    part: Split, finished_run: Run, setup: Setup
) -> None:
    """The probes on the whole text say the same as on the blocks of passages alone."""
    blocks, settings = setup.blocks[part], replace(finished_run.settings, marginal="off")
    inspected, targets = replace(setup, blocks={"test": blocks}), text_targets(blocks, 2)
    fitted = analyze.load_probes(finished_run.folder, setup.loaded)
    fit = Fit("linear", "linear", 0, setup.layers, (1, 2))
    document = inspect_passages.inspect(inspected, settings, targets, {fit: fitted})
    ids = ids_of(document)
    chosen = [_found(blocks, each, ids) for each in document["passages"]]
    for seen in inspected.stream("test", setup.layers, "resid_post", len(blocks.token_ids)):
        for cell, logits in fitted.predict(seen, targets.valid):
            spots = map(tuple, targets.valid[cell.offset].nonzero().tolist())
            by_place = dict(zip(spots, logits, strict=True))
            reading = read(document, "linear", cell.layer, cell.offset)
            require_same(document, reading, by_place, chosen, targets)


def _found(blocks: Blocks, shown: dict[str, Any], ids: list[int]) -> Passage:
    """Return where in these blocks a passage is."""
    at, length = shown["position"], len(shown["tokens"])
    wanted = torch.tensor([ids[i] for i in shown["tokens"]])
    same = (blocks.token_ids[:, at : at + length] == wanted).all(dim=1)
    (block,) = (same & (blocks.documents[:, at] == shown["document"])).nonzero()[:, 0].tolist()
    return Passage(shown["domain"], shown["document"], block, at, length)


def test_linear_one_more_family_and_all_layers_together_are_shown_of_the_first_seed(
    setup: Setup,
) -> None:
    probe = Probe({}, "start", 0.0, None, True, 0.0)
    fitted: dict[Fit, Probes] = {}
    for family in ("linear", "concat", "linear-lowrank", "mlp"):
        layers = (None,) if family == "concat" else (0, 1, 2)
        cells = {(layer, 1): probe for layer in layers}
        for seed in (0, 1):
            name = f"{family} of seed {seed}"
            made = Probes(cells, setup.anatomy, 0, family, name=name)
            fitted[Fit(family, family, seed, (0, 1, 2), (1,))] = made
    fitted[Fit("control", "linear", 0, (0,), (1,))] = Probes({}, setup.anatomy, 0, name="control")
    shown = list(inspect_passages._probes(Settings(), fitted, [0, 2]))
    assert [each.name for each in shown] == [
        "linear of seed 0", "linear-lowrank of seed 0", "concat of seed 0",
    ]  # fmt: skip
    assert [set(each.probes) for each in shown] == [{(0, 1), (2, 1)}] * 2 + [{(None, 1)}]


class InterruptionError(Exception):
    pass


def stop(*_: object, **__: object) -> Any:
    raise InterruptionError


def test_an_interrupted_run_goes_on_behind_its_passages_and_without_marginal_has_none(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    given = {**asked, "marginal": "off", "controls": "none", "layers": (2,)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probekit.reports.render", stop)
        with pytest.raises(InterruptionError):
            probekit.analyze(**given, output=tmp_path)
    shown: list[object] = []

    def note(_: object, passages: object) -> str:
        shown.append(passages)
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect_passages, "inspect", stop)
        patch.setattr("probekit.reports.render", note)
        run = probekit.analyze(**given, output=tmp_path)
    assert run.passages is not None
    assert {each["readout"] for each in run.passages["readings"]} == {"model", "lens", "linear"}
    assert shown == [run.passages]
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert "passages" in {json.loads(line)["stage"] for line in log}


def test_the_report_command_shows_the_passages_where_a_run_has_some(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results.json").write_text((finished_run.folder / "results.json").read_text())
    shown: list[object] = []

    def note(_: object, passages: object) -> str:
        shown.append(passages)
        return ""

    monkeypatch.setattr("probekit.reports.render", note)
    main.report(tmp_path)
    (tmp_path / "passages.json").write_text((finished_run.folder / "passages.json").read_text())
    main.report(tmp_path)
    assert shown == [None, finished_run.passages]


def test_passages_of_another_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "passages.json").write_text('{"schema": "probekit.passages/0"}')
    with pytest.raises(RunError, match=r"is not of schema probekit.passages/1"):
        _ = Run(tmp_path, {}).passages
