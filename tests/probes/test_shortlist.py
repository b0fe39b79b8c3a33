"""Shortlists: unbiased partition sums, biases at their minimum, a signal in a large vocabulary."""

from itertools import pairwise
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from probekit.activations.residual_stream import stream
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.probes import linear
from probekit.probes.convex import cell_fit, shortlist
from probekit.probes.probe import Examples, Probe, Probes
from probekit.readout import Seen
from probekit.scoring.systematic import inclusion
from support.planted_parts import pairs, targets_of

VOCABULARY, WIDTH, LENGTH = 20_000, 64, 32


def test_the_partition_sum_over_a_shortlist_is_right_on_average_over_all_draws() -> None:
    masses = torch.tensor([5.0, 1.0, 0.2, 0.7, 0.4, 2.5, 0.3, 0.9, 0.6, 0.05, 0.8, 0.35])
    logits = torch.linspace(-1, 2, len(masses))
    certain = torch.arange(len(masses)) == 2
    # The shortlist changes where the grid passes an end: every draw, times its probability.
    sizes = masses.double().masked_fill(certain, 0)[None]
    steps = inclusion(sizes, 4)[0].cumsum(0) % 1
    ends = sorted({0.0, 1.0, *(1 - steps).tolist()})
    mean, total = torch.zeros(len(masses)), 0.0
    for low, high in pairwise(ends):
        chance = Mock(spec=np.random.Generator, random=lambda at=(low + high) / 2: at)
        found = shortlist.draw(certain, masses, 4, chance)
        assert not found.whole
        assert bool(certain[found.tokens].any())
        of_tokens = torch.zeros(len(masses))
        of_tokens[found.tokens] = found.restricted(logits).exp()
        mean += (high - low) * of_tokens
        total += high - low
        assert torch.equal(found.tokens[found.places[found.tokens]], found.tokens)
        torch.testing.assert_close(
            found.expanded(found.restricted(logits), torch.zeros(len(masses)))[found.tokens],
            logits[found.tokens],
        )
    assert total == pytest.approx(1)
    torch.testing.assert_close(mean, logits.exp(), atol=1e-5, rtol=1e-5)


def test_half_of_the_vocabulary_is_all_of_it() -> None:
    nothing = torch.zeros(10, dtype=torch.bool)
    found = shortlist.draw(nothing, torch.ones(10), 6, np.random.default_rng(0))
    assert found.whole
    assert torch.equal(found.weights, torch.ones(10))
    assert not shortlist.draw(nothing, torch.ones(10), 4, np.random.default_rng(0)).whole


