"""What a study of heads says in words, from scores whose answer is known."""

import numpy as np
import pytest

from probekit.pipelines.head_study.standing import standings
from probekit.pipelines.head_study.verdict import NO_ORDER, ONE_SEED, Fitted, sentences, warnings
from support.head_tallies import sums

JITTER = np.linspace(-0.2, 0.2, 20)
NOISE = np.random.default_rng(0).normal(size=20)
# What 254 steps gave on the model of the gallery, in nats at offset 2.
SEEN = {
    "unigram": 7.0, "base": 4.355, "finetune": 4.326, "linear": 5.438, "heads-only": 5.549,
    "joint": 5.525, "heads-from-probes": 5.260, "joint-from-probes": 5.240,
}  # fmt: skip
HEADS = ("heads-only", "joint", "heads-from-probes", "joint-from-probes")


def said(
    second: dict[str, float],
    fitted: Fitted,
    first: dict[str, float] | None = None,
    noisy: tuple[str, ...] = (),
) -> list[str]:
    """Return the verdict on strategies that lose so many nats at the second and next token."""
    next_token = first or {name: 3.0 for name in second if name != "linear"}
    nats = {2: second, 1: next_token}
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
        fitted,
    )


def ended(nats: dict[str, float], kept: dict[str, int] | None = None) -> Fitted:
    """Return how strategies stand whose validation is their test, after 254 steps."""
    notes = {
        name: {
            "validation": {"2": nats[name]},
            "best_steps": {"2": (kept or {}).get(name, 200)},
            "curve": [{"step": 0}, {"step": 254}],
        }
        for name in HEADS
        if name in nats
    }
    return standings(notes, {"layer": 5, "validation": {"2": nats["linear"]}}, 2)


def test_a_strategy_behind_its_linear_probe_takes_part_in_no_order() -> None:
    verdict = said(SEEN, ended(SEEN))
    assert verdict[0] == (
        "At t+2 the best heads by validation, joint-from-probes, read 2.54 [2.54, 2.54] of the "
        "3.86 bits that the finetuned model itself, marginalized, knows beyond the unigram; the "
        "linear probe of the layer that they read has 2.25 alone (the heads 0.29 [0.29, 0.29] "
        "more)."
    )
    assert verdict[1] == (
        "Take part in no order: heads-only: trained too little: behind the linear probe of layer "
        "5, by 0.111 nats on validation text; joint: trained too little: behind the linear probe "
        "of layer 5, by 0.087 nats on validation text."
    )
    assert verdict[2] == (
        "Joint training, from the same start and with the same search: joint-from-probes reads "
        "0.029 [0.029, 0.029] bits more than heads-from-probes at t+2 (one training seed)."
    )
    assert not [text for text in verdict if text.startswith("Joint") and "heads-only" in text]
    assert "heads-from-probes reads 0.257 [0.257, 0.257] bits more than the linear" in verdict[3]


def test_where_the_last_step_is_the_best_of_all_no_order_is_told() -> None:
    verdict = said(SEEN, ended(SEEN, dict.fromkeys(HEADS, 254)))
    best = "At t+2 the best heads by validation, joint-from-probes, which take part in no order, "
    assert verdict[0].startswith(f"{best}read 2.54 [2.54, 2.54] of the 3.86 bits that the ")
    assert "heads-from-probes, joint-from-probes: its best step is the last, 254." in verdict[1]
    assert verdict[2] == NO_ORDER
    assert verdict[3].startswith("Cost to the next token")


def test_a_head_that_is_its_probe_but_for_rounding_is_not_behind() -> None:
    close = {"linear": 5.0, "heads-from-probes": 5.001, "joint-from-probes": 5.003}
    reasons = {name: each.reason for name, each in ended(close).items()}
    assert reasons["heads-from-probes"] == reasons["linear"] == ""
    assert "behind the linear probe of layer 5, by 0.003" in reasons["joint-from-probes"]


@pytest.mark.parametrize(
    ("joint", "noisy", "told"),
    [
        (
            4.9,
            (),
            "joint reads 0.144 [0.144, 0.144] bits more than heads-only at t+2",
        ),
        (
            5.1,
            (),
            "joint reads 0.144 [0.144, 0.144] bits less than heads-only at t+2",
        ),
        (4.99, ("joint",), "than heads-only at t+2, not clear of zero"),
    ],
)
def test_pairs_that_start_alike_are_compared(
    joint: float, noisy: tuple[str, ...], told: str
) -> None:
    nats = SEEN | {"heads-only": 5.0, "joint": joint}
    verdict = said(nats, ended(nats), noisy=noisy)
    (pair,) = [text for text in verdict if text.startswith("Joint") and "heads-only" in text]
    assert pair.endswith(f"{told} (one training seed).")
    (starts,) = [text for text in verdict if text.startswith("The same training of heads that")]
    assert "heads-from-probes reads 0.375 [0.375, 0.375] bits less than heads-only" in starts


