"""The objective of a linear probe: value, gradient, curvature and Newton step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.probes.convex.affine_objective import (
    AffineObjective,
    BatchSums,
    Evaluation,
    scaled_bias,
    scaled_unembedding,
)
from probekit.probes.convex.curvature import DAMPING, Curvature
from probekit.probes.convex.lbfgs import Point, step
from probekit.probes.moments import Moments
from support.architectures import build

N, HIDDEN, VOCABULARY = 120, 4, 9


class Problem:
    """Random z, unembedding, bias and targets, and the objective on them."""

    def __init__(
        self,
        as_lens: bool = False,
        penalty: float = 0.0,
        seed: int = 0,
        free: bool = False,
        width: int = HIDDEN,
    ) -> None:
        draw = torch.Generator().manual_seed(seed)
        mix = torch.randn(width, width, generator=draw)
        self.z = torch.randn(N, width, generator=draw) @ mix + 2
        self.unembedding = torch.randn(VOCABULARY, HIDDEN, generator=draw)
        self.bias = torch.randn(VOCABULARY, generator=draw) / 2
        self.targets = torch.randint(VOCABULARY, (N,), generator=draw)
        moments = Moments()
        moments.update(self.z, torch.randn(N, HIDDEN, generator=draw))
        self.objective = AffineObjective(moments, self.unembedding, self.bias, as_lens, free)
        self.output = torch.eye(VOCABULARY) if free else self.unembedding
        self.penalty = penalty

    def evaluate(self, point: Point, batch: int = N) -> Evaluation:
        """Return the evaluation at a point, from batches."""
        sums = BatchSums(self.objective, point)
        for start in range(0, N, batch):
            sums.update(self.z[start : start + batch], self.targets[start : start + batch])
        return sums.evaluation(self.penalty)

    def by_definition(self, point: Point) -> Tensor:
        """Return the value of the module's docstring, in float64 and differentiable."""
        objective, z = self.objective, self.z.double()
        slope, bias = point
        hidden = (z - z.mean(dim=0)) @ slope.T + objective.start.shift.double()
        nats = nn.functional.cross_entropy(hidden @ self.output.double().T + bias, self.targets)
        moved = slope - objective.start.slope.double()
        covariance = torch.cov(z.T, correction=0)
        covariance += DAMPING * covariance.diagonal().mean() * torch.eye(len(covariance))
        pull = self.penalty * torch.trace(moved @ covariance @ moved.T)
        return nats + pull + (bias - objective.start.bias.double()).square().sum() / (2 * N)

    def somewhere(self, seed: int = 1) -> Point:
        draw = torch.Generator().manual_seed(seed)
        return (
            torch.randn(self.objective.start.slope.shape, generator=draw) / 2,
            torch.randn(VOCABULARY, generator=draw),
        )


def doubled(point: Point) -> tuple[Tensor, ...]:
    return tuple(x.double().requires_grad_() for x in point)


@pytest.mark.parametrize("as_lens", [True, False])
@pytest.mark.parametrize(("penalty", "width"), [(0.0, HIDDEN), (0.7, HIDDEN), (0.7, 2 * HIDDEN)])
@pytest.mark.parametrize("free", [False, True])
def test_value_and_gradient_are_those_of_the_definition(
    as_lens: bool, penalty: float, width: int, free: bool
) -> None:
    problem = Problem(as_lens, penalty, free=free, width=width)
    for point in (problem.somewhere(), problem.objective.start.point):
        evaluation = problem.evaluate(point)
        leaves = doubled(point)
        exact = problem.by_definition(leaves)
        expected = torch.autograd.grad(exact, leaves)
        assert evaluation.value == pytest.approx(exact.item(), rel=1e-5)
        for found, wanted in zip(evaluation.gradient, expected, strict=True):
            torch.testing.assert_close(found.double(), wanted, atol=2e-5, rtol=1e-4)


