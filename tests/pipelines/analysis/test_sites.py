"""Several places in a block in one run: known answers, and the numbers of runs of one place."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

import probekit
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.calibration.planted_signal import Planted
from probekit.reports.analysis.sites import site_sentence

# Block 1's MLP writes the token at t+2. Block 2's attention fetches that of t+1, and its MLP
# erases the other: what it adds tells of t+2 as well.
PLANTED = Planted(n_layers=2, planted_layer=1, erased_layer=2)
TOLD = {("attn_out", 2, 1), ("mlp_out", 1, 2), ("mlp_out", 2, 2)}
SITES = ["resid_post", "attn_out", "mlp_out"]
WHERE = "split == 'test' and positions == 'all' and readout == 'linear'"


def of_planted(output: Path, **settings: Any) -> Run:
    """Analyse the planted signal on text of its own."""
    names = {f"w{token}": token for token in range(PLANTED.n_tokens)}
    words = Tokenizer(WordLevel(names, unk_token="w0"))
    words.pre_tokenizer = WhitespaceSplit()
    ids = PLANTED.sample(60, 64, torch.Generator().manual_seed(0))
    texts = [" ".join(f"w{token}" for token in row) for row in ids.tolist()]
    quick: dict[str, Any] = {
        "offsets": 2,
        "block": 64,
        "controls": "none",
        "marginal": "off",
        "layers": (1, 2),
    }
    return probekit.analyze(
        PLANTED.model(),
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=words),
        output=output,
        text={"sums": texts},
        **quick | settings,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return of_planted(tmp_path_factory.mktemp("sites"), site=SITES)


def test_each_site_reads_what_was_planted_there_and_nothing_else(run: Run) -> None:
    found = run.site_scores.query(WHERE)
    assert set(found["site"]) == set(SITES)
    # Attention at the first two tokens of a document has nothing to fetch: that costs the rest.
    for row in found[found["site"] != "resid_post"].to_dict("records"):
        if (row["site"], row["layer"], row["offset"]) in TOLD:
            assert row["nats"] == pytest.approx(PLANTED.nats(1, 2), abs=0.1)
        else:
            assert row["bits"] == pytest.approx(0, abs=0.005)
    assert set(run.scores["site"].dropna()) == {"resid_post"}


def test_what_is_decided_and_what_is_not_is_said_in_the_verdict_and_on_the_page(run: Run) -> None:
    rows = {(row["site"], row["offset"]): row for row in run.results["sites"]}
    assert (rows["attn_out", 1]["layer"], rows["mlp_out", 2]["layer"]) == (2, 1)
    assert rows["attn_out", 2]["bits_over_first_high"] < -1
    assert rows["mlp_out", 2]["bits_over_first"] == pytest.approx(0, abs=0.01)
    assert rows["resid_post", 2]["bits_over_first"] == 0
    sentence = site_sentence(run.results["sites"], 2)
    assert run.results["verdict"][-1] == sentence
    assert "(layer 1) reads 1.78 bits [" in sentence
    assert "cannot be told from the MLP output (layer 1) (0.00" in sentence
    assert sentence in run.report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_further_site_has_the_numbers_of_a_run_of_it_alone(run: Run, tmp_path: Path) -> None:
    alone = of_planted(tmp_path / "attn", site="attn_out")
    key = ["layer", "offset", "split", "positions"]
    names = ["nats", "nats_low", "nats_high", "bits", "bits_given_token", "top1_low", "converged"]
    found, expected = (
        rows.query("readout == 'linear' and site == 'attn_out'").set_index(key)[names].sort_index()
        for rows in (run.site_scores, alone.scores)
    )
    assert len(found) == 2 * 2 * 3
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_exact=True)
    assert "sites" not in alone.results
    assert 'id="sites"' not in alone.report.read_text(encoding="utf-8")
