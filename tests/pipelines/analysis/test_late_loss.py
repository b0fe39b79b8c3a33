"""What a verdict says of late loss: lost, not worth mentioning, or cannot tell."""

from typing import Any

import pytest

from probekit.pipelines.analysis.sentences import late_loss, looks
from probekit.pipelines.analysis.verdict import findings
from support.made_scores import LAYERS, Case, case, is_said, said_of

# fmt: off
CASES = [
    case("two layers alike", "linear/2/2 3.52",
        "layer 1 of 3 (layers 1 and 2 read it alike)",
    ),
    case("three layers alike", "linear/2/2 3.52, linear/3/2 3.51",
        "layer 1 of 3 (layers 1 to 3 read it alike)",
        "later layers lose 0.014 bits [0.006, 0.022] of what layer 1 reads, too little to "
        "matter",
    ),
    case("none can be told apart", "",
        "layer 1 of 3 (layers 0 to 3 cannot be told apart)",
        "2.16 bits [0.97, 3.43] beyond a skip-bigram | 2.89 bits | 75 % [34 %, 119 %], as "
        "much as all of it cannot be excluded",
        "cannot tell whether later layers lose any: 0.577 bits [-1.822, 2.809] after layer 1",
        noise=3.0, noisy="linear/0/2, linear/1/2, linear/2/2, linear/3/2",
    ),
    case("a loss of at most a share", "linear/3/2 3.51",
        "layer 1 of 3 (layers 1 and 3 read it alike)",
        "2.16 bits [2.16, 2.16] beyond a skip-bigram | 2.89 bits | 75 % [75 %, 75 %]",
        "at most 0.042 bits (2 %) are lost after layer 1",
        noise=0.05, noisy="linear/3/2",
    ),
    case("a loss of at most a twentieth bit", "linear/1/2 4.8, linear/2/2 4.9, linear/3/2 4.81",
        "layer 1 of 3 (layers 1 and 3 read it alike)",
        "0.29 bits [0.29, 0.29] beyond a skip-bigram | 2.89 bits | 10 % [10 %, 10 %]",
        "at most 0.031 bits are lost after layer 1",
        noise=0.03, noisy="linear/3/2",
    ),
    case("no telling whether any is lost", "linear/3/2 3.55",
        "layer 1 of 3 (layers 1 and 3 cannot be told apart)",
        "2.16 bits [2.16, 2.16] beyond a skip-bigram | 2.89 bits | 75 % [75 %, 75 %]",
        "cannot tell whether later layers lose any: 0.072 bits [-0.210, 0.348] after layer 1",
        noise=0.5, noisy="linear/3/2",
    ),
    case("the last layer reads most", "linear/3/2 3.2",
        "layer 3 of 3",
        "2.60 bits [2.59, 2.60] beyond a skip-bigram | 2.89 bits | 90 % [90 %, 90 %]",
        "nothing is lost: the last layer reads more than layer 1, the best before it",
    ),
    case("validation preferred the last layer", "",
        "layer 3 of 3 (best on validation text; layers 1 and 2 no worse on test text)",
        "1.59 bits [1.58, 1.59] beyond a skip-bigram | 2.89 bits | 55 % [55 %, 55 %]",
        "yet on test text the last layer reads 0.577 bits [0.569, 0.585] less than layer 1",
        held="linear/3/2 3.0",
    ),
    case("a little is lost", "linear/3/2 3.53",
        "layer 1 of 3 (layers 1 and 3 read it alike)",
        "2.16 bits [2.16, 2.16] beyond a skip-bigram | 2.89 bits | 75 % [75 %, 75 %]",
        "later layers lose 0.043 bits [0.032, 0.054] of what layer 1 reads, too little to "
        "matter",
        noise=0.02, noisy="linear/3/2",
    ),
]
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_scores_say_of_late_layers(case: Case) -> None:
    found = findings(case.sums(), LAYERS, horizon=2)
    text = said_of(found.verdict, found.offsets)
    assert [words for words in case.said if not is_said(words, text)] == []


def lost(
    value: float, low: float, high: float, margin: float = 0.05, best: int = 5
) -> dict[str, Any]:
    return {
        "best_layer": best,
        "late_rival": 5,
        "late_margin_bits": margin,
        "forgotten_bits": value,
        "forgotten_bits_low": low,
        "forgotten_bits_high": high,
    }


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            lost(0.058, 0.015, 0.103),
            "later layers lose 0.058 bits [0.015, 0.103] of what layer 5 reads",
        ),
        (
            lost(0.016, 0.002, 0.030),
            "later layers lose 0.016 bits [0.002, 0.030] of what layer 5 reads, too little to "
            "matter",
        ),
        (lost(-0.018, -0.074, 0.034), "at most 0.034 bits are lost after layer 5"),
        (lost(-0.011, -0.035, 0.014, 0.1), "at most 0.014 bits (1 %) are lost after layer 5"),
        (lost(0.02, -0.01, 0.0999, 0.1), "at most 0.100 bits (5 %) are lost after layer 5"),
        (lost(0.0, 0.0, 0.0), "at most 0.000 bits are lost after layer 5"),
        (
            lost(-0.018, -0.074, 0.05),
            "cannot tell whether later layers lose any: -0.018 bits [-0.074, 0.050] after layer 5",
        ),
        (
            lost(0.3, -0.4, 1.0, 0.1),
            "cannot tell whether later layers lose any: 0.300 bits [-0.400, 1.000] after layer 5",
        ),
        (
            lost(-0.2, -0.3, -0.1, best=6),
            "nothing is lost: the last layer reads more than layer 5, the best before it",
        ),
        (
            lost(0.046, 0.01, 0.08, best=6),
            "yet on test text the last layer reads 0.046 bits [0.010, 0.080] less than layer 5",
        ),
        (lost(0.0001, 0.00005, 0.0002, best=6), "at most 0.000 bits are lost after layer 5"),
        (lost(0.0, 0.0, 0.0) | {"late_rival": None}, "no layer before the last was read"),
    ],
)
def test_an_interval_says_lost_or_not_worth_mentioning_or_neither(
    row: dict[str, Any], words: str
) -> None:
    assert late_loss(row) == words


def test_so_many_looks_are_counted() -> None:
    assert looks(4, 3).startswith("4 offsets of 3 texts are 12 looks, each right 95 times in 100.")
    assert looks(2, 1).startswith("2 offsets are 2 looks")