@settings(max_examples=10)
@given(st.integers(1, N), st.integers(0, 100))
def test_batches_do_not_matter(batch: int, seed: int) -> None:
    problem = Problem(penalty=0.3)
    point = problem.somewhere(seed)
    whole, in_batches = problem.evaluate(point), problem.evaluate(point, batch)
    assert in_batches.value == pytest.approx(whole.value, rel=1e-5)
    torch.testing.assert_close(in_batches.gradient, whole.gradient, atol=1e-5, rtol=1e-4)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.floats(0.1, 0.9))
def test_the_objective_is_convex(seed: int, share: float) -> None:
    problem = Problem(penalty=0.1)
    a, b = problem.somewhere(seed), problem.somewhere(seed + 1)
    between = tuple(share * x + (1 - share) * y for x, y in zip(a, b, strict=True))
    chord = share * problem.evaluate(a).value + (1 - share) * problem.evaluate(b).value
    assert problem.evaluate(between).value <= chord + 1e-5


@pytest.mark.parametrize("width", [HIDDEN, 2 * HIDDEN])
@pytest.mark.parametrize("as_lens", [True, False])
def test_the_lens_decodes_the_last_of_z_whatever_the_output(as_lens: bool, width: int) -> None:
    bound, free = (Problem(as_lens, 5.0, free=free, width=width) for free in (False, True))
    last = bound.z[:, -HIDDEN:]
    hidden = bound.objective.hidden(bound.objective.lens, bound.z)
    torch.testing.assert_close(hidden, last, atol=1e-5, rtol=1e-5)
    assert torch.equal(bound.objective.lens.bias, bound.bias)
    logits = last @ bound.unembedding.T + bound.bias
    found = free.objective.hidden(free.objective.lens, free.z) + free.objective.lens.bias
    torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)
    wanted = float(nn.functional.cross_entropy(logits, bound.targets))
    for problem in (bound, free):
        nats = problem.objective.nats(problem.objective.lens, problem.z, problem.targets)
        assert nats / N == pytest.approx(wanted, rel=1e-5)
        if as_lens:
            assert problem.evaluate(problem.objective.start.point).value == pytest.approx(
                wanted, rel=1e-5
            )


