"""What more training text gives floor and best probe."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from probekit.data.targets import Targets
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.analysis.learning import PARTS, doubled, part_of
from probekit.pipelines.analysis.more_text import clauses, sentences


def of(run: Run, **wanted: Any) -> list[dict[str, Any]]:
    rows = run.results["learning"]
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def test_parts_are_nested_and_hold_their_share_of_blocks() -> None:
    valid = {2: torch.ones(8, 3, dtype=torch.bool)}
    targets = Targets("text", {2: torch.zeros(8, 3, dtype=torch.long)}, valid)
    masks = [part_of(targets, one_in).valid[2] for one_in in PARTS]
    assert [int(mask.sum()) for mask in masks] == [6, 12, 24]
    for smaller, larger in pairwise(masks):
        assert torch.equal(smaller & larger, smaller)


@pytest.mark.parametrize("role", ["floor", "best"])
def test_more_of_a_text_with_a_rule_helps(finished_run: Run, role: str) -> None:
    rows = of(finished_run, role=role, positions="all", offset=2)
    assert [row["one_in"] for row in rows] == [4, 2, 1]
    nats = [row["nats"] for row in rows]
    assert nats[0] > nats[1] > nats[2]
    counts = [row["n_train"] for row in rows]
    assert counts[0] < 0.3 * counts[2] < 0.6 * counts[2] > counts[1]
    width = finished_run.results["model"]["d_model"]
    assert rows[2]["positions_per_value"] == pytest.approx(counts[2] / width**2)
    assert rows[0]["gain_nats"] is None
    for before, row in pairwise(rows):
        assert row["gain_nats"] == pytest.approx(before["nats"] - row["nats"])
        assert row["gain_nats_low"] > 0
    assert nats[2] - rows[2]["gain_nats"] <= rows[2]["doubled_nats"] < nats[2]


def test_all_of_the_text_gives_what_the_run_scored(finished_run: Run) -> None:
    scores = finished_run.results["scores"]
    for row in of(finished_run, one_in=1):
        (score,) = (
            score
            for score in scores
            if score["split"] == "test"
            and all(score[name] == row[name] for name in ("readout", "layer", "offset"))
            and (score["positions"], score["domain"]) == (row["positions"], row["domain"])
        )
        assert row["nats"] == pytest.approx(score["nats"], abs=1e-5)
    (special,) = (row for row in finished_run.results["specialization"] if row["offset"] == 2)
    (best,) = of(finished_run, one_in=1, role="best")
    assert best["layer"] == special["best_layer"]
    assert best["read_bits"] == pytest.approx(special["read_bits"], abs=1e-5)


def test_gains_go_on_to_shrink_and_never_grow() -> None:
    curves = np.array([[7.0, 6.0, 5.5], [7.0, 6.5, 5.5], [6.0, 6.5, 6.0], [7.0, 6.0, 6.5]])
    assert doubled(list(curves.T)).tolist() == [5.25, 4.5, 5.5, 6.5]


def row(gain: float, read_gain: float, low: float = -0.05) -> dict[str, Any]:
    ends = {"gain_nats_low": gain - 0.01, "gain_nats_high": gain + 0.01}
    read = {"read_gain_bits_low": read_gain + low, "read_gain_bits_high": read_gain + 0.05}
    where = {"domain": "all", "positions": "all", "offset": 2, "role": "best", "one_in": 1}
    return {
        **where,
        "gain_nats": gain,
        **ends,
        "read_gain_bits": read_gain,
        **read,
        "read_bits": 0.7,
        "read_bits_low": 0.5,
    }


def test_what_still_rises_is_said_to_be_at_least_that() -> None:
    (said,) = sentences([row(0.1, 0.09)])
    assert said.startswith("What the best probe reads beyond the floor is at least that")
    assert "gave 0.09 bits [0.04, 0.14] at t+2 of it." in said
    (said,) = sentences([row(0.1, 0.01)])
    assert said.startswith(
        "The probes still learn: the second half of the training text took 0.14 bits"
    )
    assert said.endswith("moved by +0.01 bits [-0.04, 0.06].")
    unread = {"read_bits": 0.05, "read_bits_low": -0.1}
    (said,) = sentences([row(0.1, 0.09) | unread])
    assert said.startswith("The probes still learn")
    nothing = {"read_bits": 0.0, "read_bits_low": -0.01}
    assert sentences([row(0.03, 0.0) | nothing]) == []
    little = 0.1 * 0.7 * math.log(2) - 0.001
    assert sentences([row(little, 0.06, low=0.0)]) == []
    none = {"gain_nats_low": None, "read_gain_bits_low": None}
    assert sentences([row(0.1, 0.09) | none]) == []
    assert sentences([row(0.0, 0.09, low=-0.1)]) == sentences([]) == []


@pytest.mark.parametrize(
    ("gain", "low", "clause"),
    [
        (0.09, -0.05, "more training text would still raise it"),
        (0.01, -0.05, "more training text would hardly move it"),
        (0.04, -0.05, "whether more training text would move it cannot be told"),
    ],
)
def test_a_clause_says_whether_more_text_would_move_what_is_read(
    gain: float, low: float, clause: str
) -> None:
    assert clauses([row(0.1, gain, low)]) == {2: clause}
