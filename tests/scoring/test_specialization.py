"""The findings, from scores that were made up so that the answers are known."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.errors import DataError
from probekit.pipelines.analysis.verdict import Findings, findings
from probekit.scoring.rates import DocumentSums

Key = tuple[str, int | None, int]

DOCUMENTS = 24
LAYERS = 3
# Nats by cell on test; the best layer at offset 2 is layer 1.
TEST: dict[Key, float] = {
    ("unigram", None, 1): 6.0,
    ("unigram", None, 2): 6.0,
    ("skip-bigram", None, 1): 4.5,
    ("skip-bigram", None, 2): 5.0,
    ("model", None, 1): 2.0,
    ("marginal", None, 2): 3.0,
    **{("lens", layer, 1): nats for layer, nats in enumerate((9.0, 4.0, 2.03, 2.0))},
    **{("linear", layer, 1): nats for layer, nats in enumerate((4.4, 3.0, 2.2, 1.98))},
    **{("linear", layer, 2): nats for layer, nats in enumerate((5.04, 3.5, 3.6, 3.9))},
}
HELD_OUT = ("linear", "unigram", "skip-bigram")
VALIDATION = {key: nats for key, nats in TEST.items() if key[0] in HELD_OUT}


def rows(cells: Mapping[Key, float], split: str, positions: str, noise: float) -> list[Any]:
    """Return rows of a table; noise differs by cell and document and sums to nothing."""
    found = []
    for (readout, layer, offset), nats in cells.items():
        draw = np.random.default_rng(abs(hash((len(readout), layer or 0, offset))) % 2**32)
        spread = draw.normal(size=DOCUMENTS)
        for document, extra in enumerate(noise * (spread - spread.mean())):
            row = (readout, layer, offset, True, positions, document, 10)
            found.append((*row, 10 * (nats + extra), 10 * math.exp(-nats), 10.0, split))
    return found


def sums(
    test: Mapping[Key, float] = TEST,
    validation: Mapping[Key, float] = VALIDATION,
    noise: float = 0.0,
    domains: list[str] | None = None,
) -> DocumentSums:
    names = "readout layer offset blind positions document n nats_sum top1_sum top5_sum split"
    parts = rows(validation, "validation", "all", noise)
    for positions in ("all", "marginal"):
        parts += rows(test, "test", positions, noise)
    table = pd.DataFrame(parts, columns=names.split()).astype({"layer": "Int64"})
    table = table.assign(seed=0, joint_sum=math.nan, joint_nats_sum=math.nan)
    return DocumentSums(table, domains or ["prose"] * DOCUMENTS, [1.0] * DOCUMENTS)


def with_cells(cells: Mapping[Key, float]) -> dict[Key, float]:
    return TEST | dict(cells)


def without(*readouts: str) -> dict[Key, float]:
    return {key: nats for key, nats in TEST.items() if key[0] not in readouts}


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
    assert first["forgotten_bits"] == 0
    assert first["adaptation_nats"] == pytest.approx(0.02)
    assert first["recovered"] is first["recovered_low"] is first["room_bits"] is None
    # exp(-2.03) is 97 % of exp(-2).
    assert first["saturation_layer"] == 2
    assert "saturation_layer" not in second


def test_the_best_layer_is_chosen_by_validation_and_read_on_test() -> None:
    preferred = VALIDATION | {("linear", 2, 2): 1.0}
    second = row(findings(sums(validation=preferred), LAYERS, 2), 2)
    assert second["best_layer"] == 2
    assert second["forgotten_bits"] == pytest.approx((3.9 - 3.6) / math.log(2))
    assert second["recovered"] == pytest.approx((5.0 - 3.6) / 2)


def test_forgotten_bits_may_be_negative_and_then_nothing_is_said_to_be_forgotten() -> None:
    preferred = VALIDATION | {("linear", 0, 2): 1.0}
    second = row(findings(sums(validation=preferred), LAYERS, 2), 2)
    assert second["forgotten_bits"] == pytest.approx((3.9 - 5.04) / math.log(2))
    assert second["verdict"].startswith("the last layer reads better on test")


def test_the_verdict_says_what_the_interval_allows() -> None:
    clear = findings(sums(noise=0.01), LAYERS, 2)
    assert row(clear, 2)["forgotten_bits_low"] > 0
    assert row(clear, 2)["verdict"] == "layer 1 knows more than the last: later layers forget"
    assert row(clear, 1)["verdict"] == "the last layer is the best: nothing is forgotten"
    doubtful = row(findings(sums(noise=3.0), LAYERS, 2), 2)
    assert doubtful["forgotten_bits"] == pytest.approx(0.4 / math.log(2))
    assert doubtful["forgotten_bits_low"] < 0 < doubtful["forgotten_bits_high"]
    assert doubtful["verdict"].startswith("cannot tell whether later layers forget")


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
    assert "cannot be told here" in found.verdict[1]
    assert "Recovered at t+2" not in [each["label"] for each in found.headlines]


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
    assert "beyond the probe at layer 0" in found.verdict[1]
    [headline] = [each for each in found.headlines if each["label"] == "Recovered at t+2"]
    assert headline["note"] == "of what the model knows of t+2 beyond the probe at layer 0"


def test_recovered_is_given_against_the_adapted_ceiling_too() -> None:
    assert row(findings(sums(), LAYERS, 2), 2)["recovered_adapted"] is None
    cells = with_cells({("marginal-adapted", None, 2): 2.5})
    assert row(findings(sums(cells), LAYERS, 2), 2)["recovered_adapted"] == pytest.approx(1.5 / 2.5)


def test_the_sentence_gives_share_and_interval_and_calls_a_loose_ceiling_an_estimate() -> None:
    tight = findings(sums(), LAYERS, 2, ceiling_errors={2: 0.05}).verdict[1]
    assert tight.startswith("The token at t+2 is read out best at layer 1 of 3; a linear probe")
    assert "reads 2.16 of the 2.89 bits that the model itself knows beyond a skip-bigram" in tight
    assert "75 % [75 %, 75 %]" in tight
    assert "estimate" not in tight
    assert "(an estimate: " in findings(sums(), LAYERS, 2, ceiling_errors={2: 0.06}).verdict[1]


def test_saturation_needs_95_percent_of_the_models_accuracy() -> None:
    assert (
        findings(sums(), LAYERS, 2).verdict[0].startswith("The next token is settled at layer 2 of")
    )
    later = findings(sums(with_cells({("lens", 2, 1): 2.06})), LAYERS, 2)  # 94.2 %
    assert row(later, 1)["saturation_layer"] == 3
    never = with_cells({("lens", 2, 1): 2.06, ("lens", 3, 1): 2.06})
    found = findings(sums(never), LAYERS, 2)
    assert row(found, 1)["saturation_layer"] is None
    assert found.verdict[0].startswith("No layer's logit lens reaches 95 %")
    assert row(findings(sums(without("model")), LAYERS, 2), 1)["saturation_layer"] is None


def test_much_adaptation_is_a_warning_and_little_is_none() -> None:
    assert codes(findings(sums(), LAYERS, 2)) == []
    adapted = findings(sums(with_cells({("linear", 3, 1): 1.94})), LAYERS, 2)
    assert codes(adapted) == ["adaptation"]
    assert "beats the model by 0.060 nats" in adapted.warnings[0]["message"]
    assert "by adapting to this text" in adapted.warnings[0]["message"]
    assert row(findings(sums(without("model")), LAYERS, 2), 1)["adaptation_nats"] is None


def test_against_its_own_continuation_a_model_is_said_to_be_unsure_and_not_unadapted() -> None:
    cells = with_cells({("linear", 3, 1): 1.5})
    [warning] = findings(sums(cells), LAYERS, 2, target="model").warnings
    assert "0.500 nats: the model's own most probable token" in warning["message"]
    assert "adapting" not in warning["message"]


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
    assert {each["low"] for each in found.headlines} == {None}


def test_every_domain_has_its_rows_and_all_comes_first() -> None:
    names = ["prose", "code"] * (DOCUMENTS // 2)
    found = findings(sums(noise=0.5, domains=names), LAYERS, 2)
    assert [(each["domain"], each["offset"]) for each in found.rows] == [
        (domain, offset) for domain in ("all", "prose", "code") for offset in (1, 2)
    ]
    assert len(found.verdict) == 2


def test_with_one_offset_only_the_next_token_is_spoken_of() -> None:
    first = {key: nats for key, nats in TEST.items() if key[2] == 1}
    held = {key: nats for key, nats in VALIDATION.items() if key[2] == 1}
    found = findings(sums(first, held), LAYERS, horizon=1)
    assert [each["offset"] for each in found.rows] == [1]
    assert len(found.verdict) == 1
    assert [each["label"] for each in found.headlines] == ["Next token, the model"]


def test_headlines_carry_value_interval_and_unit() -> None:
    found = {each["label"]: each for each in findings(sums(noise=0.1), LAYERS, 2).headlines}
    assert list(found) == [
        "Next token, the model",
        "t+2, best probe (layer 1)",
        "t+2, marginalization",
        "Recovered at t+2",
        "Forgotten at t+2",
    ]
    assert found["Next token, the model"]["value"] == pytest.approx(math.exp(-2))
    assert found["t+2, best probe (layer 1)"]["value"] == pytest.approx(math.exp(-3.5))
    forgotten = found["Forgotten at t+2"]
    assert forgotten["unit"] == "bits"
    assert forgotten["low"] < forgotten["value"] < forgotten["high"]


def test_probes_that_were_not_scored_on_test_are_an_error() -> None:
    cells = {key: nats for key, nats in TEST.items() if key != ("linear", 1, 2)}
    with pytest.raises(DataError, match="linear at layer 1, offset 2 was not scored"):
        findings(sums(cells), LAYERS, 2)
