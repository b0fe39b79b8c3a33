"""Unigram and skip-bigram, counted by hand."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from probekit.data.targets import Targets
from probekit.errors import DataError
from probekit.probes import ngram
from probekit.probes.ngram import SkipBigram, Smoothing, Unigram
from probekit.readout import Cell, Seen


def part(rows: list[list[int]], horizon: int = 1) -> ngram.TokensAndTargets:
    """Return blocks that are one document each."""
    ids = torch.tensor(rows)
    found, valid = {}, {}
    for k in range(1, horizon + 1):
        found[k], valid[k] = ids.roll(-k, dims=1), torch.ones_like(ids, dtype=torch.bool)
        valid[k][:, -k:] = False
    return ids, Targets("text", found, valid)


def probs_of(readout: Unigram | SkipBigram, of: ngram.TokensAndTargets, offset: int) -> Tensor:
    [(cell, logits)] = readout.predict(Seen(of[0], {}), {offset: of[1].valid[offset]})
    assert cell == Cell("unigram" if isinstance(readout, Unigram) else "skip-bigram", offset)
    assert logits.dtype == torch.float32
    return logits.exp()


def nats_of(readout: Unigram | SkipBigram, of: ngram.TokensAndTargets, offset: int) -> float:
    wanted = of[1].ids[offset][of[1].valid[offset]]
    return -float(probs_of(readout, of, offset).gather(1, wanted[:, None]).log().mean())


def random_part(
    seed: int, vocabulary: int, horizon: int = 1, size: int = 20
) -> ngram.TokensAndTargets:
    draw = torch.Generator().manual_seed(seed)
    return part(torch.randint(vocabulary, (4, size), generator=draw).tolist(), horizon)


def test_counts_and_probabilities_are_as_by_hand() -> None:
    train = part([[0, 1, 0, 1, 0, 2]])  # targets 1, 0, 1, 0, 2 after 0, 1, 0, 1, 0
    unigram, counted = ngram.fit(train, train, vocab_size=4)
    # Nothing unseen is held out: the weakest prior of the grid.
    expected = torch.tensor([2.025, 2.025, 1.025, 0.025]) / 5.1
    torch.testing.assert_close(probs_of(unigram, train, 1)[0], expected)
    assert counted.counts[1].toarray().tolist() == [[0, 2, 1, 0], [2, 0, 0, 0], [0] * 4, [0] * 4]
    skip = SkipBigram(counted.counts, {1: Smoothing(discount=0.5, strength=2.0)}, unigram)
    # Two different tokens follow 0, one follows 1: 0.5 is taken from each.
    after_zero = (torch.tensor([0, 1.5, 0.5, 0]) + (2 + 0.5 * 2) * expected) / (3 + 2)
    after_one = (torch.tensor([1.5, 0, 0, 0]) + (2 + 0.5) * expected) / (2 + 2)
    predicted = probs_of(skip, train, 1)
    torch.testing.assert_close(predicted[0], after_zero)
    torch.testing.assert_close(predicted[1], after_one)


@settings(max_examples=15)
@given(st.integers(2, 15), st.integers(1, 3), st.integers(0, 1000))
def test_probabilities_sum_to_one_and_none_is_zero(v: int, offset: int, seed: int) -> None:
    train, held = random_part(seed, v, 3), random_part(seed + 1, v, 3)
    for readout in ngram.fit(train, held, vocab_size=v + 5):
        probs = probs_of(readout, held, offset)
        torch.testing.assert_close(probs.sum(dim=1), torch.ones(len(probs)))
        assert (probs > 0).all()


def test_the_conditional_is_that_of_double_precision() -> None:
    train, held = random_part(0, 50, size=300), random_part(1, 50, size=300)
    _, skip = ngram.fit(train, held, vocab_size=3000)
    for strength, discount in ((ngram.STRENGTHS[0], 0.95), (ngram.STRENGTHS[-1], 0.0)):
        readout = SkipBigram(skip.counts, {1: Smoothing(discount, strength)}, skip.unigram)
        [(_, logits)] = readout.predict(Seen(held[0], {}), {1: held[1].valid[1]})
        rows = skip.counts[1].toarray()[held[0][held[1].valid[1]].numpy()]
        prior = strength + discount * (rows > 0).sum(axis=1, keepdims=True)
        totals = rows.sum(axis=1, keepdims=True) + strength
        seen = np.maximum(rows - discount, 0)
        expected = np.log((seen + prior * skip.unigram.probs[1]) / totals)
        np.testing.assert_allclose(logits.numpy(), expected, rtol=0, atol=1e-5)


def test_predicting_takes_one_dense_array_of_single_precision() -> None:
    train = random_part(0, 50, size=51)
    _, skip = ngram.fit(train, train, vocab_size=20_000)
    tracemalloc.start()
    try:
        [(_, logits)] = skip.predict(Seen(train[0], {}), {1: train[1].valid[1]})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert logits.nbytes == 200 * 20_000 * 4
    assert logits.nbytes <= peak < 1.1 * logits.nbytes


def test_counts_are_those_of_a_plain_loop() -> None:
    train = random_part(0, 6, horizon=3)
    _, skip = ngram.fit(train, train, vocab_size=6)
    for offset in (1, 2, 3):
        expected = Counter(
            (row[t], row[t + offset]) for row in train[0].tolist() for t in range(20 - offset)
        )
        dense = skip.counts[offset].toarray()
        assert {(i, j): dense[i, j] for i, j in np.argwhere(dense).tolist()} == expected


def test_a_period_is_found_at_its_offset() -> None:
    # x[t + 3] = x[t]; what lies one and two ahead is random.
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(8, (40, 3), generator=draw).repeat(1, 5).tolist()
    train, held = part(rows[:30], horizon=3), part(rows[30:], horizon=3)
    unigram, skip = ngram.fit(train, held, vocab_size=8)
    assert nats_of(skip, held, 3) < 0.05
    assert nats_of(unigram, held, 3) > 1.8
    assert nats_of(skip, held, 1) > 1.7
    assert skip.smoothing[3].strength < skip.smoothing[1].strength


def test_noise_tells_nothing() -> None:
    train, held, test = (random_part(seed, 10, size=50) for seed in range(3))
    unigram, skip = ngram.fit(train, held, vocab_size=10)
    assert skip.smoothing[1].strength >= 100
    assert nats_of(skip, test, 1) == pytest.approx(nats_of(unigram, test, 1), abs=0.03)


def test_the_strength_is_the_one_that_validation_likes_best() -> None:
    draw = torch.Generator().manual_seed(4)
    chain = [0]
    for step in torch.multinomial(torch.tensor([0.6, 0.2, 0.1, 0.1]), 299, True, generator=draw):
        chain.append((chain[-1] + int(step)) % 12)
    train, held = part([chain[:150]]), part([chain[150:]])
    _, skip = ngram.fit(train, held, vocab_size=12)
    scores = {
        how: nats_of(SkipBigram(skip.counts, {1: how}, skip.unigram), held, 1)
        for how in (Smoothing(d, s) for d in ngram.DISCOUNTS for s in ngram.STRENGTHS)
    }
    assert skip.smoothing[1] == min(scores, key=lambda how: scores[how])
    assert ngram.STRENGTHS[0] < skip.smoothing[1].strength < ngram.STRENGTHS[-1]


def zipf(seed: int, vocabulary: int, size: int) -> ngram.TokensAndTargets:
    """Return a text of words whose share falls with their rank, as in language."""
    draw = np.random.default_rng(seed)
    shares = 1 / np.arange(1, vocabulary + 1)
    words = draw.choice(vocabulary, size=(8, size), p=shares / shares.sum())
    return part(words.tolist())


def test_a_token_that_training_never_saw_costs_what_such_tokens_are_worth() -> None:
    train, held, test = zipf(0, 2000, 500), zipf(1, 2000, 500), zipf(2, 2000, 500)
    unigram, _ = ngram.fit(train, held, vocab_size=2000)
    seen = set(train[1].ids[1][train[1].valid[1]].tolist())
    targets = test[1].ids[1][test[1].valid[1]]
    unseen = torch.tensor([int(token) not in seen for token in targets])
    # Their share of held-out text, over how many of them there are: about 1e-4 each.
    probs = probs_of(unigram, test, 1)[0]
    given = float(probs[[token for token in range(2000) if token not in seen]].sum())
    assert given == pytest.approx(float(unseen.double().mean()), rel=0.3)
    exact = 1 / np.arange(1, 2001)
    best = -float(np.log(exact / exact.sum())[targets.numpy()].mean())
    assert nats_of(unigram, test, 1) == pytest.approx(best, abs=0.15)


def test_with_a_weak_prior_it_is_interpolated_absolute_discounting() -> None:
    """Interpolated absolute discounting, by a plain loop over pairs."""
    train, held = zipf(0, 60, 60), zipf(1, 60, 60)
    _, skip = ngram.fit(train, held, vocab_size=60)
    discount, strength = 0.75, 1e-9
    readout = SkipBigram(skip.counts, {1: Smoothing(discount, strength)}, skip.unigram)
    pairs = Counter(zip(*(x.tolist() for x in _pairs(train)), strict=True))
    followers: dict[int, dict[int, int]] = {}
    for (context, target), count in pairs.items():
        followers.setdefault(context, {})[target] = count
    contexts, targets = _pairs(held)
    expected = []
    for context, target in zip(contexts.tolist(), targets.tolist(), strict=True):
        after = followers.get(context, {})
        total, lower = sum(after.values()), skip.unigram.probs[1][target]
        if total:
            kept = max(after.get(target, 0) - discount, 0) / total
            expected.append(kept + discount * len(after) / total * lower)
        else:
            expected.append(lower)
    predicted = probs_of(readout, held, 1).gather(1, targets[:, None])[:, 0]
    np.testing.assert_allclose(predicted.numpy(), expected, rtol=1e-4)


def _pairs(of: ngram.TokensAndTargets) -> tuple[Tensor, Tensor]:
    valid = of[1].valid[1]
    return of[0][valid], of[1].ids[1][valid]


def test_what_lies_in_no_valid_position_is_not_counted() -> None:
    ids, targets = part([[0, 1, 0, 1], [2, 2, 2, 2]])
    first = torch.tensor([[True] * 4, [False] * 4])
    _, skip = ngram.fit((ids, targets.at(first)), (ids, targets), vocab_size=3)
    assert skip.counts[1].toarray().tolist() == [[0, 2, 0], [1, 0, 0], [0, 0, 0]]


def test_floors_read_no_layer() -> None:
    for readout in ngram.fit(part([[0, 1]]), part([[0, 1]]), vocab_size=2):
        assert readout.layers == frozenset()


def test_nothing_to_count_is_an_error() -> None:
    ids, targets = part([[0, 1, 2]], horizon=2)
    nothing = ids, targets.at(torch.zeros(1, 3, dtype=torch.bool))
    with pytest.raises(DataError, match="no pair of tokens 1 apart to count"):
        ngram.fit(nothing, (ids, targets), vocab_size=3)
    with pytest.raises(DataError, match="no pair of tokens 1 apart to count"):
        ngram.fit((ids, targets), nothing, vocab_size=3)
