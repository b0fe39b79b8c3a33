"""Readouts set against each other, on sums that are worked by hand."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest

from probekit.scoring import contrasts
from probekit.scoring.rates import DocumentSums

DOCUMENTS = 8
N = 10


def rows(
    readout: str,
    layer: int | None,
    offset: int,
    nats: float,
    top1: float = 0.5,
    joint: float = math.nan,
    **more: Any,
) -> list[dict[str, Any]]:
    """Return one row a document; documents differ in difficulty, not in what tells readouts."""
    return [
        {
            "readout": readout, "layer": layer, "offset": offset, "blind": True,
            "positions": "all", "split": "test", "document": document, "n": N,
            "nats_sum": N * (nats + document), "top1_sum": N * top1, "top5_sum": N * 1.0,
            "joint_sum": N * joint, "joint_nats_sum": math.nan, "seed": 0,
        }
        | more
        for document in range(DOCUMENTS)
    ]  # fmt: skip


def sums(*parts: list[dict[str, Any]]) -> DocumentSums:
    table = pd.DataFrame([row for part in parts for row in part]).astype({"layer": "Int64"})
    return DocumentSums(table, ["prose"] * DOCUMENTS, [1.0] * DOCUMENTS)


def test_a_probe_stands_beside_its_control_and_untrained_blocks() -> None:
    bit = math.log(2)
    found = sums(
        rows("unigram", None, 2, 5.0),
        rows("linear", 0, 2, 5.0 - bit),
        rows("linear", 3, 2, 5.0 - 3 * bit),
        rows("control", 3, 2, 5.0 - 0.5 * bit),
        rows("control", 3, 2, 5.0, seed=1),
        *(rows("random", 3, 2, 5.0 - bits * bit, seed=s) for s, bits in enumerate((1, 2, 1.5))),
    )
    first, again = contrasts.controls(found, {2: 0.25})
    assert (first["layer"], first["offset"], first["domain"], first["seed"]) == (3, 2, "prose", 0)
    assert first["contextual_bits"] == pytest.approx(2.5)
    assert first["overfit_bits"] == pytest.approx(0.5)
    # Paired: documents of different difficulty make no doubt of a constant difference.
    assert first["overfit_bits_low"] == pytest.approx(first["overfit_bits_high"])
    assert (again["seed"], again["contextual_bits"]) == (1, pytest.approx(3))
    # Over three draws, whose spread is in the interval.
    for row in (first, again):
        assert row["random_bits"] == pytest.approx(1.5)
        assert row["bits_over_random"] == pytest.approx(1.5)
        assert row["random_draws"] == 3
    assert 0.8 < first["bits_over_random_low"] < 1.1
    assert 1.9 < first["bits_over_random_high"] < 2.2
    assert {row["kept_share"] for row in (first, again)} == {0.25}


def test_targets_that_changed_places_across_texts_say_nothing_of_one_of_them() -> None:
    table = pd.DataFrame([
        *rows("unigram", None, 2, 5.0), *rows("linear", 3, 2, 2.0), *rows("control", 3, 2, 3.0),
        *rows("random", 3, 2, 4.0),
    ]).astype({"layer": "Int64"})  # fmt: skip
    two = DocumentSums(table, ["prose", "code"] * (DOCUMENTS // 2), [1.0] * DOCUMENTS)
    found = {row["domain"]: row["contextual_bits"] for row in contrasts.controls(two, {2: 0.0})}
    assert found == {"all": pytest.approx(1 / math.log(2)), "prose": None, "code": None}


def test_without_controls_there_are_no_rows() -> None:
    assert not list(contrasts.controls(sums(rows("unigram", None, 2, 5.0)), {}))


def both(nats: Mapping[tuple[str, int | None], tuple[float, float]]) -> list[dict[str, Any]]:
    """Return rows of test and validation."""
    found = []
    for (readout, layer), (validation, test) in nats.items():
        found += rows(readout, layer, 2, test)
        found += rows(readout, layer, 2, validation, split="validation")
    return found


def test_the_layer_of_a_family_is_chosen_on_validation() -> None:
    bit = math.log(2)
    found = sums(
        both({
            ("linear", 0): (2.0, 2.0), ("linear", 1): (3.0, 1.0),
            ("mlp", 0): (2.5, 9.0), ("mlp", 1): (2.4, 2.0 - bit),
            ("concat", None): (2.2, 2.0 + bit),
        })
    )  # fmt: skip
    table = {row["readout"]: row for row in contrasts.families(found, ["linear", "mlp", "concat"])}
    # Layer 1 of the linear probe is better on test, and validation did not know.
    assert [table[name]["layer"] for name in ("linear", "mlp", "concat")] == [0, 1, None]
    gains = [table[name]["bits_over_linear"] for name in ("linear", "mlp", "concat")]
    assert gains == pytest.approx([0, 1, -1])


def test_the_layer_of_a_site_is_chosen_on_validation_and_set_beside_the_first_site() -> None:
    bit = math.log(2)
    found = sums(
        both({
            ("linear", 1): (2.0, 2.0), ("linear", 2): (3.0, 1.0), ("skip-bigram", None): (3.0, 3.0),
            ("attn_out", 1): (2.4, 2.0 + bit), ("attn_out", 2): (2.5, 1.0),
            ("mlp_out", 1): (2.5, 9.0), ("mlp_out", 2): (2.4, 2.0 - bit),
        })
    )  # fmt: skip
    names = {"resid_post": "linear", "attn_out": "attn_out", "mlp_out": "mlp_out"}
    table = {row["site"]: row for row in contrasts.sites(found, names)}
    assert [table[site]["layer"] for site in names] == [1, 1, 2]
    more = [table[site]["bits_over_first"] for site in names]
    assert more == pytest.approx([0, -1, 1])
    beyond = [table[site]["bits_given_token"] * bit for site in names]
    assert beyond == pytest.approx([1, 1 - bit, 1 + bit])
    # Paired: documents of different difficulty make no doubt of a constant difference.
    assert table["mlp_out"]["bits_over_first_low"] == pytest.approx(1)


def test_a_conditional_accuracy_is_a_share_of_those_that_were_right_before() -> None:
    at: dict[str, Any] = {"positions": "marginal"}
    found = sums(
        rows("linear", 2, 2, 2.0, top1=0.8, joint=0.8, **at),
        rows("linear", 2, 3, 2.0, top1=0.5, joint=0.2, **at),
        rows("linear", 2, 1, 2.0, top1=0.9, joint=0.9, **at),
        rows("lens", 2, 2, 2.0, top1=0.0, joint=0.0, **at),
        rows("lens", 2, 3, 2.0, top1=0.1, joint=0.0, **at),
        rows("control", 2, 2, 2.0, **at),
    )
    table = {(r["readout"], r["offset"]): r for r in contrasts.sequences(found, "model")}
    assert set(table) == {("linear", 2), ("linear", 3), ("lens", 2), ("lens", 3)}
    second, third = table["linear", 2], table["linear", 3]
    assert (second["conditional"], second["joint"]) == (pytest.approx(0.8), pytest.approx(0.8))
    assert (third["top1"], third["joint"]) == (pytest.approx(0.5), pytest.approx(0.2))
    assert third["conditional"] == pytest.approx(0.25)
    assert (second["accepted"], third["accepted"]) == (pytest.approx(0.8), pytest.approx(1.0))
    assert third["target"] == "model"
    assert third["joint_nats"] is None
    assert third["total_correlation"] is None
    # Never right before: there is nothing to be a share of.
    assert table["lens", 3]["conditional"] is None


def test_total_correlation_is_what_the_marginals_lack_of_the_joint_distribution() -> None:
    at: dict[str, Any] = {"positions": "marginal"}
    found = sums(
        rows("marginal", None, 2, 2.0, joint=0.5, **(at | {"joint_nats_sum": N * 2.0})),
        rows("marginal", None, 3, 2.5, joint=0.25, **(at | {"joint_nats_sum": N * 3.75})),
    )
    second, third = contrasts.sequences(found, "text")
    spread = sum(range(DOCUMENTS)) / DOCUMENTS  # `rows` adds each document's difficulty to nats
    assert second["total_correlation"] == pytest.approx(spread)
    assert third["total_correlation"] == pytest.approx(2.0 + 2.5 - 3.75 + 2 * spread)
