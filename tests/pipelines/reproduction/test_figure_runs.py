"""The paper's experiments repeated, each number against another way to it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

import probekit
from probekit.data.documents import Source
from probekit.data.prompted.pair_tokens import Sample
from probekit.data.texts import Pairs, open_text
from probekit.errors import ModelError, SettingsError
from probekit.marginalization.joint_paths import Truncation
from probekit.models import loading
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.models.loading import Loaded
from probekit.paper.protocol import (
    EXTENDED,
    PAPER,
    Protocol,
    Subject,
    accuracy,
    divergence,
    score_model,
)
from probekit.paper.samples import pair_samples, predicting_positions
from probekit.pipelines.reproduction import figure_runs, figures
from probekit.pipelines.reproduction.document import write
from probekit.pipelines.reproduction.figure_runs import FigureRequest
from probekit.reports.reproduction.page import render_reproduction, terminal_lines


@pytest.fixture(scope="module")
def loaded(model_folder: Path) -> Loaded:
    return loading.load(str(model_folder), device="cpu")


@pytest.fixture(scope="module")
def subject(loaded: Loaded) -> Subject:
    return Subject(loaded.model, find_anatomy(loaded.model), "mini")


@pytest.fixture(scope="module")
def samples(loaded: Loaded, pair_file: Path) -> list[Sample]:
    opened = open_text(Source("words", str(pair_file)))
    assert isinstance(opened, Pairs)
    return list(pair_samples(opened.take(), loaded.tokenizer, seed=0))


def hits(logits: torch.Tensor, targets: torch.Tensor) -> list[bool]:
    """Return whether each target is among the five of the largest logits, by sorting."""
    order = logits.argsort(dim=-1, descending=True)[:, :5].tolist()
    return [target in best for target, best in zip(targets.tolist(), order, strict=True)]


def test_the_next_token_is_scored_at_the_last_twenty_by_hand(
    subject: Subject, samples: list[Sample]
) -> None:
    ids = samples[0].token_ids
    logits = subject.model(ids[None]).logits[0]
    expected = hits(logits[-21:-1], ids[-20:])
    table, _ = score_model(subject, samples[:1], Protocol(samples=1, extended=0))
    found = accuracy(table, "model", 1, PAPER, seed=0)
    assert found.share.n == 20
    assert found.share.value == pytest.approx(sum(expected) / 20)
    assert 0 < sum(expected) < 20


def test_the_second_token_is_what_marginalize_gives_at_each_position(
    subject: Subject, samples: list[Sample]
) -> None:
    ids = samples[0].token_ids
    whole = Truncation("nucleus", 0.99, subject.anatomy.vocab_size)
    by_hand = [
        probekit.marginalize(subject.model, ids, position=position, truncation=whole)
        for position in range(len(ids) - 22, len(ids) - 2)
    ]
    expected = hits(torch.stack([each.probs for each in by_hand]), ids[-20:])
    table, kept = score_model(subject, samples[:1], Protocol(samples=1, extended=0))
    found = accuracy(table, "marginal", 2, PAPER, seed=0)
    assert found.share.n == 20
    assert found.share.value == pytest.approx(sum(expected) / 20)
    branches = [each.branches for each in by_hand]
    assert kept[PAPER].branches_mean == pytest.approx(sum(branches) / 20)
    assert kept[PAPER].mass_min == pytest.approx(min(each.retained_mass for each in by_hand))
    assert kept[PAPER].mass_min >= 0.99


def test_the_extended_set_is_every_target_token_of_every_sample(
    subject: Subject, samples: list[Sample]
) -> None:
    table, kept = score_model(subject, samples, Protocol(samples=2, extended=1))
    count = sum(int(sample.target.sum()) for sample in samples)
    for readout, offset in (("model", 1), ("marginal", 2)):
        found = accuracy(table, readout, offset, EXTENDED, seed=0)
        assert (found.share.n, found.samples, found.kind) == (count, len(samples), "bootstrap")
        assert found.share.low < found.share.value < found.share.high
        assert accuracy(table, readout, offset, PAPER, seed=0).share.n == 40
    alone, _ = score_model(subject, samples[:2], Protocol(samples=2, extended=0))
    again = accuracy(alone, "marginal", 2, PAPER, seed=0).share
    assert accuracy(table, "marginal", 2, PAPER, seed=0).share == again
    _, first = score_model(subject, samples[:2], Protocol(samples=2, extended=0))
    assert kept[PAPER] == first[PAPER] != kept[EXTENDED]


def test_the_divergence_is_by_hand_and_its_depth_the_papers(
    subject: Subject, samples: list[Sample]
) -> None:
    sample = samples[0]
    ((layer, depth, kl),) = divergence(subject, [sample], seed=0)
    assert (layer, depth) == (1, 1.0)  # the only one is the last
    output = subject.model(sample.token_ids[None], output_hidden_states=True)
    body: Any = subject.model.get_submodule("model")
    early = subject.model.lm_head(body.norm(output.hidden_states[1][0])).log_softmax(-1)
    late = output.logits[0].log_softmax(-1)
    by_position = (early.exp() * (early - late)).sum(-1)
    at = predicting_positions(sample.target, 1)
    assert kl.value == pytest.approx(float(by_position[at].mean()), rel=1e-5)
    assert kl.n == int(at.sum())


def test_depth_runs_from_0_to_1_over_the_backbone() -> None:
    from support.architectures import build

    model = build("llama")
    made = Sample("a", torch.arange(30), torch.arange(30) > 4)
    found = divergence(Subject(model, find_anatomy(model), "llama"), [made, made], seed=0)
    assert [(layer, depth) for layer, depth, _ in found] == [(1, 0.0), (2, 1.0)]


@pytest.fixture
def asked(model_folder: Path, pair_file: Path, tmp_path: Path) -> FigureRequest:
    """Return figure 1 of a model of our own and of one that is called as the paper's is."""
    known = Path(shutil.copytree(model_folder, tmp_path / "pythia-410m"))
    protocol = Protocol(samples=2, extended=60)
    named = (str(model_folder), str(known))
    return FigureRequest("figure-1", named, (f"words={pair_file}",), protocol=protocol)


