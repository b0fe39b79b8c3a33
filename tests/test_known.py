"""Known answers: models that are exact, and instruments that must find what was planted."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaForCausalLM

from probekit import known, linear, ngram, specialization, written
from probekit.anatomy import Anatomy, find
from probekit.branches import BranchEngine
from probekit.capture import stream
from probekit.errors import DataError, SettingsError
from probekit.marginal import Marginalization, marginalize
from probekit.markov import MarkovChain
from probekit.paths import Truncation
from probekit.planted import Planted
from probekit.readout import Readout, Seen
from probekit.score import score
from probekit.tally import Tally
from probekit.targets import Targets, draw_positions, text_targets
from probekit.tokens import Blocks

LENGTH = 32
EVERYTHING = Truncation(nucleus=1.0, max_branches=125)
ROUNDING = 1e-6


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chain(n_tokens: int, order: int, seed: int = 0, zeros: bool = True) -> MarkovChain:
    """Return a random chain, sharp as language is, in which some tokens cannot follow others."""
    shape = (n_tokens,) * (order + 1)
    weights = torch.rand(shape, generator=seeded(seed), dtype=torch.float64).pow(3) + 0.01
    if zeros:
        weights[..., 0][weights[..., 0] < 0.1] = 0
    return MarkovChain(weights / weights.sum(dim=-1, keepdim=True))


def log_probs(model: LlamaForCausalLM, token_ids: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(token_ids, use_cache=False).logits
    return logits.log_softmax(-1)


def ahead(of: MarkovChain, offset: int) -> Tensor:
    """Return P(x_{t+k} given the state), summed path by path from the definition."""
    table = of.transition
    for _ in range(offset - 1):
        if of.order == 1:
            table = torch.einsum("ab,bc->ac", of.transition, table)
        else:
            table = torch.einsum("abc,bcd->abd", of.transition, table)
    return table.flatten(0, -2)


# Markov chains


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
    embedded = model.get_input_embeddings()(torch.arange(written.LONGEST)[None] % 8)
    normed = block.input_layernorm(embedded)
    torch.testing.assert_close(normed, embedded, rtol=0, atol=0)
    angles = torch.arange(written.LONGEST).double()[:, None] * model.model.rotary_emb.inv_freq
    turn = torch.polar(torch.ones_like(angles), angles)
    sides = []
    for projection in (block.self_attn.q_proj, block.self_attn.k_proj):
        real, imaginary = projection(normed)[0].double().chunk(2, dim=1)
        sides.append(torch.complex(real, imaginary) * turn)
    scores = (sides[0] @ sides[1].conj().T).real * block.self_attn.scaling
    at = torch.arange(1, written.LONGEST)
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


# Marginalization


def marginals(
    text: MarkovChain, token_ids: Tensor, offsets: range, truncation: Truncation
) -> Mapping[int, tuple[Tensor, Tensor, Tensor]]:
    """Return by offset probabilities, retained mass and bound of every position of one block."""
    engine = BranchEngine(text.model())
    assert engine.route == "packed"
    readout = Marginalization(engine, truncation)
    valid = {k: torch.ones(1, len(token_ids), dtype=torch.bool) for k in offsets}
    found = dict(readout.predict(Seen(token_ids[None], {}), valid))
    assert readout.check is not None
    assert "packed differs" in readout.check.message
    result = {}
    for cell, logits in found.items():
        rows = [row for row in readout.records if row.offset == cell.offset]
        mass = torch.tensor([row.retained_mass for row in rows], dtype=torch.float64)
        bound = torch.tensor([row.tv_bound for row in rows], dtype=torch.float64)
        result[cell.offset] = logits.double().exp(), mass, bound
    return result


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
        one = marginalize(text.model(), token_ids[0], 9, offset, EVERYTHING)
        torch.testing.assert_close(one.probs.double().log(), expected[9], rtol=0, atol=1e-5)
        assert one.branches == n_tokens ** (offset - 1)


@settings(max_examples=6, deadline=None)
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
    found = marginalize(model, token_ids, 3, 2, Truncation(nucleus=0.5))
    assert found.branches == 1
    exact = torch.tensor([0, 0, 0, 0.6, 0.4])
    distance = float((found.probs - exact).abs().sum() / 2)
    assert found.tv_bound == pytest.approx(0.4, abs=ROUNDING)
    assert distance == pytest.approx(0.4, abs=ROUNDING)
    torch.testing.assert_close(found.lower[3], exact[3], rtol=0, atol=ROUNDING)
    torch.testing.assert_close(found.upper[4], exact[4], rtol=0, atol=ROUNDING)


class World:
    """A text with a known answer, its model, and blocks of it in three splits."""

    def __init__(self, text: MarkovChain | Planted, horizon: int, sizes: Mapping[str, int]) -> None:
        self.text, self.horizon, self.model = text, horizon, text.model()
        self.head: Anatomy = find(self.model)
        self.layers = list(range(self.head.n_layers + 1))
        self.parts: dict[str, Blocks] = {}
        self.n_documents = 0
        for seed, (name, n) in enumerate(sizes.items()):
            self.parts[name] = known.blocks(text, n, LENGTH, seeded(seed), self.n_documents)
            self.n_documents += n
        self.targets = {name: text_targets(part, horizon) for name, part in self.parts.items()}

    def batches(self, split: str) -> list[Seen]:
        ids = self.parts[split].token_ids
        return list(stream(self.model, self.head, ids, self.layers, batch_size=len(ids)))

    def fitted(self, targets: Mapping[str, Targets], layers: list[int]) -> Readout:
        train, validation = ((self.batches(s), targets[s]) for s in ("train", "validation"))
        return linear.fit(train, validation, self.head, layers)

    def floors(self) -> tuple[Readout, Readout]:
        parts = [(self.parts[s].token_ids, self.targets[s]) for s in ("train", "validation")]
        return ngram.fit(parts[0], parts[1], self.model.config.vocab_size)

    def ceiling(self) -> Readout:
        everything = Truncation(nucleus=1.0, max_branches=216)
        return Marginalization(BranchEngine(self.model), everything)

    def positions(self, split: str, per_document: int | None = None) -> Tensor:
        """Return some positions of each document, or all."""
        part = self.parts[split]
        if per_document is None:
            return torch.ones_like(part.token_ids, dtype=torch.bool)
        count = per_document * len(part.token_ids)
        return draw_positions(part, ["one"] * self.n_documents, self.horizon, count, seed=0)

    def scored(
        self,
        readouts: Sequence[Readout],
        split: str,
        positions: Mapping[str, Tensor],
        targets: Targets | None = None,
    ) -> pd.DataFrame:
        wanted = self.targets[split] if targets is None else targets
        documents = self.parts[split].documents
        table = score(readouts, self.batches(split), wanted, positions, documents)
        return table.assign(split=split, seed=0)

    def tally(self, *tables: pd.DataFrame) -> Tally:
        return Tally(
            pd.concat(tables, ignore_index=True),
            ["one"] * self.n_documents,
            [1.0] * self.n_documents,
        )


@pytest.mark.parametrize(("n_tokens", "order"), [(6, 1), (3, 2)])
def test_scores_hold_the_exact_cross_entropy_in_their_interval(n_tokens: int, order: int) -> None:
    text = chain(n_tokens, order, zeros=False)
    world = World(text, 4, {"train": 200, "validation": 60, "test": 80})
    probes = world.fitted(world.targets, world.layers)
    some = {"marginal": world.positions("test", per_document=4)}
    table = world.scored([world.ceiling(), *world.floors(), probes], "test", some)
    rates = world.tally(table).rates("one", "test", "marginal")
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


# The planted signal


@cache
def triples(text: Planted) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
    """Return all triples, their next-triple matrix and P(x_{t+k} given x_{t-2} … x_t)."""
    n = text.n_tokens
    rows = torch.tensor(list(product(range(n), repeat=3)))
    emission = torch.full((n**3, n), text.noise / n, dtype=torch.float64)
    emission[torch.arange(n**3), (rows[:, 0] + rows[:, 1]) % n] += 1 - text.noise
    step = torch.zeros(n**3, n**3, dtype=torch.float64)
    for index, (_, b, c) in enumerate(rows.tolist()):
        for token in range(n):
            step[index, (b * n + c) * n + token] = emission[index, token]
    found, power = {}, torch.eye(n**3, dtype=torch.float64)
    for offset in range(1, text.longest_offset + 1):
        found[offset], power = power @ emission, power @ step
    return rows, step, found


SMALL = [Planted(2, 0.3), Planted(3, 0.1), Planted(4, 0.4, 4, 1, 3), Planted(6, 0.2, 3, 2, 3)]


@pytest.mark.parametrize("text", SMALL)
def test_the_planted_closed_forms_are_those_of_all_triples(text: Planted) -> None:
    rows, step, ahead_of = triples(text)
    uniform = torch.full((len(rows),), 1 / len(rows), dtype=torch.float64)
    torch.testing.assert_close(uniform @ step, uniform)  # so every triple is as likely
    model = text.model()
    layers = range(text.n_layers + 1)
    (seen,) = stream(model, find(model), rows, layers, batch_size=len(rows))
    for offset, probs in ahead_of.items():
        ceiling = torch.special.entr(probs).sum(dim=1).mean()
        assert text.ceiling_nats(offset) == pytest.approx(float(ceiling))
        for layer in layers:
            symbols = seen.resid[layer][:, 2].double()  # zeros and ones
            # P(x_{t+k}) where a coordinate is one. A linear readout gains from a coordinate
            # if and only if this is not uniform: the gradient of the constant readout.
            each = (symbols.T @ probs)[symbols.sum(dim=0) > 0]
            each /= each.sum(dim=1, keepdim=True)
            told = (each - 1 / text.n_tokens).abs().amax(dim=1) > 1e-9
            nats = torch.special.entr(each).sum(dim=1).min()
            assert text.nats(layer, offset) == pytest.approx(float(nats)), (layer, offset)
            assert text.top1(layer, offset) == pytest.approx(float(each.max()))
            assert int(told.sum()) == (text.n_tokens if layer in gains(text, offset) else 0)
            if told.any():  # nothing beyond the symbol that tells: it says all that can be known
                assert float(nats) == pytest.approx(float(ceiling))


def gains(text: Planted, offset: int) -> list[int]:
    layers = range(text.n_layers + 1)
    return [at for at in layers if text.nats(at, offset) < math.log(text.n_tokens)]


def test_the_default_signal_is_held_at_one_layer_and_forgotten() -> None:
    text = Planted()
    assert gains(text, 1) == [4, 5, 6] == list(text.best_layers(1))
    assert gains(text, 2) == [3] == list(text.best_layers(2))
    assert gains(text, 3) == []
    assert text.best_layers(3) == range(7)
    hit = 0.8 + 0.2 / 8
    nats = -hit * math.log(hit) - (1 - hit) * math.log(0.2 / 8)
    assert text.forgotten_bits(2) == pytest.approx((math.log(8) - nats) / math.log(2))
    assert text.forgotten_bits(1) == text.forgotten_bits(3) == 0
    assert text.top1(3, 2) == pytest.approx(hit)


@pytest.mark.parametrize(("planted", "erased"), [(3, 4), (1, 5), (2, 6)])
def test_the_signal_is_written_and_erased_exactly(planted: int, erased: int) -> None:
    text = Planted(planted_layer=planted, erased_layer=erased)
    model, token_ids = text.model(), text.sample(4, LENGTH, seeded(7))
    (seen,) = stream(model, find(model), token_ids, range(7), batch_size=4)
    _, previous, total, output = written.planted_slots(8)
    before = token_ids.roll(1, dims=1)
    summed = torch.nn.functional.one_hot((token_ids + before) % 8, 8).float()
    moved = summed.roll(1, dims=1)
    for layer, resid in seen.resid.items():
        scored = resid[:, text.unscored :]
        for slot, symbols, held in (
            (previous, torch.nn.functional.one_hot(before, 8).float(), layer >= 1),
            (total, summed, planted <= layer < erased),
            (output, moved, layer >= erased),
        ):
            wanted = symbols[:, text.unscored :] * held
            torch.testing.assert_close(scored[..., slot.symbols], wanted, rtol=0, atol=1e-4)
            empty = torch.full_like(scored[..., 0], float(not held))
            torch.testing.assert_close(scored[..., slot.nothing], empty, rtol=0, atol=1e-4)
        assert (resid.square().sum(dim=-1) == 4).all()


def test_the_planted_model_predicts_its_own_text_exactly() -> None:
    text = Planted(n_tokens=5)
    token_ids = text.sample(2, 256, seeded(8))
    found = log_probs(text.model(), token_ids)[:, text.unscored :]
    total = (token_ids[:, 1:-1] + token_ids[:, :-2]) % 5  # x_{t-1} + x_{t-2} at t = 2 …
    expected = torch.full_like(found, 0.2 / 5).scatter_(-1, total[..., None], 0.8 + 0.2 / 5)
    torch.testing.assert_close(found, expected.log(), rtol=0, atol=1e-5)


def test_planted_text_follows_its_rule() -> None:
    text = Planted()
    token_ids = text.sample(2_000, 40, seeded(9))
    summed = (token_ids[:, 1:-2] + token_ids[:, :-3]) % 8 == token_ids[:, 3:]
    assert float(summed.float().mean()) == pytest.approx(text.top1(3, 2), abs=0.005)
    assert token_ids.unique().tolist() == list(range(8))


def test_what_cannot_be_planted_is_refused() -> None:
    with pytest.raises(SettingsError, match="1 <= planted < erased <= 6"):
        Planted(planted_layer=4, erased_layer=4)
    with pytest.raises(SettingsError, match="1 <= planted < erased <= 2"):
        written.planted(torch.eye(4), 2, 1, 3)
    with pytest.raises(SettingsError, match=r"noise in \(0, 1\), got 8 and 0.0"):
        Planted(noise=0.0)
    with pytest.raises(SettingsError, match=r"offset in 1\.\.5, got 3 and 6"):
        Planted().nats(3, 6)


TEXT = Planted()
HORIZON = 3


@pytest.fixture(scope="module")
def world() -> World:
    return World(TEXT, HORIZON, {"train": 160, "validation": 40, "test": 60})


def test_the_instrument_finds_the_planted_signal_and_nothing_else(world: World) -> None:
    readouts = [world.fitted(world.targets, world.layers), *world.floors()]
    whole = {split: {"all": world.positions(split)} for split in ("validation", "test")}
    some = {"marginal": world.positions("test", per_document=4)}
    tally = world.tally(
        world.scored(readouts, "validation", whole["validation"]),
        world.scored(readouts, "test", whole["test"] | some),
        world.scored([world.ceiling()], "test", some),
    )
    next_token, signal, beyond = specialization.find(tally, TEXT.n_layers, HORIZON).rows

    assert next_token["best_layer"] in TEXT.best_layers(1)
    assert next_token["forgotten_bits"] == pytest.approx(TEXT.forgotten_bits(1), abs=0.02)
    exact = TEXT.forgotten_bits(2)
    assert [signal["best_layer"]] == list(TEXT.best_layers(2))
    assert signal["forgotten_bits"] == pytest.approx(exact, rel=0.1)
    assert 0.9 * exact < signal["forgotten_bits_low"] < exact < signal["forgotten_bits_high"]
    assert signal["forgotten_bits_high"] < 1.1 * exact
    assert signal["recovered"] == pytest.approx(1, abs=0.1)
    assert signal["verdict"].startswith("layer 3 knows more than the last")
    # The ceiling knows of t + 3; no linear readout of any layer does.
    assert beyond["recovered"] == pytest.approx(0, abs=0.1)
    assert beyond["forgotten_bits"] == pytest.approx(TEXT.forgotten_bits(3), abs=0.03)
    rates = tally.rates("one", "test", "marginal")
    for offset in (2, 3):
        _, low, high = rates.summary(rates.nats("marginal", None, offset))
        assert low <= TEXT.ceiling_nats(offset) <= high
    rates = tally.rates("one", "test", "all")
    for layer in world.layers:
        for offset in range(1, HORIZON + 1):
            nats = rates.nats("linear", layer, offset)[0]
            top1 = rates.rate("top1", "linear", layer, offset)[0]
            assert nats == pytest.approx(TEXT.nats(layer, offset), abs=0.06), (layer, offset)
            assert top1 == pytest.approx(TEXT.top1(layer, offset), abs=0.04), (layer, offset)


def test_shuffled_targets_tell_a_probe_nothing(world: World) -> None:
    shuffled = {}
    for seed, (split, targets) in enumerate(world.targets.items()):
        ids = {}
        for offset, valid in targets.valid.items():
            drawn = targets.ids[offset][valid]
            order = torch.randperm(len(drawn), generator=seeded(seed))
            ids[offset] = targets.ids[offset].masked_scatter(valid, drawn[order])
        shuffled[split] = Targets("shuffled", ids, targets.valid)
    layer = TEXT.planted_layer
    probes = world.fitted(shuffled, [layer])
    # Shuffling leaves the counts of targets, and so the unigram, as they are.
    readouts = [probes, world.floors()[0]]
    whole = {"all": world.positions("test")}
    table = world.scored(readouts, "test", whole, shuffled["test"])
    rates = world.tally(table).rates("one", "test", "all")
    for offset in range(1, HORIZON + 1):
        gain = rates.nats("unigram", None, offset) - rates.nats("linear", layer, offset)
        assert rates.summary(gain)[1] <= 0
        assert gain[0] < 0.01
