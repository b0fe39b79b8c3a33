"""One cell of a convex fit: its shortlists, its descents, and what validation chooses from."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from probekit.probes.convex import shortlist
from probekit.probes.convex.affine_objective import AffineMap, AffineObjective, Evaluation
from probekit.probes.convex.certificate import ExactDifference
from probekit.probes.convex.curvature import Curvature
from probekit.probes.convex.lbfgs import Descent, Point
from probekit.probes.convex.shortlist import PerToken
from probekit.probes.probe import Probe

# Other λ, relative to the usual one, and how well the first has to be minimised.
RATIOS = (10.0, 3.0, 1.7, 1.0, 0.6, 0.3, 0.1, 0.03)
FIRST_TOLERANCE_NATS = 0.01
# What is promised of the excess over the minimum, where a shortlist is part of the estimate.
PROMISED_NATS = 0.01
# Passes over a shortlist are cheap, and what is left weighs more on held-out text than on the
# text of the fit: at 0.003 nats the rare tokens were 0.02 nats of held-out text from their place.
SHORT_SHARE = 1 / 3
# Tokens drawn at first beside those that occur, and how many times more where these miss much.
DRAWN, MORE = 1_000, 4


class CellFit:
    """One cell while it is fitted.

    Attributes:
        whole: The objective over the vocabulary, for any λ.
        short: The same over the shortlist.
        bias: c of the tokens that the shortlist leaves out, shape (vocab,).
        at_best: The evaluation of the descent's best point.
        curvature: The preconditioner.
        penalty: λ; at first the usual one.
        descent: The descent under this λ.
        first: The minimum under the usual λ, that λ, and what was left of the excess.
        excess_nats: Estimate of what is left above the minimum over the vocabulary.
    """

    def __init__(
        self,
        objective: AffineObjective,
        counts: PerToken,
        occurring: Bool[Tensor, " vocab"],
        predicted: PerToken,
        draws: np.random.Generator,
    ) -> None:
        """Start where the biases are at their own minimum, with a first shortlist.

        Args:
            objective: Over the vocabulary.
            counts: How often each token is a target of the training part.
            occurring: Which tokens are targets anywhere in training or validation.
            predicted: Sum of predicted probabilities over the training positions, at the start.
            draws: Source of chance.
        """
        self.whole, self.counts, self.occurring = objective, counts, occurring
        self.draws, self.n_drawn = draws, DRAWN
        self.penalty, self.excess_nats = 0.0, float("inf")
        drift = shortlist.settled(torch.zeros_like(counts), predicted, counts)
        self.bias = objective.start.bias + drift
        self._set_out(objective.start.slope, FIRST_TOLERANCE_NATS)

    def _set_out(self, slope: Tensor, tolerance_nats: float) -> None:
        """Descend from here over a new shortlist, to this tolerance over the vocabulary."""
        # At its minimum a token that never occurs has the mass that its prior holds up.
        masses = (self.whole.start.bias - self.bias).clamp_min(0)
        self.tokens = shortlist.draw(self.occurring, masses, self.n_drawn, self.draws)
        self.short = self.whole.over(self.tokens)
        self.curvature: Curvature | None = None
        self._descend_from((slope, self.tokens.restricted(self.bias)), tolerance_nats)

    def _descend_from(self, start: Point, tolerance_nats: float) -> None:
        share = 1.0 if self.tokens.whole else SHORT_SHARE
        self.tolerance = tolerance_nats
        self.descent = Descent(start, share * tolerance_nats)

    def _newton(self, gradient: Point) -> Point:
        assert self.curvature is not None
        return self.curvature.newton(gradient, self.penalty)

    def tell(self, evaluation: Evaluation) -> None:
        """Take the evaluation of the descent's trial."""
        if self.curvature is None:
            self.curvature = self.short.curvature(evaluation)
            self.penalty = self.penalty or self.whole.usual_penalty(self.curvature)
        self.descent.tell(evaluation.value, evaluation.gradient, self._newton)
        if self.descent.gradient is evaluation.gradient:
            self.at_best = evaluation
        # The curvature at the start is that of predictions that know little yet.
        if self.descent.n_accepted == 1 and not self.descent.converged:
            self.curvature = self.short.curvature(evaluation)

    def full(self, point: Point) -> AffineMap:
        """Return the map over the vocabulary at a point of the descent."""
        at = self.whole.at(point)
        return replace(at, bias=self.tokens.expanded(at.bias, self.bias))

    def minima(self) -> dict[float, AffineMap]:
        """Predict the minima under other λ, with the curvature of the last evaluation."""
        self.curvature = self.short.curvature(self.at_best)
        where = self.descent.best, self.descent.gradient, self.penalty, self.curvature
        penalties = [ratio * self.penalty for ratio in RATIOS]
        return {
            penalty: self.full(self.short.minimum_under(penalty, *where)) for penalty in penalties
        }

    def start_again(self, penalty: float, at: AffineMap, tolerance_nats: float) -> None:
        """Set out from a map under another λ, over the same shortlist, and keep the minimum."""
        self.first = self.full(self.descent.best), self.penalty, self.descent.excess
        self.penalty = penalty
        self._descend_from((at.slope, self.tokens.restricted(at.bias)), tolerance_nats)

    def settle(self) -> None:
        """Keep the minimum of a descent over the vocabulary, which needs no certificate."""
        self.excess_nats = self.descent.excess
        self.minimum = self.full(self.descent.best)

    def certify(self, z: Tensor, targets: Tensor) -> None:
        """Say how far the minimum is above that over the vocabulary, and take it closer.

        Args:
            z: Inputs at a sample of positions, shape (n, features).
            targets: Their targets, shape (n,).
        """
        self.curvature = self.short.curvature(self.at_best)
        at = self.full(self.descent.best)
        difference = ExactDifference(self.whole, self.short, at, z, targets)
        missed = difference.excess(self.descent, self._newton)
        self.excess_nats = max(self.descent.excess, missed)
        # What never occurs goes where its prior holds what is now predicted of it.
        origin = self.whole.start.bias
        moved = origin + shortlist.settled(at.bias - origin, difference.predicted, self.counts)
        self.minimum = replace(at, bias=torch.where(self.occurring, at.bias, moved))

    def look_at_more(self) -> None:
        """Go on from the minimum with more tokens drawn."""
        self.n_drawn *= MORE
        self.bias = self.minimum.bias
        self._set_out(self.minimum.slope, self.tolerance)

    @property
    def converged(self) -> bool:
        """Whether the minimum is as near as was asked; over a shortlist, as is promised."""
        allowed = self.descent.tolerance
        return self.excess_nats <= (allowed if self.tokens.whole else max(allowed, PROMISED_NATS))

    def candidates(self) -> dict[str, AffineMap]:
        """Return what validation chooses from."""
        return {
            "minimum": self.minimum,
            "first minimum": self.first[0],
            "start": self.whole.start,
            "lens": self.whole.lens,
            "unigram": self.whole.unigram(self.counts / self.whole.count),
        }

    def probe(self, scores: Mapping[str, float]) -> Probe:
        """Return the candidate that validation prefers; its nats are over the shortlist."""
        chosen = min(scores, key=lambda label: scores[label])
        penalty, excess, converged = self.penalty, self.excess_nats, self.converged
        if chosen == "first minimum":
            _, penalty, of_first = self.first
            # A shortlist misses of it what it misses of the other.
            excess += of_first - self.descent.excess
            converged = excess <= PROMISED_NATS
        return Probe(
            tensors=self.whole.tensors(self.candidates()[chosen]),
            chosen=chosen,
            penalty=penalty,
            excess_nats=excess,
            converged=converged,
            validation_nats=scores[chosen],
        )
