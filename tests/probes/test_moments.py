"""Streaming moments against numpy, and their ridge regression against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from probekit.errors import DataError
from probekit.probes.moments import Moments

Array = NDArray[np.float32]


def pairs(n: int = 300, mean: float = 0.0, seed: int = 0) -> tuple[Array, Array]:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, 4)) @ (draw.normal(size=(4, 4)) + 3 * np.eye(4)) + mean
    y = x @ draw.normal(size=(4, 3)) + draw.normal(size=(n, 3))
    return x.astype(np.float32), y.astype(np.float32)


def moments_of(x: Array, y: Array, batch: int) -> Moments:
    found = Moments()
    for start in range(0, len(x), batch):
        rows = slice(start, start + batch)
        found.update(torch.from_numpy(x[rows]), torch.from_numpy(y[rows]))
    return found


def expected(x: Array, y: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    joint = np.cov(np.hstack([x, y]).astype(np.float64), rowvar=False, bias=True)
    return joint[:4, :4], joint[:4, 4:]


def test_moments_of_three_points_are_as_by_hand() -> None:
    x, y = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[2.0], [0.0], [1.0]])
    found = Moments()
    found.update(x[:1], y[:1])
    found.update(x[1:], y[1:])
    assert (found.count, float(found.mean_x), float(found.mean_y)) == (3, 2.0, 1.0)
    assert float(found.covariance) == pytest.approx((4 + 1 + 9) / 3)
    assert float(found.cross_covariance) == pytest.approx((-2 * 1 + -1 * -1 + 3 * 0) / 3)


@settings(max_examples=15)
@given(st.integers(1, 120), st.integers(0, 100))
def test_however_they_come_in_batches_moments_are_those_of_numpy(batch: int, seed: int) -> None:
    x, y = pairs(120, seed=seed)
    found = moments_of(x, y, batch)
    covariance, cross = expected(x, y)
    np.testing.assert_allclose(found.mean_x, x.mean(axis=0, dtype=float), atol=1e-6)
    np.testing.assert_allclose(found.mean_y, y.mean(axis=0, dtype=float), atol=1e-6)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(found.cross_covariance, cross, atol=1e-5, rtol=1e-5)


def test_a_large_mean_costs_no_digits() -> None:
    x, y = pairs(2000, mean=1e6)
    found = moments_of(x, y, batch=50)
    covariance, cross = expected(x, y)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.cross_covariance, cross, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.mean_x, x.mean(axis=0, dtype=float), rtol=1e-9)


def test_many_batches_cost_no_digits() -> None:
    # One value far away and then 20,000 small ones: a float32 sum would lose them.
    found = Moments()
    batch = torch.ones(10, 1)
    found.update(torch.tensor([[-3e4]]), torch.zeros(1, 1))
    for _ in range(2000):
        found.update(batch, batch)
    assert float(found.mean_x) == pytest.approx((20_000 - 3e4) / 20_001, rel=1e-6)


@pytest.mark.parametrize("strength", [0.0, 0.01, 1.0])
def test_ridge_is_that_of_scikit_learn(strength: float) -> None:
    x, y = pairs(mean=3.0)
    slope, intercept = moments_of(x, y, batch=70).ridge(strength)
    covariance, _ = expected(x, y)
    reference = Ridge(alpha=strength * np.trace(covariance) / 4 * len(x))
    reference.fit(x.astype(np.float64), y.astype(np.float64))
    np.testing.assert_allclose(slope, reference.coef_, atol=1e-4)
    np.testing.assert_allclose(intercept, reference.intercept_, atol=1e-4)


def test_a_linear_map_is_found_and_noise_is_not() -> None:
    x, _ = pairs(4000)
    noise = np.random.default_rng(9).normal(size=(4000, 1)).astype(np.float32)
    truth = x[:, :1] - 2 * x[:, 1:2]
    slope, _ = moments_of(x, np.hstack([truth, noise]), batch=500).ridge(1e-9)
    np.testing.assert_allclose(slope[0], [1, -2, 0, 0], atol=1e-3)
    assert slope[1].abs().max() < 0.1


def test_moments_of_nothing_are_an_error() -> None:
    nothing = Moments()
    nothing.update(torch.zeros(0, 2), torch.zeros(0, 2))
    for name in ("mean_x", "mean_y", "covariance", "cross_covariance"):
        with pytest.raises(DataError, match="moments of no data are not defined"):
            getattr(nothing, name)
    with pytest.raises(DataError, match="moments of no data are not defined"):
        nothing.ridge(0.1)


@pytest.mark.parametrize("value", [0.0, 1e-3, 1e6])
def test_of_features_that_never_vary_nothing_is_learned(value: float) -> None:
    found, (_, y) = Moments(), pairs(300)
    x = torch.full((300, 4), value) * (1 + 1e-7 * torch.randn(300, 4))
    found.update(x, torch.from_numpy(y))
    slope, intercept = found.ridge(1e-3)
    np.testing.assert_allclose(slope @ x[0].double() + intercept, y.mean(axis=0), atol=1e-3)
    assert found.variance == pytest.approx(value**2 or 1, rel=1e-3)
