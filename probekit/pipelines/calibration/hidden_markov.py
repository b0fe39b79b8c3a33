"""Hidden Markov processes: text whose every offset has a closed-form best prediction.

A process is given by the matrices T(x), T(x)[i, j] = P(emit x, go to j | at i), and
S = Σ_x T(x). What can be known of the future from the tokens up to t is the belief η_t, a
distribution over states:

    η_t = η_{t-1} T(x_t) / (η_{t-1} T(x_t) 1),    η before the first token stationary
    P(x_{t+k} = x | x_≤t) = η_t S^{k-1} T(x) 1

The states do not follow from the tokens, so unlike a Markov chain's the best prediction
depends on the whole past: a model has to compute it, and a probe may find it or not.

Source: Shai et al. (2024), "Transformers represent belief state geometry in their residual
stream".
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probekit.errors import DataError
from probekit.pipelines.calibration.markov import stationary
from probekit.shapes import TokenIds

# Rounding of a few float64 sums, far below any probability that is meant.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class HiddenMarkov:
    """A stationary process that emits a token with each transition of a hidden state.

    Attributes:
        transitions: T, shape (token, state, state), float64: T[x, i, j] is the probability
            of emitting x and going to j, given that the state is i.

    Raises:
        DataError: If these are not probabilities, or do not determine one stationary
            distribution.
    """

    # Any shape here: __post_init__ raises DataError for a wrong one.
    transitions: Float[Tensor, "..."]

    def __post_init__(self) -> None:
        shape, dtype = tuple(self.transitions.shape), self.transitions.dtype
        if len(shape) != 3 or shape[1] != shape[2] or 0 in shape or dtype != torch.float64:
            raise DataError(
                "transitions must be float64 of shape (token, state, state), got "
                f"{dtype} of shape {shape}"
            )
        rows = self.transitions.sum(dim=(0, 2))
        # Written so that NaN is refused too.
        if not ((self.transitions >= 0).all() and ((rows - 1).abs() <= ROUNDING).all()):
            raise DataError(
                "transitions must be at least 0 and sum to 1 over tokens and next states, got "
                f"a least entry of {float(self.transitions.min()):g} and sums {rows.tolist()}"
            )
        # As many stationary distributions as states from which there is no way between.
        drift = torch.eye(shape[1], dtype=torch.float64) - self.next_state
        rank = int(torch.linalg.matrix_rank(drift))
        if rank < shape[1] - 1:
            raise DataError(
                f"transitions must have one stationary distribution, got {shape[1] - rank}: some "
                "states are never reached from others. Split the process"
            )

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return self.transitions.shape[0]

    @property
    def next_state(self) -> Float[Tensor, "state state"]:
        """The matrix S: probability of going to j from i, whatever is emitted."""
        return self.transitions.sum(dim=0)

    @property
    def emission(self) -> Float[Tensor, "state token"]:
        """Probability of emitting x from state i: T(x) 1."""
        return self.transitions.sum(dim=2).T

    @cached_property
    def stationary(self) -> Float[Tensor, " state"]:
        """The distribution of the state that transitions leave as it is, float64.

        >>> [round(p, 4) for p in mess3().stationary.tolist()]
        [0.3333, 0.3333, 0.3333]
        """
        return stationary(self.next_state)

    def sample(self, n: int, length: int, generator: torch.Generator) -> TokenIds:
        """Draw token sequences, each from the stationary distribution on.

        Args:
            n: Number of sequences.
            length: Tokens of each.
            generator: Source of randomness.

        Returns:
            Token ids, shape (n, length), int64.
        """
        n_states = len(self.stationary)
        outcomes = self.transitions.transpose(0, 1).reshape(n_states, -1)  # (token, next state)
        state = _draw(self.stationary[None].expand(n, -1), generator)
        tokens = torch.empty(n, length, dtype=torch.int64)
        for position in range(length):
            drawn = _draw(outcomes[state], generator)
            tokens[:, position], state = drawn // n_states, drawn % n_states
        return tokens

    def beliefs(self, token_ids: TokenIds) -> Float[Tensor, "batch pos state"]:
        """Return the distribution of the state after each token, given it and all before.

        Args:
            token_ids: Token ids, shape (batch, pos).

        Returns:
            Beliefs, shape (batch, pos, state), float64; each sums to 1.

        Raises:
            DataError: If a token is none of the process, or cannot follow those before it.

        >>> mess3().beliefs(torch.tensor([[0]]))
        tensor([[[0.8500, 0.0750, 0.0750]]], dtype=torch.float64)
        """
        if token_ids.numel() and not 0 <= token_ids.min() <= token_ids.max() < self.n_tokens:
            raise DataError(
                f"token ids must be in 0..{self.n_tokens - 1}, got "
                f"{int(token_ids.min())}..{int(token_ids.max())}"
            )
        belief = self.stationary.expand(len(token_ids), -1)
        beliefs = []
        for position, token in enumerate(token_ids.unbind(dim=1)):
            joint = (belief[:, None] @ self.transitions[token])[:, 0]
            probability = joint.sum(dim=1, keepdim=True)
            if (probability <= 0).any():
                row = int((probability[:, 0] <= 0).nonzero()[0])
                raise DataError(
                    f"sequence {row} has probability 0: token {int(token[row])} at position "
                    f"{position} cannot follow those before it"
                )
            belief = joint / probability
            beliefs.append(belief)
        return torch.stack(beliefs, dim=1)

    def future(
        self, belief: Float[Tensor, "*any state"], offset: int
    ) -> Float[Tensor, "*any token"]:
        """Return the best prediction of the token `offset` ahead: η S^{offset-1} T(x) 1.

        Args:
            belief: Distributions over states, shape (..., state), float64.
            offset: 1 is the next token.

        Returns:
            Probabilities, shape (..., token), float64.

        Raises:
            DataError: If the offset is below 1.

        Where the state is known, 0.9 · 0.85 + 0.1 · 0.075:

        >>> mess3().future(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), 1)
        tensor([0.7725, 0.1138, 0.1138], dtype=torch.float64)
        """
        if offset < 1:
            raise DataError(f"offset must be at least 1, got {offset}")
        between: Tensor = torch.linalg.matrix_power(self.next_state, offset - 1)
        return belief @ between @ self.emission

    def nats(self, token_ids: TokenIds, offset: int) -> Float[Tensor, "batch positions"]:
        """Return the cross-entropy of the best prediction at each position that has a target.

        No readout that sees the tokens up to t alone has a lower expectation; on the same
        sequences the difference of the means is what a readout misses.

        Args:
            token_ids: Token ids, shape (batch, pos).
            offset: 1 <= offset < pos; 1 is the next token.

        Returns:
            -log P(x_{t+offset} | x_≤t) in nats, shape (batch, pos - offset), float64.

        Raises:
            DataError: If no position has a target, or the process cannot emit the tokens.
        """
        length = token_ids.shape[1]
        if not 1 <= offset < length:
            raise DataError(
                f"offset must be in 1..{length - 1} for sequences of {length} tokens, got {offset}"
            )
        probs = self.future(self.beliefs(token_ids)[:, :-offset], offset)
        return -probs.gather(2, token_ids[:, offset:, None])[:, :, 0].log()


def mess3(x: float = 0.05, a: float = 0.85) -> HiddenMarkov:
    """Return Mess3: three states, three tokens, beliefs on a fractal in the triangle.

    From state i the next state is j with probability 1 - 2x if j = i, else x; the token
    shows the next state with probability a, else one of the others.

    Args:
        x: Probability of each change of state, 0 to 1/2.
        a: Probability that the token shows the state, 0 to 1.

    Raises:
        DataError: If these give no probabilities.

    Source: Shai et al. (2024), whose matrices have the entries .765, .0675, .0425 and
    .00375; these are the defaults.

    >>> 100 * mess3().transitions[0]
    tensor([[76.5000,  0.3750,  0.3750],
            [ 4.2500,  6.7500,  0.3750],
            [ 4.2500,  0.3750,  6.7500]], dtype=torch.float64)
    """
    eye = torch.eye(3, dtype=torch.float64)
    moves = x + (1 - 3 * x) * eye
    shows = (1 - a) / 2 + (a - (1 - a) / 2) * eye
    return HiddenMarkov(moves * shows[:, None])


def _draw(probs: Float[Tensor, "n outcome"], generator: torch.Generator) -> Int[Tensor, " n"]:
    """Draw an outcome for each row, several times faster than `multinomial` does."""
    cumulative = probs.cumsum(dim=1)
    # The end is then 1 exactly, which no uniform draw reaches.
    cumulative = cumulative / cumulative[:, -1:]
    uniform = torch.rand(len(probs), 1, dtype=torch.float64, generator=generator)
    return (cumulative <= uniform).sum(dim=1)