def test_a_model_of_the_paper_gets_its_row_and_others_are_strangers(
    asked: FigureRequest, tmp_path: Path
) -> None:
    document = figure_runs.run(asked, tmp_path / "run", print)
    rows = pd.DataFrame(document["rows"])
    assert document["strangers"] == [asked.models[0]]
    assert len(rows) == 2 * 2 * 2  # models, sets of positions, offsets
    known = rows[rows["paper_model"] == "Pythia 410M"]
    second = known[(known["offset"] == 2) & (known["positions"] == PAPER)].iloc[0]
    assert (second["paper_top5"], second["paper_branches"], second["paper_n"]) == (0.675, 850, 200)
    expected = binomtest(135, 200).proportion_ci(method="wilson")
    assert second["paper_top5_low"] == pytest.approx(expected.low, abs=1e-4)
    assert (second["task"], second["n_positions"]) == ("translation", 40)
    assert rows[rows["paper_model"].isna()]["paper_top5"].isna().all()

    report = write(document, tmp_path / "run")
    page = report.read_text()
    assert "for reference only" in page
    assert "as the paper&#39;s Pythia 410M" in page
    assert all(name in page for name in ("Llama-3 70B", "0.675", "Which 20 positions"))
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"table.csv", "table.md", "figure.svg", "figure.pdf", "figure.png"} <= written
    again = pd.read_csv(tmp_path / "run" / "table.csv")
    assert again["top5"].tolist() == pytest.approx(rows["top5"].tolist())
    lines = terminal_lines(document)
    assert "of second tokens among its five likeliest" in lines[0]
    start = next(i for i, line in enumerate(lines) if line.startswith("Model"))
    assert len({len(line.split("  ")[0]) for line in lines[start : start + 2]}) == 2
    assert any("for reference only" in line for line in lines)


def test_a_finished_model_is_kept_and_other_settings_are_not_it(
    asked: FigureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = FigureRequest("figure-1", asked.models[:1], asked.text, protocol=Protocol(1, 0))
    first = figure_runs.run(one, tmp_path / "run", lambda _: None)

    def refuse(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("probekit.pipelines.reproduction.figures.score_model", refuse)
    said: list[str] = []
    again = figure_runs.run(one, tmp_path / "run", said.append)
    assert again["rows"] == first["rows"]
    assert any("kept from before" in line for line in said)
    other = FigureRequest("figure-1", one.models, one.text, protocol=Protocol(1, 0, nucleus=0.9))
    with pytest.raises(AssertionError, match="measured again"):
        figure_runs.run(other, tmp_path / "run", lambda _: None)


def test_two_texts_of_one_name_are_refused_and_a_model_is_measured_once(
    asked: FigureRequest, tmp_path: Path
) -> None:
    twice = replace(asked, models=(asked.models[0],) * 2, protocol=Protocol(1, 0))
    rows = figure_runs.run(twice, tmp_path / "run", print)["rows"]
    assert len(rows) == 2  # the next and the second token
    with pytest.raises(SettingsError, match="texts need different names"):
        figure_runs.run(replace(asked, text=(asked.text[0],) * 2), tmp_path / "run", print)


def test_figure_2_shows_the_last_layer_beside_the_papers(
    asked: FigureRequest, tmp_path: Path
) -> None:
    own = FigureRequest("figure-2", asked.models[1:], asked.text, protocol=asked.protocol)
    document = figure_runs.run(own, tmp_path / "run", lambda _: None)
    (row,) = document["rows"]
    assert (row["last"], row["paper_kl_nats"], row["paper_first_depth"]) == (True, 0.5, 0.68)
    assert row["first_depth"] == (1.0 if row["kl_nats"] < 2.5 else None)
    page = render_reproduction(document)
    assert "KL(lens || final)" in page
    assert "<svg" in page


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: FigureRequest("figure-3"),
            "figure must be one of figure-1, figure-2, got 'figure-3'",
        ),
        (lambda: FigureRequest("figure-1", ()), "--model must name one model"),
        (lambda: Protocol(samples=0), "--samples must be at least 1, got 0"),
        (lambda: Protocol(extended=-1), "--extended must be 0"),
        (lambda: Protocol(max_branches=0), "--max-branches must be at least 1"),
        (lambda: Protocol(nucleus=2.0), "--nucleus must be above 0 and at most 1, got 2.0"),
        (lambda: Protocol(seed=-1), r"--seed must be in 0 \.\. 2\*\*63 - 1, got -1"),
    ],
)
def test_what_is_asked_wrongly_is_named(make: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make()


def test_a_model_of_one_block_has_no_backbone(subject: Subject, loaded: Loaded) -> None:
    head = Anatomy(**{**vars(subject.anatomy), "blocks": subject.anatomy.blocks[:1]})
    one = Subject(loaded.model, head, "one")
    source = Source("a", "a.jsonl")
    with pytest.raises(ModelError, match="has a single block"):
        figures.figure_2(figures.Setting(loaded, one, source, "translation", []), Protocol())
