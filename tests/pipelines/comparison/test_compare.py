"""Comparison of runs of two models on one text: what is paired, and the numbers told."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaForCausalLM

import probekit
from probekit import reports
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.comparison.compare import Comparison
from probekit.scoring.intervals import (
    document_bootstrap,
    effective_documents,
    interval,
)
from support import tiny_run
from support.comparing import codes, copy


@pytest.fixture(scope="module")
def smaller_run(asked: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run of an untrained model of one block on the same text, with the same tokenizer."""
    folder = tmp_path_factory.mktemp("smaller") / "micro"
    config = LlamaForCausalLM.from_pretrained(asked["model"]).config
    config.num_hidden_layers = 1
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_run.tokenizer().save_pretrained(folder)
    given = {**asked, "model": str(folder), "controls": "none"}
    return probekit.analyze(**given, output=folder.parent / "run")


@pytest.fixture(scope="module")
def both(finished_run: Run, smaller_run: Run) -> Comparison:
    return probekit.compare([finished_run, smaller_run.folder])


def one(found: pd.DataFrame, **where: Any) -> pd.Series:
    for name, value in where.items():
        found = found[found[name] == value]
    assert len(found) == 1
    return found.iloc[0]


def sums(run: Run, offset: int, column: str) -> pd.DataFrame:
    """Return sums by test document of the best linear probe, all positions."""
    table = run.documents
    own = table[
        (table["split"] == "test") & (table["positions"] == "all") & (table["offset"] == offset)
    ]
    own = own[(own["readout"] == "linear") & (own["layer"] == best_layer(run, offset))]
    return own.sort_values("document")[["document", "n", column]]


def best_layer(run: Run, offset: int) -> int:
    """Return the layer with the lowest validation cross-entropy."""
    rows = [
        row
        for row in run.results["scores"]
        if (row["readout"], row["split"], row["offset"]) == ("linear", "validation", offset)
    ]
    best = min(rows, key=lambda row: float(row["nats"]))
    return int(best["layer"])


@pytest.mark.parametrize(("metric", "offset"), [("nats", 2), ("nats", 1), ("top1", 1)])
def test_a_difference_is_that_of_the_same_resamples_of_the_same_documents(
    both: Comparison, finished_run: Run, smaller_run: Run, metric: str, offset: int
) -> None:
    column = f"{metric}_sum"
    ours = sums(finished_run, offset, column)
    theirs = sums(smaller_run, offset, column)
    assert ours["document"].tolist() == theirs["document"].tolist()
    weights = np.vstack([np.ones(len(ours)), document_bootstrap(len(ours), 1_000, seed=0)])
    a, b = (
        weights @ side[column].to_numpy() / (weights @ side["n"].to_numpy())
        for side in (ours, theirs)
    )
    row = one(both.differences, quantity=f"best_probe_{metric}", offset=offset)
    assert row["paired"]
    assert row["value"] == pytest.approx(a[0] - b[0])
    counts = finished_run.documents.query("split == 'test' and positions == 'all'")
    sizes = counts.pivot_table(index="document", columns="offset", values="n").to_numpy()
    ends = interval((a - b)[1:], float(effective_documents(sizes).min()))
    assert (row["low"], row["high"]) == pytest.approx(ends)


def test_positions_that_were_drawn_anew_are_not_paired(
    both: Comparison, finished_run: Run, smaller_run: Run, tmp_path: Path
) -> None:
    def drawn_anew(results: dict[str, Any]) -> None:
        results["run"]["settings"]["seed"] = 5

    other = copy(smaller_run, tmp_path / "drawn", drawn_anew)
    apart = probekit.compare([finished_run, other])
    assert "unpaired" in codes(apart)
    assert "seed" in next(w["message"] for w in apart.warnings if w["code"] == "unpaired")
    assert "unpaired" not in codes(both)
    row = one(apart.differences, quantity="ceiling_bits", offset=2)
    twin = one(both.differences, quantity="ceiling_bits", offset=2)
    assert not row["paired"]
    assert row["value"] == twin["value"]
    # Marginal positions alone were drawn anew.
    assert one(apart.differences, quantity="best_probe_nats", offset=2)["paired"]


