"""Streaming means and covariances."""

import torch
from jaxtyping import Float
from torch import Tensor

from probekit.errors import DataError

# Squares of what float32 rounds off, as a share of what is rounded, with room for its sums.
ROUNDING = 1e-12


class Moments:
    """Means of x and y, the covariance of x and the cross-covariance of x and y.

    Products of a batch are taken in float32 about the first batch's mean, and added up in
    float64: neither large means nor many batches cost digits.
    """

    def __init__(self) -> None:
        self.count = 0

    def update(self, x: Float[Tensor, "n x"], y: Float[Tensor, "n y"]) -> None:
        """Add a batch of pairs."""
        if not len(x):
            return
        x, y = x.float(), y.float()
        if self.count == 0:
            self.shift_x, self.shift_y = x.mean(dim=0), y.mean(dim=0)
            self.sum_x = torch.zeros_like(self.shift_x, dtype=torch.float64)
            self.sum_y = torch.zeros_like(self.shift_y, dtype=torch.float64)
            self.sum_xx = x.new_zeros((x.shape[1], x.shape[1]), dtype=torch.float64)
            self.sum_xy = x.new_zeros((x.shape[1], y.shape[1]), dtype=torch.float64)
        x, y = x - self.shift_x, y - self.shift_y
        self.count += len(x)
        self.sum_x += x.sum(dim=0)
        self.sum_y += y.sum(dim=0)
        self.sum_xx += x.T @ x
        self.sum_xy += x.T @ y

    @property
    def mean_x(self) -> Float[Tensor, " x"]:
        """Mean of x, float64."""
        n = self._counted()
        return self.shift_x.double() + self.sum_x / n

    @property
    def mean_y(self) -> Float[Tensor, " y"]:
        """Mean of y, float64."""
        n = self._counted()
        return self.shift_y.double() + self.sum_y / n

    @property
    def covariance(self) -> Float[Tensor, "x x"]:
        """Covariance of x with divisor n, float64."""
        n = self._counted()
        return self.sum_xx / n - torch.outer(self.sum_x, self.sum_x) / n**2

    @property
    def cross_covariance(self) -> Float[Tensor, "x y"]:
        """Cross-covariance of x and y with divisor n, float64."""
        n = self._counted()
        return self.sum_xy / n - torch.outer(self.sum_x, self.sum_y) / n**2

    @property
    def variance(self) -> float:
        """Mean variance of x; where x is the same up to rounding its mean square, or else 1.

        That is the unit of penalties, which have to be seen beside rounding.
        """
        variance, square = (
            self.covariance.diagonal().mean().item(),
            self.mean_x.square().mean().item(),
        )
        return variance if variance > ROUNDING * square else square or 1.0

    def ridge(self, strength: float) -> tuple[Float[Tensor, "y x"], Float[Tensor, " y"]]:
        """Return slope and intercept of the ridge regression of y on x, float64.

        Args:
            strength: Penalty, as a share of `variance`.

        >>> moments = Moments()
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> moments.update(x, 3 * x + 1)
        >>> [round(float(v), 6) for v in moments.ridge(0.0)]
        [3.0, 1.0]
        """
        covariance = self.covariance
        penalty = strength * self.variance
        eye = torch.eye(len(covariance), dtype=torch.float64, device=covariance.device)
        factor = torch.linalg.cholesky(covariance + penalty * eye)
        slope = torch.cholesky_solve(self.cross_covariance, factor).T
        return slope, self.mean_y - slope @ self.mean_x

    def _counted(self) -> int:
        if self.count == 0:
            raise DataError("the moments of no data are not defined")
        return self.count
