"""Differences that more training text would move by as much as they are."""

import math
from typing import Any

import pytest

from probekit.pipelines.comparison.learning import last_gain, not_compared, rivalled


def results(gain: float, floor_gain: float = 0.0) -> dict[str, Any]:
    where = {"domain": "all", "offset": 2, "one_in": 1}
    best = {"role": "best", "layer": 3, "read_bits": 0.8, "read_gain_bits": 0.1, "nats": 5.0}
    rows = [
        where | role | {"positions": positions}
        for positions in ("all", "marginal")
        for role in (best | {"gain_nats": gain}, {"role": "floor", "gain_nats": floor_gain})
    ]
    score = {"readout": "linear", "layer": 3, "offset": 2, "domain": "all", "split": "test"}
    return {
        "learning": rows,
        "scores": [score | {"positions": "all", "nats": 5.0, "bpb": 2.5}],
        "specialization": [{"domain": "all", "offset": 2, "room_bits": 2.0}],
    }


def difference(quantity: str, value: float, offset: int = 2) -> dict[str, Any]:
    return {"quantity": quantity, "domain": "all", "offset": offset, "value": value}


def test_the_last_gain_is_in_the_unit_of_the_quantity() -> None:
    assert last_gain(results(0.1), "best_probe_bits", "all", 2) == pytest.approx(0.1 / math.log(2))
    assert last_gain(results(0.1), "best_probe_bpb", "all", 2) == pytest.approx(0.05)
    assert last_gain(results(0.1), "recovered", "all", 2) == pytest.approx(0.8 / 2 - 0.7 / 2)
    moved = last_gain(results(0.1, floor_gain=0.5 * math.log(2)), "recovered", "all", 2)
    assert moved == pytest.approx(0.8 / 2 - 0.7 / 2.5)
    assert last_gain(results(0.1), "recovered", "prose", 2) is None
    assert last_gain({}, "recovered", "all", 2) is None


def test_a_difference_no_larger_than_the_last_gain_of_either_run_is_not_told() -> None:
    runs = [results(gain) for gain in (0.01, 0.2)]
    bits = 0.2 / math.log(2)
    assert rivalled(difference("best_probe_bits", -bits), runs)
    assert not rivalled(difference("best_probe_bits", -bits - 0.01), runs)
    assert not rivalled(difference("best_probe_bits", 0.0, offset=1), runs)
    assert not rivalled(difference("next_token_top1", 0.0), runs)
    few = [difference("best_probe_bits", 0.1), difference("recovered", 0.0)]
    (said,) = not_compared(few)
    assert said.startswith(
        "Not compared: what the best probe knows at t+2; what is recovered at t+2. The second half"
    )
    assert not_compared([]) == []
