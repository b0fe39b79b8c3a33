"""The part of the residual stream that a probe reads of a later token and not of the next one.

A direction of the residual stream h counts as the final norm sees it, in r = h / rms(h): there a
probe's logits are linear, U A D r and constants, with D the weights of the norm. A part is the span
of a few orthonormal directions Q; it is taken out by putting its mean in its place:

    h - Q (Qᵀ h - rms(h) Qᵀ mean(r))

Directions are ordered by how much they tell: the variance of the logits that they move, weighted by
how frequent tokens are, is twice the nats that they tell, to second order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from probekit.models.anatomy import Anatomy
from probekit.probes.convex.affine_objective import scaled_unembedding
from probekit.probes.moments import Moments
from probekit.probes.probe import Probe
from probekit.readout import Seen
from probekit.shapes import Mask

# What the probe of the next token reads: all but the least directions, which together tell no more
# than the larger of this share of it all and these nats.
LEFT_SHARE, LEFT_NATS = 0.1, 0.01
# A direction that tells less than this share of the first one is rounding.
LEAST_SHARE = 1e-6
# How large a norm's input is where its weights are read off: its epsilon is lost beside it.
LARGE = 1e3
# Rows of the unembedding that are taken to float64 at once.
ROWS = 8_192
# Exponents of the spread between which a random part of a given variance is searched.
LEAST_EXPONENT, LARGEST_EXPONENT, HALVINGS = -4.0, 8.0, 40

Directions = Float[Tensor, "model rank"]
Others = Float[Tensor, "model others"]


@dataclass(frozen=True)
class Part:
    """A part of the residual stream at one layer.

    Attributes:
        directions: Q, orthonormal columns, float64 on the CPU.
        mean: Mean of Qᵀ r over training positions.
    """

    directions: Directions
    mean: Float[Tensor, " rank"]

    def removed(self, resid: Float[Tensor, "n model"]) -> Float[Tensor, "n model"]:
        """Return residual streams with the mean of this part in the place of their own."""
        wide = resid.double().cpu()
        size = wide.square().mean(dim=1, keepdim=True).sqrt()
        apart = wide @ self.directions - size * self.mean
        return (wide - apart @ self.directions.T).to(resid)


@dataclass(frozen=True)
class Decoding:
    """How a model decodes, and so what a direction tells: the same for all its layers.

    Attributes:
        anatomy: How the model decodes its residual stream.
        to_read: D: z, what enters the unembedding, is D r and a constant, up to a factor.
        fisher: Root of the covariance of the unembedding's rows under the unigram.
    """

    anatomy: Anatomy
    to_read: Float[Tensor, "hidden model"]
    fisher: Float[Tensor, "hidden hidden"]

    @classmethod
    @torch.no_grad()
    def of(cls, anatomy: Anatomy, unigram: Float[Tensor, " vocab"]) -> "Decoding":
        """Compute both from the model's weights and the probability of each token."""
        return cls(anatomy, _to_read(anatomy), _fisher(anatomy, unigram))


