"""Descent on functions whose minimum is known, or found by scipy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from probekit.probes.convex.lbfgs import Descent, Point, dot, step

Function = Callable[[Point], Tensor]


def evaluate(function: Function, point: Point) -> tuple[float, Point]:
    leaves = tuple(x.clone().requires_grad_() for x in point)
    value = function(leaves)
    return value.item(), torch.autograd.grad(value, leaves)


def plain(point: Point) -> Point:
    return point


def run(
    function: Function, descent: Descent, precondition: Callable[[Point], Point] = plain
) -> int:
    """Tell until it has converged; return how many evaluations that took, 100 at most."""
    for taken in range(100):
        if descent.converged:
            return taken
        descent.tell(*evaluate(function, descent.trial), precondition)
    return 100


def quadratic(condition: float) -> tuple[Function, Point]:
    """Return a quadratic of two tensors with minimum 0 at (1, 2), and a start."""
    weights = torch.logspace(0, float(np.log10(condition)), 6, dtype=torch.float64).view(2, 3)

    def function(point: Point) -> Tensor:
        return (weights * (point[0] - 1).square()).sum() / 2 + (point[1] - 2).square().sum() / 2

    return function, (torch.zeros(2, 3).double(), torch.zeros(2).double())


def logistic() -> tuple[Function, Point]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=draw).double() * torch.tensor([1, 1, 3, 0.3]).double()
    y = torch.randint(3, (200,), generator=draw)
    y[x[:, 0] > 0] = 0

    def function(point: Point) -> Tensor:
        loss = torch.nn.functional.cross_entropy(x @ point[0].T + point[1], y)
        return loss + 0.01 * (point[0].square().sum() + point[1].square().sum())

    return function, (torch.zeros(3, 4).double(), torch.zeros(3).double())


def minimum_by_scipy(function: Function, start: Point) -> float:
    sizes = [x.numel() for x in start]

    def flat(vector: np.ndarray) -> tuple[float, np.ndarray]:
        parts = torch.from_numpy(vector.copy()).split(sizes)
        shaped = tuple(part.view_as(x) for part, x in zip(parts, start, strict=True))
        value, gradient = evaluate(function, shaped)
        return value, torch.cat([g.flatten() for g in gradient]).numpy()

    options = {"gtol": 1e-9, "maxiter": 2000}
    return float(minimize(flat, np.zeros(sum(sizes)), jac=True, options=options).fun)


def test_with_the_inverse_hessian_a_quadratic_takes_one_step() -> None:
    function, start = quadratic(1.0)
    descent = Descent(start, tolerance=1e-12)
    descent.tell(*evaluate(function, start), plain)
    # Six coordinates at distance 1, two at distance 2: half of 6 + 8.
    assert descent.excess == pytest.approx(7.0)
    descent.tell(*evaluate(function, descent.trial), plain)
    assert descent.converged
    torch.testing.assert_close(descent.best[0], torch.ones(2, 3).double())
    torch.testing.assert_close(descent.best[1], torch.full((2,), 2.0).double())


@settings(max_examples=10)
@given(st.floats(1, 100))
def test_a_quadratic_is_minimised_within_the_tolerance(condition: float) -> None:
    function, start = quadratic(condition)
    descent = Descent(start, tolerance=1e-6)
    assert run(function, descent) < 60
    assert descent.converged
    assert descent.value == pytest.approx(0.0, abs=1e-4)


def test_a_logistic_problem_ends_at_the_minimum_that_scipy_finds() -> None:
    function, start = logistic()
    descent = Descent(start, tolerance=1e-7)
    assert run(function, descent) < 100
    assert descent.value == pytest.approx(minimum_by_scipy(function, start), abs=1e-6)


def test_the_estimated_excess_is_near_the_true_one_when_it_says_converged() -> None:
    function, start = logistic()
    least = minimum_by_scipy(function, start)
    for tolerance in (3e-2, 1e-2, 1e-3, 1e-4):
        descent = Descent(start, tolerance)
        run(function, descent)
        true = descent.value - least
        # It is an estimate: even without a preconditioner, of the right order.
        assert descent.excess / 10 <= true <= 10 * descent.excess


@pytest.mark.parametrize("scale", [30.0, 1000.0])
def test_a_step_that_is_far_too_long_is_shortened(scale: float) -> None:
    function, start = quadratic(10.0)

    def scaled(point: Point) -> Point:
        return tuple(scale * x for x in point)

    descent = Descent(start, tolerance=1e-8)
    first, gradient = evaluate(function, start)
    descent.tell(first, gradient, scaled)
    tried = evaluate(function, descent.trial)
    assert tried[0] > first
    descent.tell(*tried, scaled)
    assert descent.value == first
    assert descent.best is start
    assert descent.size < 1
    run(function, descent, scaled)
    assert descent.converged
    assert descent.value < 1e-4


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_point_without_a_value_is_never_accepted(wrong: float) -> None:
    function, start = quadratic(2.0)
    descent = Descent(start, tolerance=1e-6)
    value, gradient = evaluate(function, start)
    descent.tell(value, gradient, plain)
    descent.tell(wrong, gradient, plain)
    assert descent.best is start
    assert 0.1 <= descent.size <= 0.5
    run(function, descent)
    assert descent.value < 1e-4


def test_nothing_has_converged_before_it_was_told() -> None:
    _, start = quadratic(2.0)
    assert not Descent(start, tolerance=1e6).converged


def test_at_a_minimum_it_stays() -> None:
    function, _ = quadratic(2.0)
    there = (torch.ones(2, 3).double(), torch.full((2,), 2.0).double())
    descent = Descent(there, tolerance=1e-9)
    descent.tell(*evaluate(function, there), plain)
    assert descent.converged
    assert descent.excess == 0


def test_inner_product_and_step_go_over_all_tensors() -> None:
    a, b = (torch.tensor([1.0, 2.0]), torch.tensor([3.0])), (torch.ones(2), torch.tensor([2.0]))
    assert dot(a, b) == 9
    assert [x.tolist() for x in step(a, -2.0, b)] == [[-1.0, 0.0], [-1.0]]
    with pytest.raises(ValueError, match="shorter"):
        dot(a, b[:1])
