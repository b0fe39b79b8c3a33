"""Differences and gaps between strategies of training heads, by hand."""

import numpy as np
import pandas as pd
import pytest

from probekit.head_findings import difference_rows, gap_rows
from probekit.tally import Tally


def tally(nats: dict[str, list[float]], n: int = 10) -> Tally:
    """Return scores of documents of equal size, at one offset."""
    listed = [
        {
            "readout": name, "layer": None, "offset": 2, "blind": True, "positions": positions,
            "document": number, "n": n, "nats_sum": value * n, "top1_sum": 0.0,
            "top5_sum": (10 - value) * n / 10, "joint_sum": 0.0, "kl_sum": 0.0,
        }
        for name, values in nats.items()
        for positions in ("all", "marginal")
        for number, value in enumerate(values)
    ]  # fmt: skip
    table = pd.DataFrame(listed).assign(split="test", seed=0).astype({"layer": "Int64"})
    documents = len(next(iter(nats.values())))
    return Tally(table, ["words"] * documents, [1.0] * documents)


def test_the_share_of_the_gap_is_that_of_the_means() -> None:
    jitter = np.linspace(0, 1, 12)
    scores = {
        "unigram": [9.0] * 12,
        "finetune": list(4 + jitter),
        "heads-only": list(6 + jitter),
        "joint": list(5.5 + jitter),
    }
    shares = {row["metric"]: row for row in gap_rows(tally(scores), ["heads-only", "joint"])}
    for row in shares.values():
        assert row["share"] == pytest.approx(0.25)
        assert row["reason"] is None
    apart = {
        row["against"]: row["nats"]
        for row in difference_rows(tally(scores), [])
        if (row["strategy"], row["positions"]) == ("joint", "marginal")
    }
    assert apart == {"finetune": pytest.approx(1.5), "heads-only": pytest.approx(-0.5)}


def test_there_is_no_share_of_a_gap_that_is_not_clear_of_zero() -> None:
    jitter = np.random.default_rng(0).normal(size=12)
    scores = {"unigram": [9.0] * 12, "finetune": [4.0] * 12, "joint": [4.0] * 12}
    scores["heads-only"] = list(4 + jitter)
    for row in gap_rows(tally(scores), ["heads-only", "joint"]):
        assert row["share"] is None
        assert "not clear of heads-only" in row["reason"]
    del scores["heads-only"]
    assert {row["reason"] for row in gap_rows(tally(scores), ["joint"])} == {
        "heads-only was not among the strategies"
    }
