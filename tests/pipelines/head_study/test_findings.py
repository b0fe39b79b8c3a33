"""Differences and gaps between strategies of training heads, by hand."""

import numpy as np
import pytest

from probekit.pipelines.head_study.findings import NO_HEAD, difference_rows, gap_rows
from support.head_tallies import sums


def test_the_share_of_the_gap_is_that_of_the_means() -> None:
    jitter = np.linspace(0, 1, 12)
    scores = {
        "unigram": [9.0] * 12,
        "finetune": list(4 + jitter),
        "linear": list(6 + jitter),
        "heads-only": list(6.5 + jitter),
        "joint": list(5.5 + jitter),
    }
    rows = gap_rows(sums({2: scores}), ["heads-only", "joint"])
    shares = {(row["metric"], row["strategy"]): row for row in rows}
    for row in shares.values():
        assert row["share"] == pytest.approx(0.25 if row["strategy"] == "joint" else -0.25)
        assert row["reason"] is None
    apart = {
        row["against"]: row["nats"]
        for row in difference_rows(sums({2: scores}), [])
        if (row["strategy"], row["positions"]) == ("joint", "marginal")
    }
    assert apart == {
        "finetune": pytest.approx(1.5),
        "linear": pytest.approx(-0.5),
        "heads-only": pytest.approx(-1.0),
    }


def test_there_is_no_share_of_a_gap_that_is_not_clear_of_zero() -> None:
    jitter = np.random.default_rng(0).normal(size=12)
    scores = {"unigram": [9.0] * 12, "finetune": [4.0] * 12, "joint": [4.0] * 12}
    scores["linear"] = list(4 + jitter)
    for row in gap_rows(sums({2: scores}), ["heads-only", "joint"]):
        assert row["share"] is None
        assert "not clear of the linear probe" in row["reason"] or row["reason"] == NO_HEAD
