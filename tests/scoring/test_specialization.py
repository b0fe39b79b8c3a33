"""The findings, from scores that were made up so that the answers are known."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.errors import DataError
from probekit.pipelines.analysis.verdict import Findings, findings
from support.made_scores import DOCUMENTS, LAYERS, TEST, VALIDATION, Key, sums, with_cells, without


def row(findings: Findings, offset: int) -> dict[str, Any]:
    [found] = [each for each in findings.rows if each["offset"] == offset]
    return found


def codes(findings: Findings) -> list[str]:
    return [each["code"] for each in findings.warnings]


def test_the_numbers_are_as_by_hand() -> None:
    found = findings(sums(), LAYERS, horizon=2)
    second = row(found, 2)
    assert (second["best_layer"], second["domain"]) == (1, "prose")
    assert second["best_depth"] == pytest.approx(1 / 3)
    assert second["forgotten_bits"] == pytest.approx((3.9 - 3.5) / math.log(2))
    assert (second["floor"], second["floor_layer"]) == ("skip-bigram", None)
    assert second["read_bits"] == pytest.approx(1.5 / math.log(2))
    assert second["room_bits"] == pytest.approx(2.0 / math.log(2))
    assert second["recovered"] == pytest.approx(1.5 / 2.0)
    first = row(found, 1)
    assert first["best_layer"] == 3
    assert first["forgotten_bits"] == pytest.approx((1.98 - 2.2) / math.log(2))
    assert (first["late_rival"], first["like_best"]) == (2, [3])
    assert first["adaptation_nats"] == pytest.approx(0.02)
    assert first["recovered"] is first["recovered_low"] is first["room_bits"] is None
    # exp(-2.03) is 97 % of exp(-2).
    assert first["saturation_layer"] == 2
    assert "saturation_layer" not in second


def test_the_room_is_what_is_read_and_what_the_ceiling_adds_where_it_is_known() -> None:
    # The positions that were drawn are harder: more so for the floor than for the probes.
    harder = {key: nats + (0.9 if key[0] == "skip-bigram" else 0.4) for key, nats in TEST.items()}
    found = findings(sums(drawn=harder), LAYERS, horizon=2)
    second = row(found, 2)
    assert second["read_bits"] == pytest.approx(1.5 / math.log(2))
    assert second["room_bits"] == pytest.approx(2.0 / math.log(2))
    assert found.shares["prose", 3, 2]["share"] == pytest.approx((5.0 - 3.9) / 2.0)
    assert found.shares["prose", 1, 1]["share"] == pytest.approx((4.4 - 3.0) / (4.4 - 2.0))
    top1 = found.offsets[1]["top1"]
    known = math.exp(-3.5) + math.exp(-3.4) - math.exp(-3.9)
    assert (top1["best"], top1["ceiling"]) == pytest.approx((math.exp(-3.5), known))


def test_the_best_layer_is_chosen_by_validation_and_read_on_test() -> None:
    preferred = VALIDATION | {("linear", 2, 2): 1.0}
    second = row(findings(sums(validation=preferred), LAYERS, 2), 2)
    assert second["best_layer"] == 2
    assert second["forgotten_bits"] == pytest.approx((3.9 - 3.6) / math.log(2))
    assert second["recovered"] == pytest.approx((5.0 - 3.6) / 2)


def test_the_last_layer_is_set_against_the_best_of_the_others() -> None:
    second = row(findings(sums(validation=VALIDATION | {("linear", 3, 2): 1.0}), LAYERS, 2), 2)
    assert (second["best_layer"], second["late_rival"]) == (3, 1)
    assert second["forgotten_bits"] == pytest.approx((3.9 - 3.5) / math.log(2))
    first = row(findings(sums(), LAYERS, 2), 1)
    assert first["forgotten_bits_high"] < 0
    assert first["verdict"].startswith("nothing is lost: the last layer reads more than layer 2")


def test_a_layer_alone_has_no_late_loss() -> None:
    cells, held = (
        {key: nats for key, nats in of.items() if key[0] != "linear" or key[1] == 3}
        for of in (TEST, VALIDATION)
    )
    found = findings(sums(cells, held), LAYERS, 2)
    assert row(found, 2)["late_rival"] is row(found, 2)["forgotten_bits"] is None
    assert row(found, 2)["verdict"] == "no layer before the last was read"
    assert found.offsets[1]["late_loss"] == "no layer before the last was read"


def test_the_margin_is_a_share_of_what_is_read_and_never_below_a_twentieth_bit() -> None:
    second = row(findings(sums(), LAYERS, 2), 2)
    assert second["late_margin_bits"] == pytest.approx(0.05 * 1.5 / math.log(2))
    little = with_cells({("linear", 1, 2): 4.9})
    assert row(findings(sums(little), LAYERS, 2), 2)["late_margin_bits"] == 0.05


def test_layers_within_the_margin_or_not_told_apart_are_like_the_best() -> None:
    assert row(findings(sums(), LAYERS, 2), 2)["like_best"] == [1]
    near = with_cells({("linear", 2, 2): 3.53})
    assert row(findings(sums(near), LAYERS, 2), 2)["like_best"] == [1, 2]
    assert row(findings(sums(noise=3.0), LAYERS, 2), 2)["like_best"] == [0, 1, 2, 3]


@settings(max_examples=10)
@given(st.floats(3.2, 4.9), st.floats(1.0, 4.7))
def test_recovered_is_the_probes_share_of_the_ceilings_gain(probe: float, ceiling: float) -> None:
    cells = {("linear", 1, 2): probe, ("marginal", None, 2): ceiling}
    held = VALIDATION | {("linear", 1, 2): 0.0}
    second = row(findings(sums(with_cells(cells), held), LAYERS, 2), 2)
    assert second["recovered"] == pytest.approx((5.0 - probe) / (5.0 - ceiling))
    assert second["recovered_low"] <= second["recovered"] + 1e-9
    assert second["recovered"] <= second["recovered_high"] + 1e-9


@pytest.mark.parametrize(
    "cells",
    [without("marginal"), with_cells({("marginal", None, 2): 5.0})],
    ids=["no ceiling", "ceiling at the floor"],
)
def test_without_a_ceiling_above_the_floor_nothing_is_recovered(cells: dict[Key, float]) -> None:
    found = findings(sums(cells), LAYERS, 2)
    assert row(found, 2)["recovered"] is None
    assert row(found, 2)["recovered_high"] is None
    assert not [text for text in found.verdict if " % [" in text]
    assert found.offsets[1]["share"] == ""


def test_of_a_small_room_no_share_is_given_but_its_bits() -> None:
    near, nearer = (with_cells({("marginal", None, 2): nats}) for nats in (4.78, 4.81))
    assert row(findings(sums(near), LAYERS, 2), 2)["recovered"] is not None
    small = row(findings(sums(nearer), LAYERS, 2), 2)
    assert small["recovered"] is None
    assert small["room_bits"] == pytest.approx(0.19 / math.log(2))
    assert row(findings(sums(near, noise=3.0), LAYERS, 2), 2)["recovered"] is None


def test_the_floor_is_the_better_readout_of_the_token_by_validation() -> None:
    # On test the skip-bigram is the better one; validation preferred the probe at layer 0.
    preferred = VALIDATION | {("linear", 0, 2): 4.9}
    found = findings(sums(validation=preferred), LAYERS, 2)
    second = row(found, 2)
    assert (second["floor"], second["floor_layer"]) == ("linear", 0)
    assert second["read_bits"] == pytest.approx((5.04 - 3.5) / math.log(2))
    assert second["recovered"] == pytest.approx((5.04 - 3.5) / (5.04 - 3.0))
    cells = {"floor": "the probe at layer 0", "known": "2.94 bits", "share": "75 % [75 %, 75 %]"}
    assert found.offsets[1] | cells == found.offsets[1]


def test_recovered_is_given_against_the_adapted_ceiling_too() -> None:
    assert row(findings(sums(), LAYERS, 2), 2)["recovered_adapted"] is None
    cells = with_cells({("marginal-adapted", None, 2): 2.5})
    assert row(findings(sums(cells), LAYERS, 2), 2)["recovered_adapted"] == pytest.approx(1.5 / 2.5)


def test_saturation_needs_95_percent_of_the_models_accuracy() -> None:
    assert row(findings(sums(), LAYERS, 2), 1)["saturation_layer"] == 2
    for last in (2.0, 2.06):  # that the last layer has all of it says nothing
        never = with_cells({("lens", 2, 1): 2.06, ("lens", 3, 1): last})  # 94.2 %
        assert row(findings(sums(never), LAYERS, 2), 1)["saturation_layer"] is None
    assert row(findings(sums(without("model")), LAYERS, 2), 1)["saturation_layer"] is None


def test_much_adaptation_is_a_warning_and_little_is_none() -> None:
    assert codes(findings(sums(), LAYERS, 2)) == []
    adapted = findings(sums(with_cells({("linear", 3, 1): 1.94})), LAYERS, 2)
    assert codes(adapted) == ["adaptation"]
    assert "beats the model at the next token by 0.09 bits" in adapted.warnings[0]["message"]
    assert "it adapts to this text" in adapted.warnings[0]["message"]
    assert row(findings(sums(without("model")), LAYERS, 2), 1)["adaptation_nats"] is None


def test_against_its_own_continuation_a_model_is_said_to_be_unsure_and_not_unadapted() -> None:
    cells = with_cells({("linear", 3, 1): 1.5})
    [warning] = findings(sums(cells), LAYERS, 2, target="model").warnings
    assert "0.72 bits [0.72, 0.72]: the model's own most probable token" in warning["message"]
    assert "adapts" not in warning["message"]


def test_few_test_documents_are_a_warning_for_each_domain_that_has_them() -> None:
    names = ["prose"] * 12 + ["code"] * 8 + ["verse"] * 4
    found = findings(sums(domains=names), LAYERS, 2)
    assert codes(found) == ["few-test-documents"] * 3
    starts = [
        "prose: 12 test documents; below 20",
        "code: 8 test",
        "verse: only 4 test documents; 8",
    ]
    for warning, start in zip(found.warnings, starts, strict=True):
        assert warning["message"].startswith(start)


def test_below_eight_test_documents_nothing_is_told_but_estimates() -> None:
    found = findings(sums(domains=["prose"] * 7), LAYERS, 2)
    assert found.verdict == ["Cannot tell: only 7 test documents; 8 are needed."]
    for each in found.rows:
        assert each["verdict"] == "cannot tell: only 7 test documents; 8 are needed"
        assert each["forgotten_bits"] is not None
        assert each["forgotten_bits_low"] is each["forgotten_bits_high"] is None
        assert each["recovered"] is None
    assert {each["share"] for each in found.offsets} == {""}
    assert {each["top1"]["best_low"] for each in found.offsets} == {None}


def test_every_domain_has_its_rows_and_all_comes_first() -> None:
    names = ["prose", "code"] * (DOCUMENTS // 2)
    found = findings(sums(noise=0.5, domains=names), LAYERS, 2)
    assert [(each["domain"], each["offset"]) for each in found.rows] == [
        (domain, offset) for domain in ("all", "prose", "code") for offset in (1, 2)
    ]
    assert found.verdict[-1].startswith("2 offsets of 3 texts are 6 looks")


def test_with_one_offset_only_the_next_token_is_spoken_of() -> None:
    first = {key: nats for key, nats in TEST.items() if key[2] == 1}
    held = {key: nats for key, nats in VALIDATION.items() if key[2] == 1}
    found = findings(sums(first, held), LAYERS, horizon=1)
    assert [each["offset"] for each in found.rows] == [1]
    assert len(found.verdict) == 1
    assert [(each["offset"], each["known"]) for each in found.offsets] == [(1, "3.46 bits")]


def test_accuracies_stand_beside_floor_and_ceiling() -> None:
    top1 = findings(sums(noise=0.1), LAYERS, 2).offsets[1]["top1"]
    assert top1["floor"] == pytest.approx(math.exp(-5))
    assert top1["best"] == pytest.approx(math.exp(-3.5))
    assert top1["ceiling"] == pytest.approx(math.exp(-3))
    assert top1["best_low"] <= top1["best"] <= top1["best_high"]


def test_probes_that_were_not_scored_on_test_are_an_error() -> None:
    cells = {key: nats for key, nats in TEST.items() if key != ("linear", 1, 2)}
    with pytest.raises(DataError, match="linear at layer 1, offset 2 was not scored"):
        findings(sums(cells), LAYERS, 2)