@dataclass(frozen=True)
class Layer:
    """What is known of one layer's residual stream on the training text.

    Attributes:
        decoding: How the model decodes.
        number: The layer.
        mean: Mean of r, float64.
        covariance: Covariance of r.
        read: Covariance of z, what enters the unembedding.
    """

    decoding: Decoding
    number: int
    mean: Float[Tensor, " model"]
    covariance: Float[Tensor, "model model"]
    read: Float[Tensor, "hidden hidden"]

    @classmethod
    @torch.no_grad()
    def of(cls, stream: Iterable[Seen], decoding: Decoding, number: int, valid: Mask) -> "Layer":
        """Read a layer's residual stream once.

        Args:
            stream: Holds the layer.
            decoding: How the model decodes.
            number: The layer.
            valid: Positions to count, shape (block, pos).
        """
        moments, read = Moments(), Moments()
        for seen in stream:
            resid = seen.resid[number][valid[seen.blocks].to(seen.token_ids.device)]
            wide = resid.float()
            r = wide / wide.square().mean(dim=1, keepdim=True).sqrt()
            z = decoding.anatomy.hidden(resid).float()
            moments.update(r, r[:, :0])
            read.update(z, z[:, :0])
        mean, covariance = moments.mean_x.cpu(), moments.covariance.cpu()
        return cls(decoding, number, mean, covariance, read.covariance.cpu())

    def part(self, directions: Directions) -> Part:
        """Return the part that some directions span."""
        return Part(directions, directions.T @ self.mean)

    def variance(self, directions: Directions) -> float:
        """Return the share of r's variance that lies in orthonormal directions."""
        inside = (directions * (self.covariance @ directions)).sum()
        return float(inside / self.covariance.trace())

    def read_by(self, probe: Probe) -> Directions:
        """Return the directions that a linear probe reads, orthonormal, the most telling first.

        Without the least, which together tell no more than `LEFT_SHARE` or `LEFT_NATS`.
        """
        slope = probe.tensors["A"].double().cpu()
        functionals, nats = self._ordered(slope, self.read)
        left = nats.flip(0).cumsum(0).flip(0)  # what each and those after it tell
        kept = left > max(LEFT_NATS, LEFT_SHARE * float(nats.sum()))
        return _orthonormal(self.decoding.to_read.T @ functionals[:, kept])

    def read_beyond(self, probe: Probe, other: Others) -> Directions:
        """Return what a linear probe reads outside other directions, the most telling first."""
        slope = probe.tensors["A"].double().cpu() @ self.decoding.to_read
        functionals, told = self._ordered(slope - slope @ other @ other.T, self.covariance)
        kept = told > LEAST_SHARE * told.max().clamp_min(torch.finfo(told.dtype).tiny)
        most = self.covariance.shape[0] - other.shape[1]
        return _orthonormal(functionals[:, kept][:, :most])

    def random(
        self, rank: int, outside: Others, generator: torch.Generator, variance: float | None
    ) -> Directions:
        """Return random orthonormal directions outside others.

        Args:
            rank: How many.
            outside: Directions that they are orthogonal to.
            generator: Source of randomness.
            variance: Share of the variance that is to lie in them; None for any, all directions
                being alike.
        """
        drawn = torch.randn(len(self.mean), rank, generator=generator, dtype=torch.float64)
        if variance is None:
            return _orthonormal(drawn - outside @ (outside.T @ drawn))
        spread, axes = self._spread

        def drawn_with(exponent: float) -> Directions:
            along = axes @ (spread.pow(exponent / 2)[:, None] * drawn)
            return _orthonormal(along - outside @ (outside.T @ along))

        low, high = LEAST_EXPONENT, LARGEST_EXPONENT
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self.variance(drawn_with(middle)) < variance:
                low = middle
            else:
                high = middle
        return drawn_with(high)

    @cached_property
    def _spread(self) -> tuple[Tensor, Tensor]:
        """Variance along each axis of r, as a share of the largest, and the axes as columns."""
        spread, axes = torch.linalg.eigh(self.covariance)
        return (spread / spread.max()).clamp_min(LEAST_SHARE), axes

    def _ordered(self, slope: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """Return functionals of what a map reads as columns, and the nats that each tells."""
        root = slope.T @ self.decoding.fisher
        told, mixes = torch.linalg.eigh(root.T @ covariance @ root)
        return root @ mixes.flip(1), told.flip(0).clamp_min(0) / 2


def smallest(losses: Sequence[tuple[int, float]], share: float) -> int:
    """Return the smallest rank whose removal costs a share of the most that any costs.

    Args:
        losses: Ranks, ascending, and what a removal of this rank costs.
        share: The share.

    >>> smallest([(1, 0.1), (2, 0.75), (4, 0.8)], 0.9)
    2
    >>> smallest([(1, -0.2), (2, -0.1)], 0.9)
    2
    """
    most = max(loss for _, loss in losses)
    # Where any removal is a gain, that of the least gain.
    enough = min(most, share * most)
    return next(rank for rank, loss in losses if loss >= enough)


def _orthonormal(columns: Tensor) -> Directions:
    # Of any scale: directions that tell little would be lost beside the first.
    scaled = columns / columns.norm(dim=0).clamp_min(torch.finfo(columns.dtype).tiny)
    directions: Directions = torch.linalg.qr(scaled).Q
    return directions


def _to_read(anatomy: Anatomy) -> Tensor:
    """Return D, from what the final path gives for each direction and for its opposite."""
    weight = anatomy.unembedding
    unit = LARGE * torch.eye(anatomy.d_model, dtype=weight.dtype, device=weight.device)
    return ((anatomy.hidden(unit) - anatomy.hidden(-unit)) / 2).double().cpu().T


def _fisher(anatomy: Anatomy, unigram: Tensor) -> Tensor:
    square = torch.zeros(anatomy.d_hidden, anatomy.d_hidden, dtype=torch.float64)
    mean = torch.zeros(anatomy.d_hidden, dtype=torch.float64)
    unembedding = scaled_unembedding(anatomy)
    for rows, weights in zip(unembedding.split(ROWS), unigram.split(ROWS), strict=True):
        wide, share = rows.double().cpu(), weights.double().cpu()
        square += (wide.T * share) @ wide
        mean += share @ wide
    spread, axes = torch.linalg.eigh(square - torch.outer(mean, mean))
    root: Tensor = (axes * spread.clamp_min(0).sqrt()) @ axes.T
    return root