def test_a_paired_interval_is_narrower_than_an_unpaired_one(both: Comparison) -> None:
    differences = both.differences
    row = one(differences, quantity="best_probe_bits", offset=1)
    headlines = both.headlines[both.headlines["quantity"] == "best_probe_bits"]
    widths = [
        high - low
        for _, low, high in headlines[headlines["offset"] == 1][["value", "low", "high"]].to_numpy()
    ]
    # As it would be if the runs were independent.
    assert row["high"] - row["low"] < math.hypot(*widths)


def test_other_documents_are_not_paired(
    finished_run: Run, smaller_run: Run, tmp_path: Path
) -> None:
    folder = copy(smaller_run, tmp_path / "fewer")
    table = pd.read_parquet(folder / "scores.parquet")
    first = table.loc[table["split"] == "test", "document"].min()
    table[table["document"] != first].to_parquet(folder / "scores.parquet")
    found = probekit.compare([finished_run, folder])
    kept = found.differences[found.differences["quantity"] != "nucleus_tokens"]
    assert len(kept)
    assert not kept["paired"].any()
    assert "unpaired" in codes(found)


def test_no_difference_is_given_where_the_text_differs(
    finished_run: Run, smaller_run: Run, tmp_path: Path
) -> None:
    def other_text(results: dict[str, Any]) -> None:
        results["text"][0]["sha256"] = "0" * 64

    found = probekit.compare([finished_run, copy(smaller_run, tmp_path / "other", other_text)])
    assert found.document["differences"] == []
    assert not found.document["same"]["text"]
    assert "text-differs" in codes(found)
    assert found.document["verdict"] == [
        "No difference between these runs is given: they have no text and targets in common."
    ]


def test_no_difference_is_given_where_targets_differ(
    finished_run: Run, smaller_run: Run, tmp_path: Path
) -> None:
    def own_target(results: dict[str, Any]) -> None:
        results["run"]["settings"]["target"] = "model"

    found = probekit.compare([finished_run, copy(smaller_run, tmp_path / "other", own_target)])
    assert found.document["differences"] == []
    assert "target-differs" in codes(found)


def test_other_tokenizers_are_compared_in_bits_per_byte_alone(
    finished_run: Run, smaller_run: Run, tmp_path: Path
) -> None:
    def other_tokens(results: dict[str, Any]) -> None:
        results["model"]["tokenizer"] = "0" * 64

    found = probekit.compare([finished_run, copy(smaller_run, tmp_path / "other", other_tokens)])
    differences = found.differences
    assert set(differences["quantity"]) == {"next_token_bpb", "best_probe_bpb"}
    assert not differences["paired"].any()
    assert found.document["metric"] == "bpb"
    assert "tokenizer-differs" in codes(found)
    scores = found.scores[found.scores["readout"] == "model"]
    values = [
        one(scores, run=run, split="test", positions="all")["bpb"]
        for run in (differences.iloc[0]["run"], differences.iloc[0]["reference"])
    ]
    row = one(differences, quantity="next_token_bpb")
    assert row["value"] == pytest.approx(values[0] - values[1])


def test_bits_per_byte_have_an_interval(both: Comparison, finished_run: Run) -> None:
    table = finished_run.documents
    own = table[(table["readout"] == "model") & (table["split"] == "test")]
    own = own[own["positions"] == "all"].sort_values("document")
    n, nats = own["n"].to_numpy(), own["nats_sum"].to_numpy()
    n_bytes = n * own["bytes_per_token"].to_numpy()
    row = one(both.scores, run=both.document["runs"][1]["name"], readout="model", split="test",
              positions="all")  # fmt: skip
    assert row["bpb"] == pytest.approx(nats.sum() / math.log(2) / n_bytes.sum())
    weights = document_bootstrap(len(n), 1_000, seed=0)
    samples = weights @ nats / math.log(2) / (weights @ n_bytes)
    low, high = interval(samples, float(effective_documents(n[:, None].astype(float))[0]))
    # Any readout that has fewer documents makes all intervals wider.
    assert row["bpb_low"] <= low + 1e-9 < row["bpb"] < high - 1e-9 <= row["bpb_high"]


