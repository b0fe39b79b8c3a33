"""Transplants beside the prompt alone; and whatever they score, no finding takes them."""

import pandas as pd
import pytest

from probekit.pipelines.analysis.verdict import findings
from probekit.scoring.contrasts import sequences, transplants
from probekit.scoring.rates import DocumentSums
from support.made_scores import LAYERS, Key, sums

CELLS: dict[Key, float] = {
    ("transplant", layer, k): 0.1 for layer in range(LAYERS + 1) for k in (1, 2)
}
ALONE: dict[Key, float] = {
    (f"transplant-{name}", None, k): nats
    for name, of_name in (("none", (9.0, 2.0)), ("token", (4.0, 1.0)))
    for k, nats in enumerate(of_name, start=1)
}


def fed() -> DocumentSums:
    """Return made-up scores with transplants that are right nearly always."""
    plain, more = sums(), sums(test=CELLS | ALONE, validation={})
    added = more.table[more.table["positions"] == "marginal"]
    added = added.assign(blind=added["offset"] == 1)
    table = pd.concat([plain.table, added], ignore_index=True)
    return DocumentSums(table, plain.domains, plain.bytes_per_token)


def test_no_finding_takes_what_is_token_fed() -> None:
    assert findings(fed(), LAYERS, 2) == findings(sums(), LAYERS, 2)
    drafts = [row["readout"] for row in sequences(fed(), "text")]
    assert drafts == [row["readout"] for row in sequences(sums(), "text")]


def test_what_they_gain_is_counted_from_the_token() -> None:
    rows = list(transplants(fed()))
    assert {(row["layer"], row["offset"]) for row in rows} == {(n, k) for _, n, k in CELLS}
    at = next(row for row in rows if (row["layer"], row["offset"]) == (1, 2))
    assert not at["blind"]
    assert at["bits_gained"] == pytest.approx(0.9 / 0.693147, abs=1e-5)
    assert at["top1_gained"] == pytest.approx(at["top1"] - at["top1_token"])
    assert (at["top1"], at["top1_alone"]) == pytest.approx((0.904837, 0.135335), abs=1e-5)
    assert not list(transplants(sums()))
