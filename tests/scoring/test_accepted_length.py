"""The expected accepted length: from joint hits, and counted."""

import pandas as pd
import pytest

from probekit.errors import DataError
from probekit.scoring.accepted_length import Share, accepted_length, pooled
from probekit.scoring.rates import DocumentSums


def sums(joint: dict[int, list[float]], n: int = 10) -> DocumentSums:
    rows = [
        {
            "readout": "draft", "layer": None, "offset": offset, "blind": True, "n": n,
            "positions": "drafted", "document": document, "nats_sum": 1.0, "top1_sum": 1.0,
            "top5_sum": 1.0, "joint_sum": hits, "joint_nats_sum": 1.0,
        }
        for offset, by_document in joint.items()
        for document, hits in enumerate(by_document)
    ]  # fmt: skip
    table = pd.DataFrame(rows).astype({"layer": "Int64"}).assign(split="test", seed=0)
    count = len(next(iter(joint.values())))
    return DocumentSums(table, ["text"] * count, [1.0] * count)


def test_it_is_the_sum_of_products_of_conditional_acceptances() -> None:
    # 0.5 at the second offset, half of those at the third, a fifth of those at the fourth.
    rates = sums({2: [5, 5], 3: [3, 2], 4: [1, 0]}).rates("text", "test", "drafted")
    expected = accepted_length(rates, "draft", None, 4)
    assert expected[0] == pytest.approx(0.5 + 0.5 * 0.5 + 0.5 * 0.5 * 0.2)
    assert accepted_length(rates, "draft", None, 2)[0] == 0.5


def test_its_interval_is_by_documents() -> None:
    rates = sums({2: [10.0, 0.0] * 10}).rates("text", "test", "drafted")
    value, low, high = rates.summary(accepted_length(rates, "draft", None, 2))
    assert value == 0.5
    assert 0.2 < low < 0.35
    assert 0.65 < high < 0.8
    alike = sums({2: [5.0] * 20}).rates("text", "test", "drafted")
    assert alike.summary(accepted_length(alike, "draft", None, 2)) == (0.5, 0.5, 0.5)


def test_an_offset_that_was_not_scored_is_an_error() -> None:
    rates = sums({2: [5, 5]}).rates("text", "test", "drafted")
    with pytest.raises(DataError, match="offset 3 was not scored"):
        accepted_length(rates, "draft", None, 3)


def counted(hits: list[float], documents: list[int]) -> Share:
    share = pooled(hits, [2] * len(hits), documents, seed=0)
    assert share is not None
    return share


def test_counts_are_pooled_and_documents_resampled() -> None:
    hits = [2.0, 0.0] * 10
    by_text = counted(hits, list(range(20)))
    assert by_text.value == 0.5
    assert by_text.low is not None
    assert by_text.low < 0.4
    # Each document has one of both: nothing varies between them.
    assert counted(hits, [n // 2 for n in range(20)]) == Share(0.5, 0.5, 0.5)
    assert counted([1.0, 3.0], [0, 1]) == Share(1.0, None, None)  # too few for an interval
    assert pooled([0.0], [0.0], [0], seed=0) is None
