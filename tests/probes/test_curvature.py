"""The preconditioner of a fit where there is no curvature, and where it is no number."""

import pytest
import torch

from probekit.errors import NumericalError
from probekit.probes.convex.curvature import Curvature

GRADIENT = (torch.zeros(3, 2), torch.ones(4))


def curvature(output: torch.Tensor) -> Curvature:
    return Curvature(output, torch.eye(2), torch.full((4,), 0.5))


def test_an_unembedding_of_zeros_moves_the_bias_alone() -> None:
    matrix, bias = curvature(torch.zeros(3, 3)).newton(GRADIENT, penalty=0.0)
    assert torch.equal(matrix, torch.zeros(3, 2))
    assert torch.equal(bias, torch.full((4,), 0.5))


def test_a_curvature_that_is_not_finite_is_said() -> None:
    with pytest.raises(NumericalError, match="curvature of a probe's objective is not finite"):
        curvature(torch.full((3, 3), float("nan"))).newton(GRADIENT, penalty=0.0)
