"""How many tokens the next one might be: counts by hand, by brute force, and by marginalizing."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from probekit.activations.residual_stream import stream
from probekit.data.blocks import Blocks
from probekit.errors import SettingsError
from probekit.marginalization import nucleus_size
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization
from probekit.marginalization.nucleus_size import BUCKETS, nucleus_sizes, spans, spreads
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.pipelines.analysis.finished import Run
from probekit.readout import Seen
from probekit.scoring.intervals import document_bootstrap, effective_documents, interval
from probekit.scoring.rates import RESAMPLES

BLOCK = 10
IDS = torch.randint(0, 97, (3, BLOCK), generator=torch.Generator().manual_seed(0))
DOCUMENTS = torch.tensor([[-1] + [0] * 5 + [1] * 4, [-1] + [1] * 9, [-1] + [2] * 6 + [-1] * 3])
BLOCKS = Blocks(IDS, DOCUMENTS)


@pytest.fixture(scope="module")
def anatomy(tiny_llama: PreTrainedModel) -> Anatomy:
    return find_anatomy(tiny_llama)


@pytest.fixture(scope="module")
def probs(tiny_llama: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = tiny_llama(IDS).logits.double().softmax(-1)
    return found


def counted(
    model: PreTrainedModel, anatomy: Anatomy, nucleus: float, size: int = 2
) -> pd.DataFrame:
    read = stream(model, anatomy, IDS, [anatomy.n_layers], batch_size=size)
    return nucleus_size.count(read, anatomy, BLOCKS, nucleus)


@pytest.mark.parametrize(
    ("nucleus", "tokens"),
    [
        (0.3, 1),
        (0.5, 1),  # reached, not crossed, by the first
        (0.51, 2),  # the second crosses it, and counts
        (0.8, 3),  # either of the two that are tied
        (0.875, 3),
        (0.9, 4),
        (1.0, 4),  # the token without probability is never one
    ],
)
def test_tokens_count_up_to_the_one_that_crosses_the_share(nucleus: float, tokens: int) -> None:
    rows = torch.tensor([[0.125, 0.0, 0.25, 0.5, 0.125], [0.5, 0.125, 0.125, 0.25, 0.0]])
    assert nucleus_sizes(rows, nucleus).tolist() == [tokens, tokens]


def test_a_certain_token_is_one_and_equal_ones_are_their_share() -> None:
    certain = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    equal = torch.full((1, 1024), 1 / 1024)
    for nucleus in (0.5, 0.99, 1.0):
        assert nucleus_sizes(certain, nucleus).tolist() == [1]
        assert nucleus_sizes(equal, nucleus).tolist() == [math.ceil(1024 * nucleus)]


def test_a_share_beyond_what_rounding_left_takes_no_token_without_probability() -> None:
    assert nucleus_sizes(torch.tensor([[0.5, 0.49999, 0.0, 0.0]]), 0.999999).tolist() == [2]


@pytest.mark.parametrize("nucleus", [0.0, 1.01, -1.0])
def test_a_share_outside_is_an_error(nucleus: float) -> None:
    with pytest.raises(SettingsError, match=r"nucleus must be in \(0, 1\], got"):
        nucleus_sizes(torch.ones(1, 1), nucleus)


def by_hand(row: torch.Tensor, nucleus: float) -> int:
    """Add probabilities up, largest first, until the share is reached."""
    mass = 0.0
    for number, value in enumerate(sorted(row.tolist(), reverse=True), start=1):
        mass += value
        if mass >= nucleus:
            return number
    return int((row > 0).sum())


@settings(max_examples=30)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=9), st.sampled_from([0.1, 0.6, 0.95]))
def test_counting_is_adding_up_from_the_most_probable(shares: list[int], nucleus: float) -> None:
    row = torch.tensor([share + 0.01 for share in shares], dtype=torch.float64)
    row /= row.sum()
    assert nucleus_sizes(row[None], nucleus).tolist() == [by_hand(row, nucleus)]


@pytest.mark.parametrize("nucleus", [0.5, 0.9, 0.99])
def test_every_valid_position_is_counted_as_by_brute_force(
    tiny_llama: PreTrainedModel, anatomy: Anatomy, probs: torch.Tensor, nucleus: float
) -> None:
    table = counted(tiny_llama, anatomy, nucleus)
    places = BLOCKS.valid(1).nonzero().tolist()
    assert len(places) == len(table) == 4 + 3 + 8 + 5
    for (block, position), row in zip(places, table.to_dict("records"), strict=True):
        exact = probs[block, position]
        assert row["position"] == position
        assert row["document"] == DOCUMENTS[block, position]
        assert row["tokens"] == by_hand(exact, nucleus)
        assert row["nats"] == pytest.approx(-float((exact * exact.log()).sum()), abs=1e-5)


def test_marginalization_without_a_cap_takes_this_many_branches(
    tiny_llama: PreTrainedModel, anatomy: Anatomy
) -> None:
    truncation = Truncation("nucleus", 0.9, max_branches=anatomy.vocab_size)
    readout = Marginalization(BranchEngine(tiny_llama), truncation)
    valid = BLOCKS.valid(1)
    valid[:, 1::2] = False
    for _ in readout.predict(Seen(IDS, {}), {2: valid}):
        pass
    table = counted(tiny_llama, anatomy, 0.9)
    places = [tuple(place) for place in BLOCKS.valid(1).nonzero().tolist()]
    tokens = dict(zip(places, table["tokens"], strict=True))
    records = {(r.block, r.position): r.branches for r in readout.records}
    assert records == {place: tokens[place] for place in records}
    assert len(records) == int(valid.sum()) > 0


def test_neither_batches_nor_chunks_change_a_count(
    tiny_llama: PreTrainedModel, anatomy: Anatomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = counted(tiny_llama, anatomy, 0.9, size=3)
    sizes: list[int] = []
    count = nucleus_size.nucleus_sizes

    def noted(probs: torch.Tensor, nucleus: float) -> torch.Tensor:
        sizes.append(len(probs))
        return count(probs, nucleus)

    monkeypatch.setattr(nucleus_size, "chunk_length", lambda *_: 3 * nucleus_size.SORT_COPIES)
    monkeypatch.setattr(nucleus_size, "nucleus_sizes", noted)
    pd.testing.assert_frame_equal(counted(tiny_llama, anatomy, 0.9, size=1), whole)
    assert max(sizes) == 3  # never more positions at once
    assert sum(sizes) == len(whole)


def test_without_a_preference_the_entropy_is_that_of_all_tokens(anatomy: Anatomy) -> None:
    nothing = Seen(IDS, {anatomy.n_layers: torch.zeros(3, BLOCK, anatomy.d_model)})
    table = nucleus_size.count([nothing], anatomy, BLOCKS, 0.5)
    assert table["nats"].tolist() == pytest.approx([math.log(anatomy.vocab_size)] * len(table))
    assert set(table["tokens"]) == {math.ceil(anatomy.vocab_size / 2)}


@pytest.mark.parametrize("block", [3, 8, 10, 31, 256])
def test_the_parts_of_a_block_hold_each_position_once(block: int) -> None:
    whole, *parts = spans(block)
    assert whole == (0, block - 1)
    assert len(parts) == min(BUCKETS, block)
    assert [p for first, last in parts for p in range(first, last + 1)] == list(range(block))
    lengths = [last - first + 1 for first, last in parts]
    assert max(lengths) - min(lengths) <= 1


def table_of(*rows: tuple[int, int, int, float]) -> pd.DataFrame:
    """Return a table of (document, position, tokens, nats)."""
    return pd.DataFrame(rows, columns=["document", "position", "tokens", "nats"])


MADE = table_of(
    (0, 1, 2, 0.5), (0, 2, 4, 1.0), (0, 9, 100, 4.5),
    (1, 1, 1, 0.0), (1, 15, 10, 2.0),
    (2, 3, 7, 1.5), (2, 4, 9, 1.7),
)  # fmt: skip


def made(**wanted: Any) -> dict[tuple[str, int, int], dict[str, Any]]:
    found = spreads(MADE, ["a", "a", "b"], 16, **({"seed": 0} | wanted))
    rows = [spread.row(0.9) for spread in found]
    return {(r["domain"], r["positions_from"], r["positions_to"]): r for r in rows}


def test_means_and_medians_are_over_positions() -> None:
    rows = made()
    whole = rows["a", 0, 15]
    assert whole["tokens_mean"] == pytest.approx((2 + 4 + 100 + 1 + 10) / 5)
    assert whole["tokens_median"] == 4
    assert whole["entropy_nats"] == pytest.approx(8 / 5)
    assert (whole["n_positions"], whole["n_documents"], whole["nucleus"]) == (5, 2, 0.9)
    first = rows["a", 0, 1]
    assert (first["tokens_mean"], first["tokens_median"], first["n_positions"]) == (1.5, 1.5, 2)
    assert rows["all", 0, 15]["n_positions"] == 7
    assert rows["b", 2, 3]["tokens_mean"] == 7


def test_the_whole_block_comes_first_and_parts_without_positions_are_left_out() -> None:
    keys = list(made())
    assert [key[0] for key in keys if key[1:] == (0, 15)] == ["all", "a", "b"]
    assert [key[1:] for key in keys if key[0] == "a"] == [(0, 15), (0, 1), (2, 3), (8, 9), (14, 15)]
    assert [key[1:] for key in keys if key[0] == "b"] == [(0, 15), (2, 3), (4, 5)]
    # A single text is all there is.
    alone = list(spreads(MADE, ["a", "a", "a"], 16, seed=0))
    assert {spread.domain for spread in alone} == {"a"}


def test_intervals_are_of_the_resamples_that_scores_have() -> None:
    draw = np.random.default_rng(0)
    rows = [(d, p, int(draw.integers(1, 90)), 1.0) for d in range(12) for p in range(d + 2)]
    (whole, *_) = spreads(table_of(*rows), ["a"] * 12, 16, seed=3)
    table = pd.DataFrame(rows, columns=["document", "position", "tokens", "nats"])
    sums = table.groupby("document")["tokens"].agg(["sum", "count"]).to_numpy(float)
    weights = document_bootstrap(12, RESAMPLES, 3)
    expected = (weights @ sums[:, 0]) / (weights @ sums[:, 1])
    np.testing.assert_allclose(whole.tokens[1:], expected)
    ends = interval(expected, float(effective_documents(sums[:, 1:])[0]))
    assert whole.summary(whole.tokens)[1:] == pytest.approx(ends)
    row = whole.row(0.99)
    assert row["tokens_mean_low"] < row["tokens_mean"] < row["tokens_mean_high"]
    assert row["entropy_nats_low"] == row["entropy_nats"] == row["entropy_nats_high"] == 1.0


def test_few_documents_have_a_mean_and_no_interval() -> None:
    rows = made()
    assert rows["b", 0, 15]["n_documents"] == rows["a", 14, 15]["n_documents"] == 1
    for row in (rows["b", 0, 15], rows["a", 14, 15]):
        assert row["tokens_mean"] > 0
        for name in ("tokens_mean", "entropy_nats"):
            assert row[f"{name}_low"] is row[f"{name}_high"] is None


def test_models_on_the_same_text_are_paired() -> None:
    fewer = MADE.assign(tokens=MADE["tokens"] - 0.5)
    for one, other in zip(
        spreads(MADE, ["a", "a", "b"], 16, seed=0),
        spreads(fewer, ["a", "a", "b"], 16, seed=0),
        strict=True,
    ):
        gap = one.tokens - other.tokens
        np.testing.assert_allclose(gap[np.isfinite(gap)], 0.5)


def test_a_run_counts_its_test_positions(finished_run: Run) -> None:
    rows = finished_run.results["branching"]
    scored = finished_run.scores.query(
        "readout == 'model' and split == 'test' and positions == 'all'"
    ).iloc[0]
    whole, *parts = rows
    assert (whole["positions_from"], whole["positions_to"]) == (0, 31)
    assert (whole["n_positions"], whole["n_documents"]) == (
        scored["n_positions"],
        scored["n_documents"],
    )
    assert whole["nucleus"] == finished_run.settings.nucleus
    assert len(parts) == BUCKETS
    assert sum(row["n_positions"] for row in parts) == whole["n_positions"]
    weighted = sum(row["n_positions"] * row["tokens_mean"] for row in parts)
    assert weighted / whole["n_positions"] == pytest.approx(whole["tokens_mean"])
    vocabulary = finished_run.results["model"]["vocab_size"]
    assert 1 < whole["tokens_mean"] < vocabulary
    assert 0 < whole["entropy_nats"] < math.log(vocabulary)
    assert whole["tokens_mean_low"] < whole["tokens_mean"] < whole["tokens_mean_high"]
