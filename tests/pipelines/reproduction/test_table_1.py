"""Table 1: what a run of heads trained, scored by the paper's protocol on its test pairs."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.stats import binomtest

from probekit import provenance
from probekit.activations.backbone import Backbone
from probekit.digests import DIGESTS
from probekit.errors import DataError, RunError
from probekit.heads import files
from probekit.heads.training import lora
from probekit.heads.training.recipes import RECIPES
from probekit.marginalization.marginal_readout import Marginalization
from probekit.paper.numbers import match
from probekit.paper.protocol import EXTENDED, PAPER, Protocol
from probekit.pipelines.head_study import study_heads as head_study
from probekit.pipelines.head_study.settings import HeadSettings
from probekit.pipelines.head_study.study import Study
from probekit.pipelines.head_study.study_heads import HeadRun, study_heads
from probekit.pipelines.reproduction import table_1
from probekit.runs.setup import load_model, prepare
from support import tiny_run

PROTOCOL = Protocol(samples=2, extended=375)  # all fifteen test pairs


@pytest.fixture(scope="module")
def asked(asked: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the settings of a study of heads on pairs."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = []
    for text in tiny_run.documents(50, seed=3):
        words = text.split()
        rows.append({"source": " ".join(words[:3]), "target": " ".join(words[3:28])})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    quick = {"epochs": 1, "step_blocks": 8, "sweep": "none", "block": 48, "max_branches": 64}
    return {**asked, **quick, "text": (str(path),), "strategies": ("heads-only", "joint")}


@pytest.fixture(scope="module")
def study(asked: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> HeadRun:
    return study_heads(**asked, output=tmp_path_factory.mktemp("heads") / "run")


@pytest.fixture(scope="module")
def rows(study: HeadRun, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    found = table_1.measure(study.folder, PROTOCOL, tmp_path_factory.mktemp("table"))
    return pd.DataFrame(found)


def of(rows: pd.DataFrame, strategy: str, offset: int, positions: str) -> Any:
    chosen = (rows["strategy"] == strategy) & (rows["offset"] == offset)
    (row,) = rows[chosen & (rows["positions"] == positions)].itertuples()
    return row


@torch.no_grad()
def hits_by_hand(study: HeadRun, asked: dict[str, Any], strategy: str, offset: int) -> list[int]:
    """Return the top-5 hits of each test pair, its 25 target tokens and no other asked for."""
    settings = HeadSettings.from_mapping(asked)
    setup = prepare(load_model(settings), settings)
    model, head = setup.loaded.model, setup.anatomy
    if strategy == "finetune":
        lora.load(model, head, study.folder / "adapter-finetune.safetensors")
    else:
        heads = files.load(study.folder / f"heads-{strategy}.safetensors", head, setup.fingerprint)
        if strategy == "joint":
            lora.load(model, head, study.folder / "adapter-joint.safetensors")
    found = []
    for document in setup.documents:
        if document.split != "test":
            continue
        ids = torch.tensor([[tiny_run.BOS, *document.ids]])
        if strategy == "finetune":
            logits = model(ids).logits
        else:
            logits = heads.logits(
                heads.hidden(Backbone(model, head).read(ids, heads.reads), offset), offset
            )
        best = logits[0].topk(5, dim=-1).indices
        places = range(ids.shape[1] - 25, ids.shape[1])
        found.append(sum(int(ids[0, place] in best[place - offset]) for place in places))
    return found


@pytest.mark.parametrize(("strategy", "offset"), [("heads-only", 2), ("joint", 2), ("joint", 1)])
def test_heads_are_scored_at_every_target_token(
    rows: pd.DataFrame, study: HeadRun, asked: dict[str, Any], strategy: str, offset: int
) -> None:
    hits = hits_by_hand(study, asked, strategy, offset)
    row = of(rows, strategy, offset, EXTENDED)
    assert (row.n_samples, row.n_positions) == (len(hits), 25 * len(hits))
    assert row.top5 == pytest.approx(sum(hits) / (25 * len(hits)))
    assert row.top5_low < row.top5 < row.top5_high


def test_heads_are_scored_on_the_model_that_was_trained_with_them(
    study: HeadRun, asked: dict[str, Any], tmp_path: Path
) -> None:
    """An adapter that turns the model round must turn what its heads hit."""
    copied = HeadRun(shutil.copytree(study.folder, tmp_path / "run"), study.document)
    path = copied.folder / "adapter-joint.safetensors"
    with safe_open(path, framework="pt") as file:
        notes, names = file.metadata(), file.keys()
        strong = {name: 30 * file.get_tensor(name) for name in names}
    save_file(strong, path, notes)
    (copied.folder / DIGESTS).unlink()
    hits = hits_by_hand(copied, asked, "joint", 2)
    assert sum(hits) < sum(hits_by_hand(study, asked, "joint", 2)) - 10
    found = pd.DataFrame(table_1.measure(copied.folder, PROTOCOL, tmp_path))
    assert of(found, "joint", 2, EXTENDED).top5 == pytest.approx(sum(hits) / (25 * len(hits)))


def test_the_next_token_of_the_finetuned_model_is_the_baseline(
    rows: pd.DataFrame, study: HeadRun, asked: dict[str, Any]
) -> None:
    base = hits_by_hand(study, asked, "finetune", 1)
    row = of(rows, "finetuned-marginalized", 1, EXTENDED)
    assert row.top5 == pytest.approx(sum(base) / (25 * len(base)))
    assert row.above_baseline is None or pd.isna(row.above_baseline)
    own = hits_by_hand(study, asked, "joint", 1)
    apart = of(rows, "joint", 1, EXTENDED).above_baseline
    assert apart == pytest.approx((sum(own) - sum(base)) / (25 * len(base)))
    frozen = hits_by_hand(study, asked, "heads-only", 1)
    apart = of(rows, "joint", 1, EXTENDED).above_heads_only
    assert apart == pytest.approx((sum(own) - sum(frozen)) / (25 * len(base)))


def test_the_papers_positions_are_the_last_20_of_its_samples(rows: pd.DataFrame) -> None:
    row = of(rows, "joint", 2, PAPER)
    assert (row.n_samples, row.n_positions, row.interval) == (2, 40, "Wilson")
    expected = binomtest(round(row.top5 * 40), 40).proportion_ci(method="wilson")
    assert (row.top5_low, row.top5_high) == pytest.approx((expected.low, expected.high), abs=1e-3)
    assert set(rows["task"]) == {"translation"}


def test_what_is_done_is_not_done_again(
    study: HeadRun, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = table_1.measure(study.folder, PROTOCOL, tmp_path)
    pd.testing.assert_frame_equal(pd.DataFrame(first), rows)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was marginalized again")

    monkeypatch.setattr(Marginalization, "predict", never)
    assert table_1.measure(study.folder, PROTOCOL, tmp_path) == first
    with pytest.raises(AssertionError, match="marginalized again"):
        table_1.measure(study.folder, Protocol(samples=3, extended=125), tmp_path)


def test_a_run_whose_text_is_another_now_is_refused(
    asked: dict[str, Any], study: HeadRun, tmp_path: Path
) -> None:
    path = Path(asked["text"][0])
    before = path.read_text()
    try:
        path.write_text(before + json.dumps({"source": "w1", "target": "w2 " * 25}) + "\n")
        with pytest.raises(RunError, match=r"the text changed since\. Train again"):
            table_1.measure(study.folder, PROTOCOL, tmp_path)
    finally:
        path.write_text(before)
    with pytest.raises(RunError, match="no finished study of heads"):
        table_1.measure(tmp_path, PROTOCOL, tmp_path)


def test_texts_too_short_for_the_protocol_are_said(
    asked: dict[str, Any], text_file: Path, tmp_path: Path
) -> None:
    short = {**asked, "text": (str(text_file),), "strategies": ("heads-only",)}
    run = study_heads(**short, output=tmp_path / "run")
    with pytest.raises(DataError, match="no test documents of 100 tokens, or pairs"):
        table_1.measure(run.folder, PROTOCOL, tmp_path)


def test_the_papers_number_stands_beside_a_strategy_that_it_has() -> None:
    known = match("EleutherAI/pythia-410m")
    share = table_1._papers("joint-diff-whs", 2, known)
    assert share is not None
    assert (share.value, share.n) == (0.590, 1000)
    assert table_1._papers("heads-from-probes", 2, known) is None
    assert table_1._papers("joint", 2, match("tiny")) is None
    assert table_1._papers("joint", 2, match("EleutherAI/pythia-70m")) is None


@pytest.mark.parametrize(
    ("kind", "read", "prompt", "its"),
    [
        ("block", None, 9, True),
        ("block", 5, 9, True),
        ("block", 4, 9, False),
        ("linear", None, 9, False),
        ("block", None, 0, False),
    ],
)
def test_the_papers_numbers_are_for_its_heads_on_translation_alone(
    kind: str, read: int | None, prompt: int, its: bool
) -> None:
    loaded = SimpleNamespace(repository="EleutherAI/pythia-410m", name="pythia-410m")
    documents = [SimpleNamespace(prompt=prompt, domain="pairs")]
    anatomy = SimpleNamespace(n_layers=6)
    setup = SimpleNamespace(loaded=loaded, documents=documents, anatomy=anatomy)
    study = Mock(Study, settings=SimpleNamespace(kind=kind, read=read), setup=setup)
    assert (table_1._comparable(study) is not None) is its


def test_a_model_of_the_table_is_trained_as_the_paper_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def record(model: str, **settings: Any) -> Any:
        asked.update(settings, model=model)
        return HeadRun(Path(settings["output"]), {})

    monkeypatch.setattr(head_study, "study_heads", record)
    folder = table_1.train("EleutherAI/pythia-1b", {"block": 128}, Path("x"), print)
    assert re.fullmatch(r"x/heads/pythia-1b-[0-9a-f]{6}", str(folder))
    assert table_1.train("EleutherAI/pythia-1b", {"block": 128}, Path("x"), print) == folder
    for other in ({"block": 128, "seed": 1}, {"block": 128, "max_tokens": 9}):
        assert table_1.train("EleutherAI/pythia-1b", other, Path("x"), print) != folder
    assert table_1.train("other/pythia-1b", {"block": 128}, Path("x"), print) != folder
    table_1.train("EleutherAI/pythia-1b", {"block": 128, "seed": 7}, Path("x"), print)
    assert asked["seed"] == 7
    assert (asked["epochs"], asked["step_blocks"], asked["rate"]) == (1, 64, "paper-table")
    assert (asked["init"], asked["block"], asked["sweep"]) == ("random", 128, "none")
    ours = {
        "joint-diff-whs-rms",
        "finetune",
        "heads-on-finetuned",
        "heads-from-probes",
        "joint-from-probes",
    }
    assert set(asked["strategies"]) == set(RECIPES) - ours
    asked.clear()
    table_1.train("tiny", {}, Path("x"), print)
    assert "rate" not in asked


def test_a_document_names_the_texts_of_the_runs(study: HeadRun, tmp_path: Path) -> None:
    found = table_1.document([study.folder], PROTOCOL, tmp_path, print)
    assert [text["domain"] for text in found["texts"]] == ["pairs"]
    assert found["versions"] == dict(provenance.versions())
    assert found["strangers"] == [study.document["model"]["name"]]
    (trained,) = found["runs"]
    steps = max(row["step"] for row in study.document["curves"])
    assert (trained["steps"], trained["step_blocks"], trained["kind"]) == (steps, 8, "block")
    assert trained["documents"] == 30
