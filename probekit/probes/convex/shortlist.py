"""Which tokens a fit looks at: those that occur as targets, and a sample of all others.

A partition sum over the shortlist, where a token that was drawn with probability π stands for
1/π tokens like it, is that over the vocabulary on average over draws. The weight enters as
log(1/π) on the token's bias, and its prior weighs 1/π too. Where the shortlist would hold half
of the vocabulary, it is the vocabulary.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.special import wrightomega
from torch import Tensor

from probekit.scoring.systematic import drawn, inclusion

PerToken = Float[Tensor, " vocab"]

# A shortlist of a larger share of the vocabulary than this is the vocabulary.
MOST = 0.5


@dataclass(frozen=True)
class Shortlist:
    """Tokens that stand for a vocabulary.

    Attributes:
        tokens: Ids, ascending, shape (short,).
        weights: How many tokens each stands for: 1 for those taken for sure, shape (short,).
        places: Place of each token among `tokens`, and -1 of those that are not, shape (vocab,).
    """

    tokens: Int[Tensor, " short"]
    weights: Float[Tensor, " short"]
    places: Int[Tensor, " vocab"]

    @property
    def whole(self) -> bool:
        """Whether it is the vocabulary."""
        return len(self.tokens) == len(self.places)

    def restricted(self, bias: PerToken) -> Float[Tensor, " short"]:
        """Return the biases of the shortlist, where each token stands for those like it."""
        return bias if self.whole else bias[self.tokens] + self.weights.log()

    def expanded(self, bias: Float[Tensor, " short"], others: PerToken) -> PerToken:
        """Return biases of the vocabulary: those of the shortlist, and `others` elsewhere."""
        if self.whole:
            return bias
        return others.index_copy(0, self.tokens, bias - self.weights.log())


def draw(
    certain: Bool[Tensor, " vocab"], masses: PerToken, n: int, draws: np.random.Generator
) -> Shortlist:
    """Return the certain tokens and `n` of the others, drawn in proportion to their mass.

    Args:
        certain: Which are taken in any case, shape (vocab,).
        masses: What is predicted of each, 0 or more, in any unit, shape (vocab,).
        n: How many of the others.
        draws: Source of chance.
    """
    device, size = masses.device, len(masses)
    sizes = masses.double().masked_fill(certain, 0)[None]
    probabilities = inclusion(sizes, n)
    uniform = sizes.new_tensor([draws.random()])
    taken = drawn(probabilities, uniform)[0] | certain
    if int(taken.sum()) > MOST * size:
        taken = torch.ones_like(taken)
        probabilities = torch.ones_like(probabilities)
    tokens = taken.nonzero()[:, 0]
    weights = torch.where(certain, 1.0, 1 / probabilities[0])[tokens].float()
    places = torch.full((size,), -1, device=device)
    places[tokens] = torch.arange(len(tokens), device=device)
    return Shortlist(tokens, weights, places)


def settled(drift: PerToken, predicted: PerToken, counts: PerToken) -> PerToken:
    """Return how far from c₀ each bias is at its own minimum, the predictions else as they are.

    The minimum of predicted · e^(x - drift) - counts · x + x² / 2, which is the objective times
    the positions but for what other biases change of the partition sums.

    Args:
        drift: c - c₀, where `predicted` was, shape (vocab,).
        predicted: Sum of each token's predicted probabilities over the positions.
        counts: How often it was the target.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> settled(zero, one, one), settled(zero, one, zero)
    (tensor([0.]), tensor([-0.5671]))
    """
    # x + e^(log predicted - drift + x) = counts: counts - x is Wright's omega of the log.
    smallest = torch.finfo(torch.float64).tiny
    logs = predicted.double().clamp_min(smallest).log() - drift + counts
    omega = torch.from_numpy(wrightomega(logs.cpu().numpy())).to(drift.device)
    return (counts - omega).float()
