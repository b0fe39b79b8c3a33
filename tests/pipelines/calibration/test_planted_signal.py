"""A planted signal: its closed forms, and the instrument that must find it and nothing else."""

import math
from functools import cache
from itertools import product

import pytest
import torch
from torch import Tensor

from probekit.activations.residual_stream import stream
from probekit.data.targets import Targets
from probekit.errors import SettingsError
from probekit.models.anatomy import find_anatomy
from probekit.pipelines.analysis import verdict
from probekit.pipelines.calibration import llama_weights
from probekit.pipelines.calibration.planted_signal import Planted
from support.worlds import LENGTH, World, log_probs, seeded


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
    (seen,) = stream(model, find_anatomy(model), rows, layers, batch_size=len(rows))
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
    (seen,) = stream(model, find_anatomy(model), token_ids, range(7), batch_size=4)
    _, previous, total, output = llama_weights.planted_slots(8)
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
        llama_weights.planted(torch.eye(4), 2, 1, 3)
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
    sums = world.sums(
        world.scored(readouts, "validation", whole["validation"]),
        world.scored(readouts, "test", whole["test"] | some),
        world.scored([world.ceiling()], "test", some),
    )
    next_token, signal, beyond = verdict.findings(sums, TEXT.n_layers, HORIZON).rows

    assert next_token["best_layer"] in TEXT.best_layers(1)
    assert next_token["forgotten_bits"] == pytest.approx(TEXT.forgotten_bits(1), abs=0.02)
    exact = TEXT.forgotten_bits(2)
    assert [signal["best_layer"]] == list(TEXT.best_layers(2))
    assert signal["forgotten_bits"] == pytest.approx(exact, rel=0.1)
    assert 0.9 * exact < signal["forgotten_bits_low"] < exact < signal["forgotten_bits_high"]
    assert signal["forgotten_bits_high"] < 1.1 * exact
    assert signal["recovered"] == pytest.approx(1, abs=0.1)
    assert signal["verdict"].startswith("later layers lose 1.")
    assert signal["late_rival"] == 3
    # The ceiling knows of t + 3; no linear readout of any layer does.
    assert beyond["recovered"] == pytest.approx(0, abs=0.1)
    assert beyond["forgotten_bits"] == pytest.approx(TEXT.forgotten_bits(3), abs=0.03)
    rates = sums.rates("one", "test", "marginal")
    for offset in (2, 3):
        _, low, high = rates.summary(rates.nats("marginal", None, offset))
        assert low <= TEXT.ceiling_nats(offset) <= high
    rates = sums.rates("one", "test", "all")
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
    rates = world.sums(table).rates("one", "test", "all")
    for offset in range(1, HORIZON + 1):
        gain = rates.nats("unigram", None, offset) - rates.nats("linear", layer, offset)
        assert rates.summary(gain)[1] <= 0
        assert gain[0] < 0.01