def test_settled_biases_are_at_the_minimum_of_their_own_objective() -> None:
    drift = torch.tensor([0.0, 1.0, -3.0, 0.0, 0.5])
    predicted = torch.tensor([4.0, 1e-12, 0.3, 900.0, 0.0])
    counts = torch.tensor([4.0, 2.0, 0.0, 1.0, 0.0])
    x = shortlist.settled(drift, predicted, counts).double()
    slope = predicted.double() * (x - drift).exp() - counts + x
    torch.testing.assert_close(slope, torch.zeros(5).double(), atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def planted() -> tuple[Anatomy, Examples, Examples, Examples]:
    """Return a random Llama, and texts whose layer 1 holds the token at t + 2."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    anatomy = find_anatomy(model)
    train, validation, test = (
        _part(model, anatomy, n, seed) for n, seed in ((24, 1), (8, 2), (16, 3))
    )
    return anatomy, train, validation, test


def _part(model: PreTrainedModel, anatomy: Anatomy, n_blocks: int, seed: int) -> Examples:
    draw = torch.Generator().manual_seed(seed)
    # As rare as words are: most of the vocabulary never occurs.
    often = 1 / torch.arange(1.0, VOCABULARY + 1)
    ids = torch.multinomial(often, n_blocks * LENGTH, True, generator=draw)
    ids = ids.view(n_blocks, LENGTH)
    rows = anatomy.unembedding.detach()[ids.roll(-2, dims=1)]
    with torch.no_grad():
        batches = [
            Seen(seen.token_ids, dict(seen.resid) | {1: seen.resid[1] + 3 * rows[seen.blocks]},
                 seen.first_block)
            for seen in stream(model, anatomy, ids, (1, 2), batch_size=8)
        ]  # fmt: skip
    return batches, targets_of(ids)


def held_out(found: Probes, part: Examples, offset: int) -> float:
    z, wanted = pairs(part, 1, offset)
    tensors = found.probes[1, offset].tensors
    hidden = found.anatomy.hidden(z) @ tensors["A"].T + tensors["b"]
    logits: Tensor = hidden @ found.anatomy.unembedding.T + tensors["c"]
    return float(nn.functional.cross_entropy(logits, wanted))


@torch.no_grad()
def test_a_signal_in_a_large_vocabulary_is_found_as_by_the_full_fit(
    planted: tuple[Anatomy, Examples, Examples, Examples], monkeypatch: pytest.MonkeyPatch
) -> None:
    anatomy, train, validation, test = planted
    sizes: list[int] = []
    restricted = cell_fit.CellFit.probe

    def probe(fit: cell_fit.CellFit, scores: dict[str, float]) -> Probe:
        sizes.append(len(fit.tokens.tokens))
        return restricted(fit, scores)

    monkeypatch.setattr(cell_fit.CellFit, "probe", probe)
    short, again, other = (
        linear.fit(train, validation, anatomy, [1], seed=seed) for seed in (0, 0, 1)
    )
    assert max(sizes) < VOCABULARY / 4
    monkeypatch.setattr(shortlist, "MOST", 0.0)
    full = linear.fit(train, validation, anatomy, [1], tolerance_nats=1e-3)
    assert sizes[-1] == VOCABULARY
    for offset in (1, 2):
        nats = held_out(short, test, offset)
        assert nats == pytest.approx(held_out(full, test, offset), abs=0.01)
        found = short.probes[1, offset]
        assert found.converged
        assert found.validation_nats == pytest.approx(held_out(short, validation, offset), abs=2e-3)
        for name, value in found.tensors.items():
            assert torch.equal(value, again.probes[1, offset].tensors[name])
    assert held_out(short, test, 2) < held_out(short, test, 1) - 1
    assert not torch.equal(short.probes[1, 2].tensors["c"], other.probes[1, 2].tensors["c"])


@torch.no_grad()
def test_a_shortlist_that_misses_mass_is_found_out_and_made_longer(
    planted: tuple[Anatomy, Examples, Examples, Examples], monkeypatch: pytest.MonkeyPatch
) -> None:
    anatomy, train, validation, _ = planted
    # As if nothing but a few tokens had any mass: what is missed is not stood for.
    monkeypatch.setattr(cell_fit, "DRAWN", 1)
    drawn_as_said, seen = shortlist.draw, []

    def misses(
        certain: Tensor, masses: Tensor, n: int, draws: np.random.Generator
    ) -> shortlist.Shortlist:
        found = drawn_as_said(certain, masses, n, draws)
        return shortlist.Shortlist(found.tokens, torch.ones_like(found.weights), found.places)

    monkeypatch.setattr(shortlist, "draw", misses)
    certify = cell_fit.CellFit.certify

    def noted(fit: cell_fit.CellFit, z: Tensor, targets: Tensor) -> None:
        certify(fit, z, targets)
        seen.append((fit.excess_nats, fit.converged))

    monkeypatch.setattr(cell_fit.CellFit, "certify", noted)
    at_two = [(part[0], part[1].only([2])) for part in (train, validation)]
    found = linear.fit(at_two[0], at_two[1], anatomy, [1])
    first, trusted = seen[0]
    assert first > 0.01
    assert not trusted
    assert found.probes[1, 2].converged
