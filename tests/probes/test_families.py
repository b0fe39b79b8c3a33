"""Convex probes of other families than `linear`, and what all of them share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from probekit.data.targets import Targets
from probekit.errors import DataError, SettingsError
from probekit.probes import linear, waves
from probekit.probes.convex import cell_fit
from probekit.probes.convex.affine_objective import AffineObjective
from probekit.probes.convex.cell_fit import CellFit
from probekit.probes.convex.curvature import DAMPING
from probekit.probes.files import read_probes, write_probes
from probekit.probes.grid import grid_cells
from probekit.probes.probe import Examples, Probe, Probes
from probekit.readout import Seen
from support.heads import head_of

VOCABULARY, HIDDEN, LENGTH = 24, 12, 20
CHANCE = np.log(VOCABULARY)
FAMILIES = tuple(waves.FAMILIES)


def part_of(ids: Tensor, resid: dict[int, Tensor]) -> Examples:
    """Return two batches whose token at each position is what is to be predicted there."""
    half = len(ids) // 2
    batches = [
        Seen(ids[at], {layer: x[at] for layer, x in resid.items()}, first)
        for at, first in ((slice(0, half), 0), (slice(half, None), half))
    ]
    return batches, Targets("text", {1: ids}, {1: torch.ones_like(ids, dtype=torch.bool)})


def drawn(n_blocks: int, seed: int, weight: Tensor) -> Examples:
    """Return tokens drawn from softmax(weight z) of layer 2; the other layers are noise."""
    draw = torch.Generator().manual_seed(seed)
    shape = (n_blocks, LENGTH, weight.shape[1])
    # Correlated, of different scales and off centre, so that whitening matters.
    mix = torch.randn(HIDDEN, HIDDEN, generator=torch.Generator().manual_seed(99)) / 3
    resid = {layer: torch.randn(shape, generator=draw) @ mix + 0.3 for layer in (0, 1, 2)}
    probs = (resid[2] @ weight.T).softmax(dim=2).view(-1, VOCABULARY)
    return part_of(torch.multinomial(probs, 1, generator=draw).view(shape[:2]), resid)


def noise(n_blocks: int, seed: int) -> Examples:
    return drawn(n_blocks, seed, torch.zeros(VOCABULARY, HIDDEN))


choose = CellFit.probe


@pytest.fixture
def under(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have fits keep the minimum under this penalty, whatever validation prefers."""

    def keep_the_minimum(fit: CellFit, scores: dict[str, float]) -> Probe:
        return choose(fit, {"minimum": scores["minimum"]})

    def set_penalty(penalty: float) -> None:
        monkeypatch.setattr(AffineObjective, "usual_penalty", lambda *_: penalty)
        monkeypatch.setattr(cell_fit, "RATIOS", (1.0,))
        monkeypatch.setattr(CellFit, "probe", keep_the_minimum)

    return set_penalty


@pytest.fixture(scope="module")
def weight() -> Tensor:
    return 0.7 * torch.randn(VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(3))


def rows(part: Examples, layers: tuple[int, ...] = (2,)) -> tuple[Tensor, Tensor]:
    """Return z and the wanted tokens, selected without the code under test."""
    z = torch.cat([torch.cat([seen.resid[layer] for seen in part[0]]) for layer in layers], dim=-1)
    return z.flatten(0, 1), part[1].ids[1].flatten()


def logits_of(found: Probes, part: Examples) -> Tensor:
    """Return the logits of the only cell."""
    valid = part[1].valid
    parts = [found.predict(seen, {1: valid[1][seen.blocks]}) for seen in part[0]]
    return torch.cat([logits for cells in parts for _, logits in cells])


def held_out(found: Probes, part: Examples) -> float:
    return float(nn.functional.cross_entropy(logits_of(found, part), part[1].ids[1].flatten()))


