"""Markov chains: text of which every offset has a closed form, and a model that knows it.

The chance of a token k ahead is a row of a power: P(x_{t+k} given the state at t) = S^{k-1} P,
where the state is the last one or two tokens, S leads from state to state and P to tokens.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaForCausalLM

from probekit.errors import DataError, SettingsError
from probekit.pipelines.calibration import llama_weights
from probekit.shapes import TokenIds

# Rounding of a few float64 sums, far below any probability that is meant.
ROUNDING = 1e-9
# A model cannot say 0: float32's least normal number, -87.3 nats, stands for it, as it does
# where losses are computed.
ZERO = torch.finfo(torch.float32).tiny


def stationary(next_state: Float[Tensor, "state state"]) -> Float[Tensor, " state"]:
    """Return the distribution of states that transitions leave as it is, float64.

    Args:
        next_state: Probability of the next state by state; one stationary distribution.

    >>> stationary(torch.tensor([[0.5, 0.5], [0.25, 0.75]]).double()).tolist()
    [0.333..., 0.666...]
    """
    n = len(next_state)
    drift = torch.eye(n, dtype=torch.float64) - next_state
    # Adding 1 everywhere fixes the sum: π (I - S + 1) = 1, a row of ones.
    probs: Tensor = torch.linalg.solve((drift + 1).T, torch.ones(n, dtype=torch.float64))
    # A state that is never entered comes out as 0 up to rounding, of either sign.
    return probs.clamp_min(0)


@dataclass(frozen=True)
class Exact:
    """Cross-entropies and accuracies of the best readouts of one offset, on endless text.

    Attributes:
        nats: Cross-entropy of the best readout that sees all tokens up to t: H(x_{t+k} | x_≤t).
        unigram_nats: Of the best that sees none: H(x_{t+k}).
        skip_bigram_nats: Of the best that sees one token: H(x_{t+k} | x_t).
        bits: Information of all tokens up to t: (unigram_nats - nats) / ln 2.
        top1: Accuracy of the best readout that sees all tokens up to t.
        top5: Its share of targets among its first five.
    """

    nats: float
    unigram_nats: float
    skip_bigram_nats: float
    bits: float
    top1: float
    top5: float


@dataclass(frozen=True, eq=False)
class MarkovChain:
    """Stationary text in which the next token depends on the last one or two.

    Attributes:
        transition: Probabilities of the next token by the last one or two, the oldest first,
            shape (token, token) or (token, token, token), float64; zeros are allowed.

    Raises:
        DataError: If these are not probabilities, or have several stationary distributions.
    """

    transition: Float[Tensor, "*history token"]

    def __post_init__(self) -> None:
        probs, shape = self.transition, tuple(self.transition.shape)
        if len(shape) not in (2, 3) or len(set(shape)) != 1 or probs.dtype != torch.float64:
            raise DataError(
                "transition must be float64 of shape (token, token) or (token, token, token), got "
                f"{probs.dtype} of shape {shape}"
            )
        # Written so that NaN is refused too.
        if not ((probs >= 0).all() and ((probs.sum(-1) - 1).abs() <= ROUNDING).all()):
            raise DataError(
                "transition must be at least 0 and sum to 1 over the last axis, got a least entry "
                f"of {float(probs.min()):g} and sums {probs.sum(-1).tolist()}"
            )
        n_states = len(self.next_state)
        rank = int(torch.linalg.matrix_rank(self._drift))
        if rank < n_states - 1:
            raise DataError(
                f"transition must have one stationary distribution, got {n_states - rank}: some "
                "tokens are never reached from others. Split the chain"
            )

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return self.transition.shape[-1]

    @property
    def order(self) -> int:
        """Number of tokens that the next one depends on: 1 or 2."""
        return self.transition.ndim - 1

    @property
    def unscored(self) -> int:
        """Positions at the start of a sequence at which the model lacks tokens it needs."""
        return self.order - 1

    @property
    def emission(self) -> Float[Tensor, "state token"]:
        """Probability of the next token by state: the last `order` tokens, the oldest first."""
        return self.transition.flatten(0, -2)

    @cached_property
    def next_state(self) -> Float[Tensor, "state state"]:
        """Probability of the next state by state."""
        states = torch.arange(len(self.emission))[:, None]
        entered = (states * self.n_tokens + torch.arange(self.n_tokens)) % len(states)
        return torch.zeros(len(states), len(states), dtype=torch.float64).scatter_(
            1, entered, self.emission
        )

    @cached_property
    def stationary(self) -> Float[Tensor, " state"]:
        """The distribution of the state that transitions leave as it is, float64.

        >>> MarkovChain(torch.tensor([[0.875, 0.125], [0.375, 0.625]]).double()).stationary.tolist()
        [0.75, 0.25]
        """
        return stationary(self.next_state)

    @property
    def _drift(self) -> Tensor:
        return torch.eye(len(self.next_state), dtype=torch.float64) - self.next_state

    def states(self, token_ids: TokenIds) -> Int[Tensor, "batch pos"]:
        """Return the state at each position, an index into `conditional`.

        The token before the first is taken to be the first, as the model does.
        """
        if self.order == 1:
            return token_ids
        before = torch.cat([token_ids[:, :1], token_ids[:, :-1]], dim=1)
        return before * self.n_tokens + token_ids

    def conditional(self, offset: int) -> Float[Tensor, "state token"]:
        """Return P(x_{t+k} given the state at t), shape (state, token), float64.

        Raises:
            SettingsError: If the offset is not at least 1.

        >>> chain = MarkovChain(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double())
        >>> chain.conditional(3).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
        """
        if offset < 1:
            raise SettingsError(f"offset must be 1 or more, got {offset}")
        between: Tensor = torch.linalg.matrix_power(self.next_state, offset - 1)
        return between @ self.emission

    def exact(self, offset: int) -> Exact:
        """Return cross-entropies and accuracies of the best readouts of an offset.

        Raises:
            SettingsError: If the offset is not at least 1.

        >>> chain = MarkovChain(torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double())
        >>> chain.exact(2)  # two tokens in turn: one bit, foreseen for ever
        Exact(nats=0.0, unigram_nats=0.6931..., skip_bigram_nats=0.0, bits=1.0, top1=1.0, top5=1.0)
        """
        probs = self.conditional(offset)
        joint = self.stationary[:, None] * probs
        best = probs.topk(min(5, self.n_tokens), dim=1).values
        # The last token of a state is its index modulo the number of tokens.
        by_token = joint.view(-1, self.n_tokens, self.n_tokens).sum(dim=0)
        nats, unigram_nats = _conditional_nats(joint), _conditional_nats(joint.sum(0)[None])
        return Exact(
            nats=nats,
            unigram_nats=unigram_nats,
            skip_bigram_nats=_conditional_nats(by_token),
            bits=(unigram_nats - nats) / math.log(2),
            top1=float(self.stationary @ best[:, 0]),
            top5=float(self.stationary @ best.sum(dim=1)),
        )

    def sample(self, n: int, length: int, generator: torch.Generator) -> TokenIds:
        """Draw token sequences, each from the stationary distribution on.

        Args:
            n: Number of sequences.
            length: Tokens of each.
            generator: Source of randomness.

        Returns:
            Token ids, shape (n, length), int64.
        """
        state = _draw(self.stationary.expand(n, -1), generator)
        tokens = [state % self.n_tokens]
        while len(tokens) < length:
            token = _draw(self.emission[state], generator)
            state = (state * self.n_tokens + token) % len(self.emission)
            tokens.append(token)
        return torch.stack(tokens, dim=1)

    def model(self) -> LlamaForCausalLM:
        """Return a model whose next-token distribution is exactly the chain's.

        A probability of 0 becomes 1e-38. Of order 2, the token before the first is taken to be
        the first: only the predictions at position 0 are not those of the text.
        """
        return llama_weights.markov(self.transition.clamp_min(ZERO).log())


def _conditional_nats(joint: Float[Tensor, "state token"]) -> float:
    """Return the entropy of the token given the state: H(joint) - H(state)."""
    return float(torch.special.entr(joint).sum() - torch.special.entr(joint.sum(dim=1)).sum())


def _draw(probs: Float[Tensor, "n outcome"], generator: torch.Generator) -> Int[Tensor, " n"]:
    return torch.multinomial(probs, 1, generator=generator)[:, 0]
