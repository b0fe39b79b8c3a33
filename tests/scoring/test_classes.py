"""Rates by class: what is read in each, and what each adds to all that is read."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from probekit.scoring.classes import Classes

BIT = math.log(2)
DOCUMENTS = 10


def table() -> pd.DataFrame:
    """Return three positions a document: two inside words, one of them with a ceiling."""
    rows = []
    for document in range(DOCUMENTS):
        for position, (where, read) in enumerate([("in", 2.0), ("in", 1.0), ("out", 1.0)]):
            for readout, bits in (("floor", 0.0), ("probe", read), ("ceiling", 4.0)):
                marginal = position != 1
                if readout == "ceiling" and not marginal:
                    continue
                nats = 5 + document - bits * BIT  # documents differ in difficulty
                rows.append(
                    {"readout": readout, "offset": 2, "document": document, "nats": nats,
                     "top1": float(readout == "probe" and where == "in"), "marginal": marginal,
                     "piece": where}
                )  # fmt: skip
    return pd.DataFrame(rows)


def rows(domains: list[str]) -> dict[tuple[str, str], dict[str, Any]]:
    found = Classes(table(), ["piece"], domains, seed=0).rows()
    return {(row["class"], row["domain"]): row for row in found}


def test_what_classes_add_sums_to_all_that_is_read() -> None:
    found = rows(["prose"] * DOCUMENTS)
    inside, outside = found["in", "prose"], found["out", "prose"]
    assert (inside["n_positions"], inside["share_of_positions"]) == (20, pytest.approx(2 / 3))
    assert inside["read_bits"] == pytest.approx(1.5)
    assert (inside["share"], outside["share"]) == (pytest.approx(3 / 4), pytest.approx(1 / 4))
    assert inside["top1"] == pytest.approx(1)
    # Paired: documents of different difficulty make no doubt of a constant difference.
    assert inside["read_bits_low"] == pytest.approx(inside["read_bits_high"])


def test_room_is_what_is_read_and_what_the_ceiling_adds_where_it_is_known() -> None:
    found = rows(["prose"] * DOCUMENTS)
    assert found["in", "prose"]["room_bits"] == pytest.approx(1.5 + 2)
    assert found["in", "prose"]["recovered"] == pytest.approx(1.5 / 3.5)
    assert found["out", "prose"]["recovered"] == pytest.approx(1 / 4)


def test_domains_are_told_apart_and_too_few_documents_have_no_interval() -> None:
    found = rows(["prose"] * 8 + ["code"] * 2)
    assert set(found) == {(c, d) for c in ("in", "out") for d in ("all", "prose", "code")}
    assert found["in", "code"]["n_positions"] == 4
    assert found["in", "code"]["read_bits_low"] is None
    assert found["in", "prose"]["read_bits_low"] is not None
    assert np.isfinite(found["in", "all"]["share"])