@pytest.mark.parametrize("penalty", [3e-3, 3e-2])
def test_under_one_penalty_linear_full_is_the_logistic_regression_of_scikit_learn(
    weight: Tensor, penalty: float, under: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    under(penalty)
    # Probabilities agree to 1e-3 where the objective is within about 1e-7 of its minimum.
    monkeypatch.setattr(linear, "MOST_PASSES", 200)
    train, test = drawn(150, 0, weight), drawn(50, 1, weight)
    # Without rows of its own the head's start is A = 0, where scikit-learn's penalty pulls to.
    anatomy = head_of(torch.zeros(VOCABULARY, HIDDEN))
    found = linear.fit(train, test, anatomy, [2], family="linear-full", tolerance_nats=4e-8)
    (x, y), (held_x, held_y) = (
        (a.double().numpy(), b.numpy()) for a, b in map(rows, (train, test))
    )
    n, mean, covariance = len(x), x.mean(axis=0), np.cov(x.T, ddof=0)
    covariance += DAMPING * covariance.diagonal().mean() * np.eye(HIDDEN)
    values, basis = np.linalg.eigh(covariance)
    whiten = basis / np.sqrt(values)

    def prepared(z: NDArray[np.float64]) -> NDArray[np.float64]:
        # The prior on c is that on the slope of a constant column.
        constant = np.full((len(z), 1), np.sqrt(2 * n * penalty))
        return np.hstack([(z - mean) @ whiten, constant])

    reference = LogisticRegression(
        C=1 / (2 * n * penalty), fit_intercept=False, tol=1e-7, max_iter=2000
    ).fit(prepared(x), y)
    assert reference.classes_.tolist() == list(range(VOCABULARY))
    expected = log_softmax(reference.decision_function(prepared(held_x)), axis=1)
    own = logits_of(found, test).double().log_softmax(dim=1).numpy()
    at = np.arange(len(held_y)), held_y
    assert found.probes[2, 1].converged
    assert -own[at].mean() == pytest.approx(-expected[at].mean(), abs=0.002)
    np.testing.assert_allclose(np.exp(own), np.exp(expected), atol=1e-3)
    # And it is far from what knows nothing, so that agreement says something.
    assert -own[at].mean() < CHANCE - 0.5


def test_concat_reads_what_is_spread_over_layers() -> None:
    # The token is the sum of what two layers hold: either alone leaves it uniform.
    def spread(n_blocks: int, seed: int) -> Examples:
        draw = torch.Generator().manual_seed(seed)
        parts = torch.randint(2, (2, n_blocks, LENGTH), generator=draw)
        resid = {layer: torch.randn(n_blocks, LENGTH, 4, generator=draw) for layer in (0, 1, 2)}
        for layer, part in zip((0, 1), parts, strict=True):
            resid[layer] = 0.1 * resid[layer] + nn.functional.one_hot(part, 4)
        return part_of(2 * parts[0] + parts[1], resid)

    train, validation, test = (spread(n, seed) for n, seed in ((60, 0), (20, 1), (30, 2)))
    anatomy = head_of(torch.eye(4))
    together = linear.fit(train, validation, anatomy, [2, 0, 1], family="concat")
    assert together.read == (0, 1, 2)
    assert set(together.probes) == {(None, 1)}
    assert held_out(together, test) < 0.1
    for layer in (0, 1):
        alone = held_out(linear.fit(train, validation, anatomy, [layer]), test)
        assert alone > np.log(2) - 0.05


def test_concat_starts_as_the_model_where_the_last_layer_is_among_those_read(
    weight: Tensor, under: Callable[[float], None]
) -> None:
    train, anatomy = drawn(10, 0, weight), head_of(weight)
    # A huge penalty leaves the slope where it starts.
    under(1e6)
    found = linear.fit(train, train, anatomy, [0, 2], family="concat").probes[None, 1]
    expected = torch.cat([torch.zeros(HIDDEN, HIDDEN), torch.eye(HIDDEN)], dim=1)
    torch.testing.assert_close(found.tensors["A"], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.tensors["b"], torch.zeros(HIDDEN), atol=1e-4, rtol=0)
    # Elsewhere it starts at the ridge regression.
    below = linear.fit(train, train, anatomy, [0, 1], family="concat").probes[None, 1]
    assert float((below.tensors["A"] - expected).abs().max()) > 0.3


def test_the_lens_of_several_layers_is_that_of_the_last(weight: Tensor) -> None:
    train, test = drawn(4, 0, weight), drawn(10, 1, weight)
    [cell] = grid_cells([0, 2], [1], together=True)
    for free in (False, True):
        with torch.no_grad():
            [objective] = linear._objectives(
                train, train[0], head_of(weight), [cell], free
            ).values()
            z, wanted = rows(test, (0, 2))
            found = objective.nats(objective.lens, z, wanted) / len(z)
        lens = float(nn.functional.cross_entropy(z[:, HIDDEN:] @ weight.T, wanted))
        # The products may have been taken in bfloat16.
        assert found == pytest.approx(lens, abs=2e-3)
        assert not torch.equal(objective.start.slope, objective.lens.slope)


def test_linear_full_reads_what_the_rows_of_the_unembedding_cannot(weight: Tensor) -> None:
    # The model's rows know the first half of the tokens from the second and no more.
    row = torch.ones(VOCABULARY, 1)
    row[VOCABULARY // 2 :] = -1
    anatomy = head_of(row @ torch.randn(1, HIDDEN, generator=torch.Generator().manual_seed(0)))
    train, validation, test = (drawn(n, seed, weight) for n, seed in ((150, 0), (30, 1), (50, 2)))
    bound = held_out(linear.fit(train, validation, anatomy, [2]), test)
    free = held_out(linear.fit(train, validation, anatomy, [2], family="linear-full"), test)
    z, wanted = rows(test)
    truth = float(nn.functional.cross_entropy(z @ weight.T, wanted))
    assert bound > truth + 0.5
    assert free < truth + 0.15


def test_linear_full_starts_at_the_logits_of_linear(
    weight: Tensor, under: Callable[[float], None]
) -> None:
    train, test = drawn(20, 0, weight), drawn(10, 1, weight)
    # Under a huge penalty both stay where they start, but for c.
    under(1e6)
    own, free = (
        linear.fit(train, test, head_of(weight), [0], family=family)
        for family in ("linear", "linear-full")
    )
    first, second = (logits_of(found, test).log_softmax(dim=1) for found in (own, free))
    torch.testing.assert_close(first, second, atol=0.05, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_probes_predict_the_same(
    family: str, weight: Tensor, tmp_path: Path
) -> None:
    train, anatomy, path = drawn(10, 0, weight), head_of(weight), tmp_path / "probes.safetensors"
    before = linear.fit(train, train, anatomy, [0, 2], family=family)
    write_probes(before, path, {"model_fingerprint": "abc"})
    after = read_probes(path, anatomy, "abc")
    assert after.family == family
    assert after.layers == before.layers == frozenset({0, 2})
    assert set(after.probes) == ({(None, 1)} if family == "concat" else {(0, 1), (2, 1)})
    seen = next(iter(train[0]))
    valid = {1: torch.ones_like(seen.token_ids, dtype=torch.bool)}
    for (cell, logits), (again, same) in zip(
        before.predict(seen, valid), after.predict(seen, valid), strict=True
    ):
        assert cell == again
        assert cell.readout == family
        assert torch.equal(logits, same)


def test_parameters_are_as_by_hand(weight: Tensor) -> None:
    train, anatomy = drawn(4, 0, weight), head_of(weight)
    counts = {
        family: [
            p.n_parameters
            for p in linear.fit(train, train, anatomy, [0, 2], family=family).probes.values()
        ]
        for family in FAMILIES
    }
    assert counts == {
        "linear": 2 * [12 * 12 + 12 + 24],
        "concat": [12 * 24 + 12 + 24],
        "linear-full": 2 * [24 * 12 + 24],
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_tells_nothing(family: str, weight: Tensor) -> None:
    train, validation, test = (noise(n, seed) for n, seed in ((150, 0), (50, 1), (100, 2)))
    found = linear.fit(train, validation, head_of(weight), [1], family=family)
    assert held_out(found, test) == pytest.approx(CHANCE, abs=0.03)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_descent_that_ran_out_of_passes_says_so(
    family: str, weight: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, anatomy = drawn(30, 0, weight), head_of(torch.eye(VOCABULARY)[:, :HIDDEN])

    def fitted() -> list[Probe]:
        found = linear.fit(train, train, anatomy, [0, 2], family=family, tolerance_nats=1e-3)
        return list(found.probes.values())

    assert all(probe.converged for probe in fitted())
    monkeypatch.setattr(linear, "MOST_PASSES", 1)
    monkeypatch.setattr(cell_fit, "FIRST_TOLERANCE_NATS", 1e-3)
    for probe in fitted():
        assert not probe.converged
        assert probe.excess_nats is not None
        assert probe.excess_nats > 1e-3


def test_what_memory_does_not_hold_is_refused_with_the_way_out(
    weight: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, anatomy = drawn(4, 0, weight), head_of(weight)
    monkeypatch.setattr(waves, "free_bytes", lambda _: 40_000)
    linear.fit(train, train, anatomy, [0, 2])
    with pytest.raises(SettingsError, match=r"fitting one linear-full probe .* use linear or"):
        linear.fit(train, train, anatomy, [0, 2], family="linear-full")
    monkeypatch.setattr(waves, "free_bytes", lambda _: 2**30)
    large = replace(anatomy, output_embeddings=nn.Linear(2048, 50_000, bias=False, device="meta"))
    message = r"takes about 12\.3 GiB, and 1\.0 GiB are free: it is for small vocabularies"
    with pytest.raises(SettingsError, match=message):
        linear.fit(train, train, large, [2], family="linear-full")


def test_what_cannot_be_fitted_is_an_error(weight: Tensor) -> None:
    train, anatomy = noise(4, 0), head_of(weight)
    with pytest.raises(SettingsError, match="one of linear, concat, linear-full, got mlp"):
        linear.fit(train, train, anatomy, [2], family="mlp")
    nowhere = train[0], train[1].at(torch.zeros_like(train[1].valid[1]))
    with pytest.raises(DataError, match="validation has no position with a target at offset 1"):
        linear.fit(train, nowhere, anatomy, [2])
