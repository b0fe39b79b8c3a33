"""What a study of heads says in words, from scores whose answer is known."""

import numpy as np
import pytest

from probekit.pipelines.head_study.verdict import Trained, sentences, warnings
from support.head_tallies import sums

JITTER = np.linspace(-0.2, 0.2, 20)
NOISE = np.random.default_rng(0).normal(size=20)
# As the paper finds it.
ORDERED = {"unigram": 8.0, "base": 4.1, "finetune": 4.0, "heads-only": 6.0, "joint": 5.5}


def said(
    second: dict[str, float],
    trained: Trained,
    first: dict[str, float] | None = None,
    noisy: tuple[str, ...] = (),
) -> list[str]:
    """Return the verdict on strategies that lose so many nats at the second and next token."""
    nats = {2: second, 1: first or dict.fromkeys(second, 3.0)}
    return sentences(
        sums(
            {
                offset: {
                    name: list(x + JITTER + (NOISE if name in noisy else 0))
                    for name, x in row.items()
                }
                for offset, row in nats.items()
            }
        ),
        trained,
    )


HEADS: Trained = {"heads-only": 6.0, "joint": 5.5}


def test_the_papers_order_is_told_where_it_is_there() -> None:
    verdict = said(ORDERED, HEADS)
    assert verdict[0].startswith("At offset 2, from worst to best: heads only, joint, the")
    assert "heads-only minus joint 0.500 [0.500, 0.500] nats" in verdict[1]
    assert "joint minus the baseline 1.500 [1.500, 1.500] nats, top-5 -15.0" in verdict[1]


@pytest.mark.parametrize(
    ("joint", "noisy", "why"),
    [
        (6.5, (), "heads only worse than joint is the other way round."),
        (5.9, ("joint",), "heads only worse than joint is not clear."),
        (3.5, (), "joint worse than the baseline is the other way round."),
    ],
)
def test_another_order_is_told_with_what_is_otherwise(
    joint: float, noisy: tuple[str, ...], why: str
) -> None:
    verdict = said(ORDERED | {"joint": joint}, HEADS, noisy=noisy)
    assert "was not found here" in verdict[0]
    assert verdict[0].endswith(why)


def test_the_best_heads_are_chosen_by_validation_not_by_test() -> None:
    verdict = said(ORDERED, {"heads-only": 5.0, "joint": 5.5})
    (best,) = [text for text in verdict if text.startswith("The best heads")]
    assert "by validation, are heads-only: top-5 40.0 [" in best
    assert "the baseline's 60.0 [" in best


def test_the_cost_to_the_next_token_is_told_where_it_is_clear() -> None:
    first = dict.fromkeys(ORDERED, 3.0) | {"joint": 3.1, "heads-only": 3.05}
    verdict = said(ORDERED, HEADS, first, noisy=("heads-only",))
    assert verdict[-1] == (
        "Cost to the next token, against the finetuned model: 0.100 [0.100, 0.100] nats with "
        "joint; not clear of zero with heads-only."
    )


@pytest.mark.parametrize(
    ("own", "noisy", "word"),
    [
        (5.0, (), "beat the best of those fitted afterwards at offset 2: -0.500 ["),
        (5.6, ("head:own",), "are not clear of the best"),
        (6.0, (), "are behind the best of those fitted afterwards"),
    ],
)
def test_heads_that_came_with_the_model_are_held_against_the_best(
    own: float, noisy: tuple[str, ...], word: str
) -> None:
    verdict = said(ORDERED | {"head:own": own}, HEADS, noisy=noisy)
    assert word in verdict[-1]
    assert "head:own minus joint" in verdict[-1]


def test_where_nothing_was_trained_the_model_alone_is_told() -> None:
    second = {name: ORDERED[name] for name in ("unigram", "base", "finetune")}
    assert said(second, {})[0].startswith("No strategy that trains heads was asked for. The")
    own = said(second | {"head:own": 5.0}, {})
    assert own[-1].startswith("The model's own heads lose 5.000 [")


def test_one_document_is_no_ground_for_a_verdict() -> None:
    alone = sums({2: {name: [nats] for name, nats in ORDERED.items()}})
    assert sentences(alone, HEADS) == ["Cannot tell: only 1 test document; 8 are needed."]


def test_layers_that_are_fed_the_token_between_are_no_equals() -> None:
    verdict = said(ORDERED | {"head:native": 3.0}, HEADS)
    assert "-1.100 [-1.100, -1.100] nats at offset 2. Not a comparison of equals." in verdict[-1]


def test_heads_that_know_less_than_token_frequencies_are_warned_of() -> None:
    nats = ORDERED | {"heads-only": 8.5, "joint": 8.0}
    by_strategy = {name: list(x + JITTER) for name, x in nats.items()}
    (told,) = warnings(sums({2: by_strategy}))
    assert told["code"] == "below-unigram"
    assert told["message"].startswith("At offset 2 heads-only know less than token frequencies")
    few = {name: values[:5] for name, values in by_strategy.items()}
    # No interval says that it is below, either.
    assert {row["code"] for row in warnings(sums({2: few}))} == {"few-test-documents"}