def test_a_head_that_the_marginalized_model_is_not_clear_of_is_named() -> None:
    nats = SEEN | {"heads-from-probes": 4.3}
    first, second, *_ = said(nats, ended(nats), noisy=("heads-from-probes",))
    assert "] bits beyond the unigram; the finetuned model itself, marginalized, knows" in first
    start = "The finetuned model itself, marginalized, is not clear of heads-from-probes, by "
    assert second.startswith(start)


def test_heads_that_read_no_more_than_their_probe_are_said_to() -> None:
    nats = SEEN | {"heads-from-probes": 5.438, "joint-from-probes": 5.44}
    (first, *_) = said(nats, ended(nats), noisy=("heads-from-probes",))
    assert "the best heads by validation, heads-from-probes, read" in first
    assert first.endswith("more, not clear of zero).")


def test_what_the_best_heads_read_beyond_their_probe_is_told_once() -> None:
    nats = SEEN | {"heads-from-probes": 5.1}
    first, *rest = said(nats, ended(nats))
    assert first.endswith("(the heads 0.49 [0.49, 0.49] more).")
    assert not [text for text in rest if "the linear probe at" in text]


def test_the_cost_to_the_next_token_is_told_where_it_is_clear() -> None:
    first = {name: 3.0 for name in SEEN if name != "linear"} | {"joint": 3.1, "heads-only": 3.05}
    verdict = said(SEEN, ended(SEEN), first, noisy=("heads-only",))
    assert verdict[-1] == ONE_SEED
    assert verdict[-2] == (
        "Cost to the next token, against the finetuned model: 0.144 [0.144, 0.144] bits with "
        "joint; not clear of zero with heads-only, heads-from-probes, joint-from-probes."
    )


@pytest.mark.parametrize(
    ("own", "noisy", "word"),
    [
        (5.0, (), "beat the best that was fitted afterwards: head:own reads 0.346 ["),
        (5.3, ("head:own",), "are not clear of the best"),
        (6.0, (), "are behind the best that was fitted afterwards"),
    ],
)
def test_heads_that_came_with_the_model_are_held_against_the_best(
    own: float, noisy: tuple[str, ...], word: str
) -> None:
    verdict = said(SEEN | {"head:own": own}, ended(SEEN), noisy=noisy)
    assert word in verdict[-2]
    assert "than joint-from-probes at t+2" in verdict[-2]
    # Where no strategy was trained enough, the linear probe is what was.
    verdict = said(SEEN | {"head:own": own}, ended(SEEN, dict.fromkeys(HEADS, 254)))
    assert "than the linear probe at t+2" in verdict[-2]


def test_where_nothing_was_trained_the_model_alone_is_told() -> None:
    second = {name: SEEN[name] for name in ("unigram", "base", "finetune")}
    assert said(second, {})[0].startswith("No strategy that trains heads was asked for. The")
    own = said(second | {"head:own": 5.0}, {})
    assert own[-1].startswith("The model's own heads read 2.89 [")


def test_one_document_is_no_ground_for_a_verdict() -> None:
    alone = sums({2: {name: [nats] for name, nats in SEEN.items()}})
    assert sentences(alone, ended(SEEN)) == ["Cannot tell: only 1 test document; 8 are needed."]


def test_layers_that_are_fed_the_token_between_are_no_equals() -> None:
    verdict = said(SEEN | {"head:native": 3.255}, ended(SEEN))
    told = "reads 1.587 [1.587, 1.587] bits more than base at t+2. Not a comparison of equals."
    assert told in verdict[-2]


def test_heads_that_know_less_than_token_frequencies_are_warned_of() -> None:
    nats = SEEN | {"heads-only": 7.5, "joint": 7.0}
    by_strategy = {name: list(x + JITTER) for name, x in nats.items()}
    (told,) = warnings(sums({2: by_strategy}))
    assert told["code"] == "below-unigram"
    assert told["message"].startswith("At offset 2 heads-only know less than token frequencies")
    few = {name: values[:5] for name, values in by_strategy.items()}
    # No interval says that it is below, either.
    assert {row["code"] for row in warnings(sums({2: few}))} == {"few-test-documents"}
