"""Cross-entropy, its gradient, top-k, divergence and the bootstrap."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional

from probekit.errors import DataError
from probekit.scoring import intervals, losses


def problem(n: int = 23, vocab: int = 11, hidden: int = 5) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(n, hidden, generator=generator),
        torch.randn(vocab, hidden, generator=generator),
        torch.randn(vocab, generator=generator),
        torch.randint(vocab, (n,), generator=generator),
    )


def test_cross_entropy_of_two_tokens_is_as_by_hand() -> None:
    # Logits (log 3, 0): probabilities 3/4 and 1/4.
    found = losses.cross_entropy(
        torch.tensor([[math.log(3)]]),
        torch.tensor([[1.0], [0.0]]),
        torch.zeros(2),
        torch.tensor([1]),
    )
    assert found.nats == pytest.approx(math.log(4), abs=1e-6)
    torch.testing.assert_close(found.hidden, torch.tensor([[0.75]]))
    torch.testing.assert_close(found.bias, torch.tensor([0.75, -0.75]))


@pytest.mark.parametrize("chunk", [1, 40, 2**20])
def test_value_and_gradient_are_those_of_autograd_whatever_the_chunk(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_CPU", chunk)
    monkeypatch.setattr(losses, "USUAL_ROWS", 1)
    hidden, unembedding, bias, targets = problem()
    exact, shift = hidden.double().requires_grad_(), bias.double().requires_grad_()
    loss = functional.cross_entropy(
        exact @ unembedding.double().T + shift, targets, reduction="sum"
    )
    loss.backward()
    found = losses.cross_entropy(hidden, unembedding, bias, targets)
    assert found.nats == pytest.approx(loss.item(), rel=1e-6)
    assert exact.grad is not None
    assert shift.grad is not None
    torch.testing.assert_close(found.hidden.double(), exact.grad, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.bias.double(), shift.grad, atol=1e-5, rtol=1e-5)
    alone = losses.summed_nats(hidden, unembedding, bias, targets)
    assert alone == pytest.approx(found.nats, rel=1e-6)


def test_without_an_unembedding_the_hidden_vectors_are_the_logits() -> None:
    hidden, unembedding, bias, targets = problem()
    logits = hidden @ unembedding.T
    before = logits.clone()
    expected = losses.cross_entropy(hidden, unembedding, bias, targets)
    found = losses.cross_entropy(logits, None, bias, targets)
    assert found.nats == pytest.approx(expected.nats, rel=1e-6)
    torch.testing.assert_close(found.hidden @ unembedding, expected.hidden)
    torch.testing.assert_close(found.bias, expected.bias)
    assert losses.summed_nats(logits, None, bias, targets) == pytest.approx(found.nats, rel=1e-6)
    assert torch.equal(logits, before)


def test_bfloat16_products_keep_softmax_and_sums_in_float32() -> None:
    hidden, unembedding, bias, targets = problem(n=400)
    exact = losses.cross_entropy(hidden, unembedding, bias, targets)
    found = losses.cross_entropy(hidden, unembedding.bfloat16(), bias, targets)
    assert found.nats == pytest.approx(exact.nats, rel=1e-3)
    assert found.hidden.dtype == found.bias.dtype == torch.float32
    # A sum that rounded to bfloat16 would be off by up to 2 in 1000.
    assert found.nats == losses.summed_nats(hidden, unembedding.bfloat16(), bias, targets)


def test_a_probability_of_zero_costs_much_but_not_infinitely_much() -> None:
    hidden, unembedding = torch.tensor([[1.0]]), torch.tensor([[500.0], [0.0]])
    found = losses.cross_entropy(hidden, unembedding, torch.zeros(2), torch.tensor([1]))
    assert found.nats == pytest.approx(-math.log(torch.finfo(torch.float32).tiny), rel=1e-6)


@pytest.mark.parametrize("vocab", [5, 8, 50])
def test_top_k_gives_a_constant_readout_its_share_and_no_more(vocab: int) -> None:
    found = losses.losses(torch.full((3, vocab), 2.5), torch.tensor([0, 1, 4]))
    torch.testing.assert_close(found.top1, torch.full((3,), 1 / vocab))
    torch.testing.assert_close(found.top5, torch.full((3,), 5 / vocab))
    torch.testing.assert_close(found.nats, torch.full((3,), math.log(vocab)))


def test_a_tie_at_the_fifth_place_counts_half() -> None:
    logits = torch.tensor([[9.0, 8.0, 7.0, 6.0, 5.0, 5.0, 1.0]]).repeat(3, 1)
    found = losses.losses(logits, torch.tensor([3, 5, 6]))
    assert found.top5.tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize("chunk", [1, 2**20])
def test_without_ties_top_k_is_that_of_torch(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_CPU", chunk)
    logits = torch.randn(200, 30, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(200) % 30
    found = losses.losses(logits, targets)
    for hits, k in ((found.top1, 1), (found.top5, 5)):
        expected = (logits.topk(k).indices == targets[:, None]).any(dim=1)
        assert torch.equal(hits, expected.float())
    expected = functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(found.nats, expected)


def test_bfloat16_logits_are_cast_up() -> None:
    logits = torch.randn(50, 20, generator=torch.Generator().manual_seed(2)).bfloat16()
    targets = torch.arange(50) % 20
    found, expected = losses.losses(logits, targets), losses.losses(logits.float(), targets)
    assert found.nats.dtype == torch.float32
    assert torch.equal(found.nats, expected.nats)
    assert torch.equal(found.top5, expected.top5)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.1, 20), st.integers(2, 40))
def test_a_divergence_is_never_negative_and_zero_from_itself(
    seed: int, scale: float, vocab: int
) -> None:
    p, q = scale * torch.randn(2, 6, vocab, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(losses.divergence(p, p), torch.zeros(6))
    assert (losses.divergence(p, q) >= -1e-6).all()
    shifted = losses.divergence(p + 3, q - 2)
    torch.testing.assert_close(shifted, losses.divergence(p, q), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunk", [1, 2**20])
def test_a_divergence_is_that_of_torch(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_CPU", chunk)
    p, q = torch.randn(2, 9, 13, generator=torch.Generator().manual_seed(3))
    # torch names the arguments the other way round: kl_div(log q, log p) is KL(p || q).
    expected = functional.kl_div(
        q.log_softmax(1), p.log_softmax(1), reduction="none", log_target=True
    ).sum(dim=1)
    torch.testing.assert_close(losses.divergence(p, q), expected)
    fair, loaded = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    by_hand = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert float(losses.divergence(fair, loaded)) == pytest.approx(by_hand, abs=1e-6)


@settings(max_examples=20)
@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 1000))
def test_each_resample_draws_as_many_documents_as_there_are(n: int, times: int, seed: int) -> None:
    weights = intervals.document_bootstrap(n, times, seed)
    assert weights.shape == (times, n)
    assert (weights.sum(axis=1) == n).all()
    assert (weights >= 0).all()
    np.testing.assert_array_equal(weights, intervals.document_bootstrap(n, times, seed))


def test_the_bootstrap_spreads_as_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=400)
    means = intervals.document_bootstrap(400, 2000, seed=1) @ values / 400
    assert means.std() == pytest.approx(values.std() / 20, rel=0.06)
    low, high = intervals.interval(means, documents=400.0)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_an_interval_leaves_out_resamples_without_data() -> None:
    with_a_gap = np.array([np.nan, *np.arange(101.0)])
    assert intervals.interval(with_a_gap, 1e9, level=0.9) == pytest.approx((5.0, 95.0))


@pytest.mark.parametrize("n", [5, 10, 50])
def test_of_normal_resamples_the_interval_is_that_of_student(n: int) -> None:
    # Means of resamples spread by the standard deviation with divisor n, over sqrt(n).
    spread = math.sqrt((n - 1) / n) / math.sqrt(n)
    means = stats.norm.ppf((np.arange(10**6) + 0.5) / 10**6) * spread
    low, high = intervals.interval(means, float(n))
    expected = stats.t.interval(0.95, n - 1, scale=1 / math.sqrt(n))
    assert (low, high) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("documents", [1.0, 1.0001, 1.5])
def test_hardly_more_than_one_document_gives_the_range_of_all_resamples(documents: float) -> None:
    assert intervals.interval(np.array([3.0, 1.0, 2.0]), documents) == (1.0, 3.0)


def test_documents_of_one_size_count_in_full_and_uneven_ones_for_less() -> None:
    sizes = np.array([[7.0, 9.0, 5.0], [7.0, 1.0, 5.0], [7.0, 1.0, 0.0]])
    found = intervals.effective_documents(sizes)
    assert found.tolist() == pytest.approx([3, 121 / 83, 2])


def test_no_document_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one document, got none"):
        intervals.document_bootstrap(0, 10, seed=0)


def test_bits_are_positive_for_a_readout_below_the_floor() -> None:
    one, two = np.log([2.0]), np.log([4.0])
    assert losses.v_information_bits(two, one).tolist() == [1]
    assert losses.v_information_bits(one, two).tolist() == [-1]


@pytest.mark.parametrize(("hits", "n"), [(0, 64), (3, 64), (32, 64), (64, 64), (1, 5)])
def test_the_interval_of_a_share_is_wilsons(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    ends = [float(end) for end in intervals.wilson(torch.tensor([hits / n]), n)]
    assert ends == pytest.approx([expected.low, expected.high], abs=1e-4)


@pytest.mark.parametrize("n", [60, 100, 540, 900, 1000])
def test_the_interval_of_none_or_all_holds_the_share(n: int) -> None:
    shares = torch.tensor([0.0, 1.0], dtype=torch.float64)
    low, high = intervals.wilson(shares, n)
    assert bool((low <= shares).all())
    assert bool((high >= shares).all())
