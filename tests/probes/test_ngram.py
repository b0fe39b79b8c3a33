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
from probekit.probes.ngram import SkipBigram, Unigram
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
    unigram, skip = ngram.fit(train, train, vocab_size=4)
    expected = torch.tensor([2.25, 2.25, 1.25, 0.25]) / 6
    torch.testing.assert_close(probs_of(unigram, train, 1)[0], expected)
    assert skip.counts[1].toarray().tolist() == [[0, 2, 1, 0], [2, 0, 0, 0], [0] * 4, [0] * 4]
    strength = skip.strengths[1]
    after_zero = (torch.tensor([0.0, 2, 1, 0]) + strength * expected) / (3 + strength)
    after_one = (torch.tensor([2.0, 0, 0, 0]) + strength * expected) / (2 + strength)
    found = probs_of(skip, train, 1)
    torch.testing.assert_close(found[0], after_zero)
    torch.testing.assert_close(found[1], after_one)


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
    for strength in (ngram.STRENGTHS[0], ngram.STRENGTHS[-1]):
        readout = SkipBigram(skip.counts, {1: strength}, skip.unigram)
        [(_, logits)] = readout.predict(Seen(held[0], {}), {1: held[1].valid[1]})
        rows = skip.counts[1].toarray()[held[0][held[1].valid[1]].numpy()]
        totals = rows.sum(axis=1, keepdims=True) + strength
        expected = np.log((rows + strength * skip.unigram.probs[1]) / totals)
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
    assert skip.strengths[3] < skip.strengths[1]


def test_noise_tells_nothing() -> None:
    train, held, test = (random_part(seed, 10, size=50) for seed in range(3))
    unigram, skip = ngram.fit(train, held, vocab_size=10)
    assert skip.strengths[1] >= 100
    assert nats_of(skip, test, 1) == pytest.approx(nats_of(unigram, test, 1), abs=0.03)


def test_the_strength_is_the_one_that_validation_likes_best() -> None:
    draw = torch.Generator().manual_seed(4)
    chain = [0]
    for step in torch.multinomial(torch.tensor([0.6, 0.2, 0.1, 0.1]), 299, True, generator=draw):
        chain.append((chain[-1] + int(step)) % 12)
    train, held = part([chain[:150]]), part([chain[150:]])
    _, skip = ngram.fit(train, held, vocab_size=12)
    scores = {
        strength: nats_of(SkipBigram(skip.counts, {1: strength}, skip.unigram), held, 1)
        for strength in ngram.STRENGTHS
    }
    assert skip.strengths[1] == min(scores, key=lambda strength: scores[strength])
    assert ngram.STRENGTHS[0] < skip.strengths[1] < ngram.STRENGTHS[-1]


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
