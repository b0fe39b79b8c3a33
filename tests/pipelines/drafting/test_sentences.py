"""What a measured draft says, by what was measured."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from probekit.pipelines.drafting.sentences import sentences

COSTS = [{"tokens": 1, "ratio": 1.0}, {"tokens": 8, "ratio": 1.9}]


def row(drafter: str, speed: float, **more: Any) -> Mapping[str, Any]:
    measured = {
        "drafter": drafter, "domain": "all", "horizon": 2, "widths": [1], "layers": [5],
        "accepted": 0.31, "tokens_per_forward": 1.31, "flat_speed": 1.31, "pass_cost": 1.2,
        "speed": speed, "speed_low": speed - 0.02, "speed_high": speed + 0.02,
    }  # fmt: skip
    return measured | more


def told(probe: float, lookup: float) -> Iterator[str]:
    return sentences([row("linear", probe), row("prompt-lookup", lookup)], COSTS)


def test_the_answer_comes_first() -> None:
    assert next(told(1.08, 1.12)) == (
        "One token drafted by the linear probe at layer 5 is accepted 31 % of the time: 1.31 "
        "tokens a forward pass; on this machine 1.08 times as fast as greedy decoding (1.06 to "
        "1.10); prompt lookup alone: 1.12."
    )


@pytest.mark.parametrize(
    ("probe", "lookup", "judgement"),
    [
        (1.30, 1.12, "Worth drafting here: linear, a chain of 1, is 1.30 times as fast"),
        (1.08, 1.12, "Not worth heads here: the best of the other drafters, linear, a chain of 1"),
        (0.90, 1.12, "Not worth heads on this machine: the best of the other drafters, linear"),
        (1.01, 0.90, "Not worth heads on this machine"),  # its least is below 1
    ],
)
def test_heads_are_worth_it_where_a_drafter_beats_greedy_decoding_and_lookup(
    probe: float, lookup: float, judgement: str
) -> None:
    _, found, flat = told(probe, lookup)
    assert found.startswith(judgement)
    assert flat.startswith("A forward pass over 8 new tokens costs 1.9 times one")
    assert "would be 1.31 times as fast as greedy decoding (computed, not measured)" in flat


def test_what_a_pass_costs_is_what_must_be_accepted() -> None:
    _, found, _ = told(0.90, 1.12)
    assert "0.20 drafted tokens would have to be accepted in each, 0.31 are" in found


def test_texts_that_end_at_once_say_so() -> None:
    rows = [row("linear", 1.0, accepted=None, tokens_per_forward=None, pass_cost=None)]
    assert list(sentences(rows, COSTS)) == [
        "The texts ended before anything could be drafted: take more --new-tokens."
    ]