def test_a_free_output_starts_at_the_same_logits() -> None:
    bound, free = Problem(), Problem(free=True)
    values = [problem.evaluate(problem.objective.start.point).value for problem in (bound, free)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert free.objective.start.slope.shape == (VOCABULARY, HIDDEN)


@pytest.mark.parametrize("free", [False, True])
def test_tensors_are_those_of_z_that_is_not_centred(free: bool) -> None:
    problem = Problem(free=free)
    at = problem.objective.at(problem.somewhere())
    tensors = problem.objective.tensors(at)
    logits = problem.z @ tensors["A"].T + tensors.get("b", torch.zeros(()))
    logits = logits @ problem.output.T + tensors["c"]
    hidden = problem.objective.hidden(at, problem.z)
    expected = hidden @ problem.output.T + at.bias
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert set(tensors) == ({"A", "c"} if free else {"A", "b", "c"})


def test_the_curvature_of_a_free_output_is_the_mean_variance_of_each_token() -> None:
    problem = Problem(free=True)
    objective, curvature = problem.objective, at_start(problem)[0]
    logits = objective.hidden(objective.start, problem.z) + objective.start.bias
    probs = logits.double().softmax(dim=1)
    expected = (probs * (1 - probs)).mean(dim=0)
    torch.testing.assert_close(curvature.output.double(), expected, atol=1e-6, rtol=1e-4)


def test_elsewhere_it_starts_at_the_ridge_regression() -> None:
    draw = torch.Generator().manual_seed(3)
    z = torch.randn(N, HIDDEN, generator=draw) + 5
    last = z @ torch.diag(torch.tensor([1.0, -2.0, 0.5, 3.0])) + 7
    moments = Moments()
    moments.update(z, last)
    objective = AffineObjective(moments, torch.eye(HIDDEN), torch.zeros(HIDDEN), as_lens=False)
    # Shrunk by one hundredth of the variance, and no more.
    torch.testing.assert_close(objective.hidden(objective.start, z), last, atol=0.2, rtol=0.02)


def test_the_unigram_ignores_z_and_gives_the_smoothed_counts() -> None:
    for free in (False, True):
        problem = Problem(free=free)
        shares = problem.evaluate(problem.somewhere(), batch=50).target_shares
        counts = problem.targets.bincount(minlength=VOCABULARY)
        torch.testing.assert_close(shares, counts / N)
        unigram = problem.objective.unigram(shares)
        assert not problem.objective.hidden(unigram, problem.z).any()
        expected = ((counts + 1 / VOCABULARY) / (N + 1)).log()
        torch.testing.assert_close(unigram.bias, expected, atol=1e-5, rtol=1e-5)


def at_start(problem: Problem) -> tuple[Curvature, Evaluation]:
    """Return curvature and evaluation at the start, as a fit has them."""
    evaluation = problem.evaluate(problem.objective.start.point, batch=50)
    return problem.objective.curvature(evaluation), evaluation


def test_curvature_is_the_mean_hessian_of_the_cross_entropy_by_hidden() -> None:
    problem = Problem(as_lens=True)
    curvature, _ = at_start(problem)
    hidden, exact = problem.z.double(), torch.zeros(HIDDEN, HIDDEN, dtype=torch.float64)

    def nats(h: Tensor) -> Tensor:
        return (problem.unembedding.double() @ h + problem.bias).logsumexp(dim=0)

    for row in hidden:
        exact += torch.autograd.functional.hessian(nats, row) / N
    torch.testing.assert_close(curvature.output.double(), exact, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("free", "width"), [(False, HIDDEN), (False, 2 * HIDDEN), (True, HIDDEN)])
def test_where_the_penalty_rules_the_newton_step_is_exact(free: bool, width: int) -> None:
    # With a huge penalty the slope's Hessian is 2 λ Σ: one step leads to the minimum.
    problem = Problem(penalty=1e4, free=free, width=width)
    curvature, _ = at_start(problem)
    point = problem.somewhere()
    gradient = problem.evaluate(point).gradient
    arrived = step(point, -1.0, curvature.newton(gradient, 1e4))
    torch.testing.assert_close(arrived[0], problem.objective.start.slope, atol=1e-3, rtol=1e-3)
    under_another = curvature.newton(gradient, 1.0)
    assert not torch.equal(under_another[0], curvature.newton(gradient, 1e4)[0])


def test_a_larger_penalty_is_predicted_to_draw_the_minimum_to_the_start() -> None:
    # Where the penalty rules, the distance from the start is as one over it.
    problem = Problem(penalty=1e4)
    objective, curvature = problem.objective, at_start(problem)[0]
    slope, bias = problem.somewhere()
    at_minimum = torch.zeros_like(slope), torch.zeros_like(bias)
    for penalty in (5e3, 1e4, 4e4):
        found = objective.minimum_under(penalty, (slope, bias), at_minimum, 1e4, curvature)
        expected = (slope - objective.start.slope) * 1e4 / penalty
        torch.testing.assert_close(found[0] - objective.start.slope, expected, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(found[1], bias)


def test_a_newton_step_goes_most_of_the_way_to_the_minimum() -> None:
    problem = Problem(as_lens=False, penalty=0.01)
    curvature, at_origin = at_start(problem)
    origin, start = problem.objective.start.point, at_origin.value
    after = problem.evaluate(step(origin, -1.0, curvature.newton(at_origin.gradient, 0.01))).value
    leaves = doubled(origin)
    solver = torch.optim.LBFGS(leaves, max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        value = problem.by_definition(leaves)
        value.backward()
        return value

    solver.step(closure)
    least = problem.by_definition(leaves).item()
    assert least < after < start
    assert start - after > 0.7 * (start - least)


def test_the_outputs_scale_is_in_unembedding_and_bias() -> None:
    granite = find_anatomy(build("granite"))
    assert granite.scale == pytest.approx(1 / 8)
    torch.testing.assert_close(scaled_unembedding(granite), granite.unembedding / 8)
    assert torch.equal(scaled_bias(granite), torch.zeros(granite.vocab_size))
    output = nn.Linear(2, 3)
    anatomy = Anatomy(nn.Identity(), (nn.Identity(),), (), output, d_model=2, scale=0.5)
    torch.testing.assert_close(scaled_bias(anatomy), output.bias.detach() / 2)
