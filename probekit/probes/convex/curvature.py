"""The preconditioner of a fit: an approximate Hessian in Kronecker factors."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from probekit.errors import NumericalError
from probekit.probes.convex.lbfgs import Point

# Share of the mean curvature: enough to invert what is nearly singular.
DAMPING = 1e-4


@dataclass(frozen=True)
class Curvature:
    """An approximate Hessian: independent factors of the output and the input, and one of c.

    Attributes:
        output: Curvature of the output, shape (hidden, hidden); with a free output that of
            each logit, shape (vocab,).
        whitening: Σ⁻¹, shape (features, features).
        inverse_bias: Inverse curvature by each value of c, shape (vocab,).
    """

    output: Float[Tensor, "*out"]
    whitening: Float[Tensor, "features features"]
    inverse_bias: Float[Tensor, " vocab"]
    _factors: dict[float, Tensor] = field(default_factory=dict, repr=False)

    @property
    def mean(self) -> float:
        """Mean curvature over the directions of the output."""
        return float((self.output.diagonal() if self.output.ndim == 2 else self.output).mean())

    def newton(self, gradient: Point, penalty: float) -> Point:
        """Return the inverse Hessian times `gradient` under this λ.

        Source: the Kronecker factors of Martens & Grosse (2015); the penalty's is exact.
        """
        # The Hessian of A is H ⊗ Σ + 2 λ I ⊗ Σ with H the output's. Its inverse is
        # (H + 2 λ)⁻¹ on the left of a gradient and Σ⁻¹ on its right.
        if self.output.ndim == 1:
            damped = self.output.clamp_min(DAMPING * self.mean) + 2 * penalty
            scaled = gradient[0] / damped[:, None]
        else:
            scaled = torch.cholesky_solve(gradient[0], self._factor(penalty))
        return scaled @ self.whitening, gradient[1] * self.inverse_bias

    def _factor(self, penalty: float) -> Tensor:
        """Return the Cholesky factor of H + 2 λ, which is kept until another is asked for."""
        if penalty not in self._factors:
            self._factors.clear()
            eye = torch.eye(len(self.output)).to(self.output)
            # An unembedding of zeros has no curvature, and nothing to divide by it.
            damping = max(DAMPING * self.mean, torch.finfo(self.output.dtype).tiny)
            # What products in bfloat16 round may leave H below zero in some direction.
            while math.isfinite(damping):
                factor, failed = torch.linalg.cholesky_ex(
                    self.output + (2 * penalty + damping) * eye
                )
                if not failed:
                    break
                damping *= 10
            else:
                raise NumericalError(
                    "the curvature of a probe's objective is not finite: activations or logits "
                    "are too large for their dtype. Load the model with --dtype float32"
                )
            self._factors[penalty] = factor
        return self._factors[penalty]
