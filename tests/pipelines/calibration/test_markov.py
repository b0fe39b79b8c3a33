"""Markov chains written into a model, and what marginalization makes of them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.errors import DataError, SettingsError
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginalize import marginalize
from probekit.pipelines.calibration import llama_weights
from probekit.pipelines.calibration.markov import MarkovChain
from probekit.pipelines.calibration.planted_signal import Planted
from support.worlds import (
    EVERYTHING,
    LENGTH,
    ROUNDING,
    World,
    ahead,
    chain,
    log_probs,
    marginals,
    seeded,
)


@pytest.mark.parametrize(("n_tokens", "order", "length"), [(5, 1, 32), (3, 2, 32), (8, 2, 256)])
def test_a_written_chain_predicts_its_transition_at_every_position(
    n_tokens: int, order: int, length: int
) -> None:
    text = chain(n_tokens, order)
    token_ids = torch.randint(n_tokens, (3, length), generator=seeded(1))
    found = log_probs(text.model(), token_ids).double()
    before = torch.cat([token_ids[:, :1], token_ids[:, :-1]], dim=1)  # x_{-1} = x_0
    history = (token_ids,) if order == 1 else (before, token_ids)
    expected = text.transition[history]
    possible = expected > 0
    assert not possible.all()
    torch.testing.assert_close(found[possible], expected[possible].log(), rtol=0, atol=1e-5)
    assert found[~possible].max() < -80


def test_a_head_sees_the_previous_position_alone_as_far_as_the_model_reaches() -> None:
    model = Planted().model()
    block = model.model.layers[0]
    embedded = model.get_input_embeddings()(torch.arange(llama_weights.LONGEST)[None] % 8)
    normed = block.input_layernorm(embedded)
    torch.testing.assert_close(normed, embedded, rtol=0, atol=0)
    angles = torch.arange(llama_weights.LONGEST).double()[:, None] * model.model.rotary_emb.inv_freq
    turn = torch.polar(torch.ones_like(angles), angles)
    sides = []
    for projection in (block.self_attn.q_proj, block.self_attn.k_proj):
        real, imaginary = projection(normed)[0].double().chunk(2, dim=1)
        sides.append(torch.complex(real, imaginary) * turn)
    scores = (sides[0] @ sides[1].conj().T).real * block.self_attn.scaling
    at = torch.arange(1, llama_weights.LONGEST)
    peak = scores[at, at - 1]
    scores[at, at - 1] = -torch.inf
    others = scores.tril().masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
    assert (peak - others[1:].max(dim=1).values).min() > 105


def test_a_chain_of_two_states_by_hand() -> None:
    text = MarkovChain(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64))
    assert text.stationary.tolist() == pytest.approx([0.75, 0.25])
    # 0.9² + 0.1 · 0.3 and 0.3 · 0.9 + 0.7 · 0.3.
    assert text.conditional(2)[:, 0].tolist() == pytest.approx([0.84, 0.48])
    exact = text.exact(2)

    def entropy(p: float) -> float:
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    assert exact.nats == pytest.approx(0.75 * entropy(0.84) + 0.25 * entropy(0.48))
    assert exact.unigram_nats == pytest.approx(entropy(0.75))
    assert exact.skip_bigram_nats == pytest.approx(exact.nats)
    assert exact.bits == pytest.approx((entropy(0.75) - exact.nats) / math.log(2))
    assert exact.top1 == pytest.approx(0.75 * 0.84 + 0.25 * 0.52)
    assert exact.top5 == pytest.approx(1)


@pytest.mark.parametrize(("n_tokens", "order"), [(7, 1), (3, 2)])
def test_conditionals_are_sums_over_the_tokens_between(n_tokens: int, order: int) -> None:
    text = chain(n_tokens, order)
    for offset in range(1, 5):
        expected = ahead(text, offset)
        torch.testing.assert_close(text.conditional(offset), expected, rtol=0, atol=1e-12)
        exact, weight = text.exact(offset), text.stationary[:, None]
        surprise = torch.special.entr(expected)
        assert exact.nats == pytest.approx(float((weight * surprise).sum()))
        best = expected.sort(dim=1, descending=True).values
        assert exact.top5 == pytest.approx(float((weight * best[:, :5]).sum()))
    nats = [text.exact(offset).nats for offset in range(1, 9)]
    assert nats == sorted(nats)
    far = text.exact(500)
    assert far.nats == pytest.approx(far.unigram_nats)
    exact = text.exact(1)
    assert exact.nats <= exact.skip_bigram_nats <= exact.unigram_nats
    assert (exact.skip_bigram_nats - exact.nats > 0.01) == (order == 2)


@pytest.mark.parametrize(("n_tokens", "order"), [(4, 1), (3, 2)])
def test_samples_are_stationary_and_follow_the_chain(n_tokens: int, order: int) -> None:
    text = chain(n_tokens, order)
    token_ids = text.sample(20_000, 4, seeded(2))
    probs, states = text.stationary, text.states(token_ids)
    for at in range(text.unscored, 4):
        share = states[:, at].bincount(minlength=len(probs)) / len(token_ids)
        torch.testing.assert_close(share.double(), probs, rtol=0, atol=0.015)
    pairs = states[:, text.unscored] * n_tokens + token_ids[:, text.unscored + 1]
    joint = probs[:, None] * text.emission
    share = pairs.bincount(minlength=joint.numel()) / len(token_ids)
    torch.testing.assert_close(share.double(), joint.flatten(), rtol=0, atol=0.015)
    again = text.sample(20_000, 4, seeded(2))
    assert (token_ids == again).all()


def test_what_is_no_chain_is_refused() -> None:
    with pytest.raises(DataError, match=r"float64 of shape \(token, token\)"):
        MarkovChain(torch.ones(2, 3).double() / 3)
    with pytest.raises(DataError, match="sum to 1 over the last axis"):
        MarkovChain(torch.eye(2).double() * 2)
    with pytest.raises(DataError, match="one stationary distribution, got 2"):
        MarkovChain(torch.eye(2).double())
    with pytest.raises(SettingsError, match="offset must be 1 or more, got 0"):
        chain(3, 1).conditional(0)


def test_building_a_model_leaves_the_random_state_alone() -> None:
    state = torch.random.get_rng_state()
    chain(3, 1).model()
    assert (torch.random.get_rng_state() == state).all()


@pytest.mark.parametrize(("n_tokens", "order", "longest"), [(5, 1, 4), (3, 2, 3)])
def test_marginalization_is_a_power_of_the_chain(n_tokens: int, order: int, longest: int) -> None:
    text = chain(n_tokens, order, zeros=False)
    token_ids = text.sample(1, LENGTH, seeded(3))
    states = text.states(token_ids)[0]
    found = marginals(text, token_ids[0], range(2, longest + 1), EVERYTHING)
    assert list(found) == list(range(2, longest + 1))
    for offset, (probs, mass, bound) in found.items():
        expected = ahead(text, offset)[states].log()
        torch.testing.assert_close(probs.log(), expected, rtol=0, atol=1e-5)
        assert mass.min() > 1 - ROUNDING
        assert bound.max() < ROUNDING
        one = marginalize(text.model(), token_ids[0], offset, position=9, truncation=EVERYTHING)
        torch.testing.assert_close(one.probs.double().log(), expected[9], rtol=0, atol=1e-5)
        assert one.branches == n_tokens ** (offset - 1)


@settings(max_examples=6)
@given(st.integers(0, 10**6), st.sampled_from([1, 2]))
def test_the_certificate_holds_at_every_position_of_every_chain(seed: int, order: int) -> None:
    text = chain(4, order, seed)
    token_ids = text.sample(1, 12, seeded(seed))
    states = text.states(token_ids)[0]
    for nucleus in (0.5, 0.8, 0.95, 0.99):
        truncation = Truncation(nucleus=nucleus, max_branches=64)
        found = marginals(text, token_ids[0], range(2, 4), truncation)
        for offset, (probs, mass, bound) in found.items():
            exact = ahead(text, offset)[states]
            partial = probs * mass[:, None]
            assert (partial - ROUNDING <= exact).all()
            assert (exact <= partial + bound[:, None] + ROUNDING).all()
            distance = (probs - exact).abs().sum(dim=1) / 2
            assert (distance <= bound + ROUNDING).all()
            assert (mass >= nucleus ** (offset - 1) - ROUNDING).all()
            if nucleus == 0.5:  # every row has three tokens or more, of 0.003 at least
                assert bound.min() > 1e-3


def test_the_certificate_is_no_wider_than_it_must_be() -> None:
    # From 0 to 1 or 2; from 1 surely to 3, from 2 surely to 4, and back.
    table = torch.zeros(5, 5, dtype=torch.float64)
    table[[0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 0, 0]] = torch.tensor([0.6, 0.4, 1, 1, 1, 1]).double()
    table[0, 2] = 1 - table[0, 1]
    model, token_ids = MarkovChain(table).model(), torch.tensor([0, 1, 3, 0])
    found = marginalize(model, token_ids, truncation=Truncation(nucleus=0.5))
    assert found.branches == 1
    exact = torch.tensor([0, 0, 0, 0.6, 0.4])
    distance = float((found.probs - exact).abs().sum() / 2)
    assert found.tv_bound == pytest.approx(0.4, abs=ROUNDING)
    assert distance == pytest.approx(0.4, abs=ROUNDING)
    torch.testing.assert_close(found.lower[3], exact[3], rtol=0, atol=ROUNDING)
    torch.testing.assert_close(found.upper[4], exact[4], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("n_tokens", "order"), [(6, 1), (3, 2)])
def test_scores_hold_the_exact_cross_entropy_in_their_interval(n_tokens: int, order: int) -> None:
    text = chain(n_tokens, order, zeros=False)
    world = World(text, 4, {"train": 200, "validation": 60, "test": 80})
    probes = world.fitted(world.targets, world.layers)
    some = {"marginal": world.positions("test", per_document=4)}
    table = world.scored([world.ceiling(), *world.floors(), probes], "test", some)
    rates = world.sums(table).rates("one", "test", "marginal")
    for offset in range(2, 5):
        exact = text.exact(offset)
        expected = {
            ("marginal", None): exact.nats,
            ("unigram", None): exact.unigram_nats,
            ("skip-bigram", None): exact.skip_bigram_nats,
            # The first layer holds the token, the last the token or the pair, one symbol each.
            ("linear", 0): exact.skip_bigram_nats,
            ("linear", 1): exact.nats,
        }
        for (name, layer), nats in expected.items():
            value, low, high = rates.summary(rates.nats(name, layer, offset))
            assert low <= nats <= high, (name, layer, offset)
            assert high - low < 0.35
            assert value == pytest.approx(nats, abs=0.1), (name, layer, offset)
        for metric, share in (("top1", exact.top1), ("top5", exact.top5)):
            _, low, high = rates.summary(rates.rate(metric, "marginal", None, offset))
            assert low - ROUNDING <= share <= high + ROUNDING, (metric, offset)
        excess = rates.nats("linear", 1, offset) - rates.nats("marginal", None, offset)
        assert float(excess[0]) == pytest.approx(0, abs=0.02)
