"""Rates and intervals from sums by document."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.errors import DataError
from probekit.scoring.few_documents import few_documents
from probekit.scoring.rates import RESAMPLES, DocumentSums

UNIGRAM = "unigram", None, 1


def rows(
    readout: str, sums: list[tuple[int, int, float]], layer: int | None = None, **more: Any
) -> list[dict[str, Any]]:
    """Return rows of a table from (document, n, nats of a position)."""
    return [
        {
            "readout": readout,
            "layer": layer,
            "offset": 1,
            "blind": True,
            "positions": "all",
            "document": document,
            "n": n,
            "nats_sum": n * nats,
            "top1_sum": n * math.exp(-nats),
            "top5_sum": float(n),
            "joint_sum": math.nan,
            "joint_nats_sum": math.nan,
            "split": "test",
        }
        | more
        for document, n, nats in sums
    ]


def document_sums(
    *parts: list[dict[str, Any]], domains: str = "aabb", seed: int = 0
) -> DocumentSums:
    every = [{"seed": seed} | row for part in parts for row in part]
    table = pd.DataFrame(every).astype({"layer": "Int64"})
    return DocumentSums(table, list(domains), [2.0, 4.0, 3.0, 5.0] * (len(domains) // 4 + 1), seed)


FLOOR = rows("unigram", [(0, 10, 3.0), (1, 30, 2.0), (2, 20, 1.0), (3, 40, 2.5)])
FLOORS = {1: ("unigram", None)}
PROBE = rows("linear", [(0, 10, 1.0), (1, 30, 2.0), (2, 20, 0.5), (3, 40, 1.5)], layer=4)


def test_estimates_are_the_means_over_positions() -> None:
    rates = document_sums(FLOOR, PROBE).rates("all", "test", "all")
    assert rates.nats(*UNIGRAM)[0] == pytest.approx((30 + 60 + 20 + 100) / 100)
    assert rates.nats("linear", 4, 1)[0] == pytest.approx((10 + 60 + 10 + 60) / 100)
    top1 = sum(n * math.exp(-nats) for n, nats in ((10, 1.0), (30, 2.0), (20, 0.5), (40, 1.5)))
    assert rates.rate("top1", "linear", 4, 1)[0] == pytest.approx(top1 / 100)
    assert rates.rate("top5", "linear", 4, 1).tolist() == pytest.approx([1.0] * (1 + RESAMPLES))
    assert rates.nats(*UNIGRAM).shape == (1 + RESAMPLES,)


def test_a_row_has_bits_over_the_unigram_and_bits_per_byte() -> None:
    [floor, probe] = document_sums(FLOOR, PROBE).rates("all", "test", "all").rows(FLOORS)
    assert (floor["readout"], floor["layer"], floor["bits"]) == ("unigram", None, 0)
    assert (probe["layer"], probe["offset"], probe["blind"]) == (4, 1, True)
    assert probe["bits"] == pytest.approx(0.7 / math.log(2))
    n_bytes = 10 * 2 + 30 * 4 + 20 * 3 + 40 * 5
    assert probe["n_bytes"] == n_bytes
    assert probe["bpb"] == pytest.approx(140 / math.log(2) / n_bytes)
    assert (probe["n_positions"], probe["n_documents"]) == (100, 4)
    # Of four documents no interval is given.
    assert probe["nats_low"] is probe["nats_high"] is floor["bits_low"] is None


@pytest.mark.parametrize(("count", "shortage"), [
    (1, "only 1 test document; 8 are needed"), (7, "only 7 test documents; 8 are needed"), (8, ""),
])  # fmt: skip
def test_below_eight_documents_there_is_no_interval(count: int, shortage: str) -> None:
    sums = [(i, 10, 3 + 0.1 * i) for i in range(count)]
    rates = document_sums(rows("unigram", sums), domains="a" * count).rates("a", "test", "all")
    assert rates.shortage == shortage
    value, low, high = rates.summary(rates.nats(*UNIGRAM))
    assert (low < value < high) == (not shortage)
    columns = rates.columns("nats", rates.nats(*UNIGRAM))
    assert columns["nats"] == value
    assert (columns["nats_low"] is columns["nats_high"] is None) == bool(shortage)
    found = list(few_documents("a", rates))
    assert [row["code"] for row in found] == ["few-test-documents"]
    rough = "a: 8 test documents; below 20 the intervals are rough."
    wanted = f"a: {shortage} for an interval or a verdict. Give more text." if shortage else rough
    assert found[0]["message"] == wanted


def test_a_domain_has_its_own_documents_and_all_has_them_all() -> None:
    both = document_sums(FLOOR, PROBE)
    assert both.groups == ["all", "a", "b"]
    assert both.rates("a", "test", "all").nats(*UNIGRAM)[0] == pytest.approx(90 / 40)
    assert both.rates("b", "test", "all").nats(*UNIGRAM)[0] == pytest.approx(120 / 60)
    assert both.named()["domain"].tolist() == list("aabbaabb")


def test_a_single_domain_is_not_shown_twice() -> None:
    assert document_sums(FLOOR, domains="aaaa").groups == ["a"]
    # A text may be called `all`.
    named = document_sums(FLOOR)
    alone = DocumentSums(named.table, ["all"] * 4, named.bytes_per_token)
    assert alone.groups == ["all"]
    assert alone.rates("all", "test", "all").n_positions.tolist() == [100]


def test_splits_and_sets_of_positions_are_kept_apart() -> None:
    other = rows("unigram", [(0, 5, 9.0)], positions="marginal")
    held = rows("unigram", [(1, 5, 7.0)], split="validation")
    found = document_sums(FLOOR, other, held)
    assert found.rates("all", "test", "all").nats(*UNIGRAM)[0] == pytest.approx(2.1)
    assert found.rates("all", "test", "marginal").nats(*UNIGRAM)[0] == pytest.approx(9)
    assert found.rates("all", "validation", "all").nats(*UNIGRAM)[0] == pytest.approx(7)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.floats(-2, 2))
def test_differences_are_paired(seed: int, gap: float) -> None:
    draw = np.random.default_rng(seed)
    sums = [(i, int(draw.integers(1, 50)), float(draw.normal(5))) for i in range(4)]
    better = [(i, n, nats - gap) for i, n, nats in sums]
    parts = rows("unigram", sums), rows("linear", sums, layer=1), rows("linear", better, layer=2)
    rates = document_sums(*parts, seed=seed).rates("all", "test", "all")
    twin = rates.nats(*UNIGRAM) - rates.nats("linear", 1, 1)
    assert (twin == 0).all()
    # Better by the same in each document: no doubt remains, however documents differ.
    np.testing.assert_allclose(rates.nats(*UNIGRAM) - rates.nats("linear", 2, 1), gap, atol=1e-9)
    assert np.ptp(rates.nats(*UNIGRAM)) > 0


def test_intervals_cover_the_true_mean_about_as_often_as_they_say() -> None:
    draw, covered, times = np.random.default_rng(0), 0, 120
    for seed in range(times):
        nats = draw.normal(3, 1, size=40)
        sums = [(i, 10, float(value)) for i, value in enumerate(nats)]
        many = document_sums(rows("unigram", sums), domains="a" * 40, seed=seed)
        rates = many.rates("a", "test", "all")
        _, low, high = rates.summary(rates.nats(*UNIGRAM))
        covered += low <= 3 <= high
    assert 0.87 <= covered / times <= 0.99


def test_a_readout_without_some_documents_has_its_own_counts() -> None:
    found = document_sums(FLOOR, rows("marginal", [(0, 10, 1.0), (3, 10, 2.0)]))
    rates = found.rates("all", "test", "all")
    assert rates.n_documents.tolist() == [4, 2]
    assert rates.n_positions.tolist() == [100, 20]
    assert rates.n_bytes.tolist() == [400, 70]
    nats = rates.nats("marginal", None, 1)
    assert nats[0] == pytest.approx(1.5)
    assert np.isnan(nats).any()  # resamples that draw neither document


def test_sets_of_positions_that_lack_documents_have_the_same_resamples() -> None:
    nats = np.random.default_rng(0).uniform(1, 3, 40).tolist()
    some = [(i, 10, value) for i, value in enumerate(nats) if i % 3]
    others = [(i, 10, 0.0) for i in range(0, 40, 3)]
    found = document_sums(
        rows("unigram", some) + rows("unigram", others, top1_sum=0.0),
        rows("unigram", some, positions="marginal"),
        domains="a" * 40,
    )
    everywhere, drawn = (found.rates("a", "test", name) for name in ("all", "marginal"))
    of_some = everywhere.nats(*UNIGRAM) / drawn.nats(*UNIGRAM)  # the share that `some` are
    top1 = (everywhere.rate("top1", *UNIGRAM), drawn.rate("top1", *UNIGRAM))
    assert top1[0] / top1[1] == pytest.approx(of_some)
    assert of_some.std() > 0.05


def test_in_a_draw_from_several_texts_each_weighs_as_it_does_in_all() -> None:
    long, short = [(i, 90, 2.0) for i in range(8)], [(i, 10, 4.0) for i in range(8, 16)]
    drawn = [(i, 5, nats) for i, _, nats in long + short]
    found = document_sums(
        rows("unigram", long + short),
        rows("unigram", drawn, positions="marginal"),
        domains="a" * 8 + "b" * 8,
    )
    everywhere, part = (found.rates("all", "test", name) for name in ("all", "marginal"))
    assert part.nats(*UNIGRAM) == pytest.approx(everywhere.nats(*UNIGRAM))
    assert part.nats(*UNIGRAM)[0] == pytest.approx(0.9 * 2 + 0.1 * 4)
    assert part.n_positions.tolist() == [80]
    assert part.effective_documents == pytest.approx(everywhere.effective_documents)


def test_cells_and_layers_are_found() -> None:
    parts = [rows("lens", [(0, 1, 1.0)], layer=layer) for layer in (5, 0, 2)]
    rates = document_sums(FLOOR, *parts).rates("all", "test", "all")
    assert rates.layers("lens", 1) == [0, 2, 5]
    assert rates.layers("unigram", 1) == []
    assert rates.has("lens", 0, 1)
    assert not rates.has("lens", None, 1)


def test_what_was_not_scored_is_an_error() -> None:
    found = document_sums(FLOOR)
    with pytest.raises(DataError, match="linear at layer 4, offset 1 was not scored"):
        found.rates("all", "test", "all").nats("linear", 4, 1)
    with pytest.raises(DataError, match="nothing was scored on a, validation, positions all"):
        found.rates("a", "validation", "all")


def test_what_a_readout_knows_beyond_the_token_is_counted_from_the_better_floor() -> None:
    skip = rows("skip-bigram", [(0, 10, 2.0), (1, 30, 2.0), (2, 20, 2.0), (3, 40, 2.0)])
    first = rows("linear", [(0, 10, 1.5), (1, 30, 1.5), (2, 20, 1.5), (3, 40, 1.5)], layer=0)
    rates = document_sums(FLOOR, PROBE, skip, first).rates("all", "test", "all")
    assert rates.token_floor(1) == ("linear", 0)
    assert document_sums(FLOOR, skip).rates("all", "test", "all").token_floor(1) == (
        "skip-bigram",
        None,
    )
    found = {(r["readout"], r["layer"]): r for r in rates.rows({1: rates.token_floor(1)})}
    assert found["linear", 4]["bits_given_token"] == pytest.approx(0.1 / math.log(2))
    assert found["linear", 0]["bits_given_token"] == 0
    assert found["skip-bigram", None]["bits_given_token"] == pytest.approx(-0.5 / math.log(2))


def test_a_control_has_no_bits_since_its_labels_are_not_the_texts() -> None:
    control = rows("control", [(0, 10, 1.0), (1, 10, 1.0)], layer=4)
    [_, row] = document_sums(FLOOR, control).rates("all", "test", "all").rows(FLOORS)
    assert row["nats"] == pytest.approx(1.0)
    for name in ("bits", "bits_given_token"):
        assert row[name] is row[f"{name}_low"] is row[f"{name}_high"] is None


def test_fits_of_another_seed_take_the_place_of_the_first_ones() -> None:
    sums = [(0, 10, 1.0), (1, 30, 1.0)]
    other = [(0, 10, 2.0), (1, 30, 2.0)]
    both = document_sums(FLOOR, rows("mlp", sums, layer=1), rows("mlp", other, layer=1, seed=7))
    assert both.repeated == {7: {"mlp"}}
    first, again = (both.rates("all", "test", "all", seed) for seed in (None, 7))
    assert first.nats("mlp", 1, 1)[0] == pytest.approx(1.0)
    assert again.nats("mlp", 1, 1)[0] == pytest.approx(2.0)
    # What was fitted once is there under every seed.
    assert first.nats(*UNIGRAM)[0] == again.nats(*UNIGRAM)[0]


def test_what_is_not_known_is_a_null_and_not_a_number() -> None:
    rates = document_sums(FLOOR).rates("all", "test", "all")
    assert set(rates.columns("joint", rates.rate("joint_nats", *UNIGRAM)).values()) == {None}
    assert set(rates.columns("joint", None).values()) == {None}