def test_scores_are_those_of_all_runs(
    both: Comparison, finished_run: Run, smaller_run: Run
) -> None:
    assert len(both.scores) == len(finished_run.scores) + len(smaller_run.scores)
    assert [run.results["model"]["n_layers"] for run in both.runs] == [1, 2]
    last = both.scores[both.scores["layer"] == both.scores["n_layers"]]
    assert (last["depth"] == 1).all()
    assert both.scores.loc[both.scores["layer"].isna(), "depth"].isna().all()
    assert {row["split"] for row in both.document["scores"]} == {"test"}


def test_headlines_are_the_numbers_of_each_run(
    finished_run: Run, smaller_run: Run, tmp_path: Path
) -> None:
    told = {"recovered": 0.5, "recovered_low": 0.4, "recovered_high": 0.6}

    def recovering(results: dict[str, Any]) -> None:
        results["specialization"][1] |= told

    found = probekit.compare([smaller_run, copy(finished_run, tmp_path / "copy", recovering)])
    name = found.document["runs"][1]["name"]
    own = found.headlines[found.headlines["run"] == name]
    row = one(own, quantity="recovered", offset=2)
    assert [row["value"], row["low"], row["high"]] == list(told.values())
    special = one(finished_run.specialization, offset=2)
    assert one(own, quantity="forgotten_bits", offset=2)["value"] == special["forgotten_bits"]
    ceiling = one(own, quantity="ceiling_top1", offset=2)
    score = one(finished_run.scores, readout="marginal", offset=2, positions="marginal")
    assert (ceiling["value"], ceiling["positions"]) == (score["top1"], "marginal")
    depth = one(own, quantity="best_depth", offset=2)
    assert depth["value"] == best_layer(finished_run, 2) / 2
    assert math.isnan(depth["low"])
    tokens = one(own, quantity="nucleus_tokens")["value"]
    assert tokens == finished_run.results["branching"][0]["tokens_mean"]


def test_the_verdict_sets_the_larger_against_the_smaller(
    finished_run: Run, smaller_run: Run, tmp_path: Path
) -> None:
    def learn_much(results: dict[str, Any]) -> None:
        """Let the second half of the text move the probes by more than these models differ."""
        for row in results["learning"]:
            row |= {"gain_nats": 9.0 * (row["role"] == "best"), "read_gain_bits": 9.0}

    def forget(results: dict[str, Any]) -> None:
        results["learning"] = []

    pair = ((finished_run, "large"), (smaller_run, "small"))
    much = probekit.compare([copy(run, tmp_path / f"much-{n}", learn_much) for run, n in pair])
    assert "? Not compared: what the best probe knows at t+2" in much.document["verdict"][0]
    runs = [copy(run, tmp_path / name, forget) for run, name in pair]
    found = probekit.compare(runs)
    small, large = (run["name"] for run in found.document["runs"])
    first, *rest = found.document["verdict"]
    assert first.startswith(f"Does the larger model see further? The best probe of {large} ")
    row = one(found.differences, quantity="next_token_top1")
    assert f"{100 * row['value']:.1f} points more" in rest[0]
    assert rest[0].startswith(f"Of next tokens {large} predicts")
    assert small in rest[0]


def test_the_document_is_json_and_gives_a_page(both: Comparison, tmp_path: Path) -> None:
    assert json.loads(json.dumps(both.document, allow_nan=False)) == both.document
    page = both.write(tmp_path / "compare.html").read_text(encoding="utf-8")
    assert page == reports.render_comparison(both.document)
