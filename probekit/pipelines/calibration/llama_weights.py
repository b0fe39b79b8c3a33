"""Models written into the weights of a Llama, so that what they predict is known.

The residual stream is cut into slots. A slot holds one of its symbols, as a one, or nothing,
for which it has a coordinate of its own: its squared norm is 1 at every position and layer, so
the norms do nothing, and every value in the stream is exactly 0 or 1, in float32 on a CPU. The
first slot, `current`, holds the token from the embedding on. What is written is of two kinds:

    a head      copies a slot of the previous position into an empty slot
    a neuron    where all of some coordinates are one, replaces a slot's symbol by another

Blocks without either add zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from probekit.errors import SettingsError
from probekit.shapes import Logits

# Tokens that a model takes: how far a head is checked to see the previous position alone.
LONGEST = 512
# The previous position's score is this far above any other's. Beyond 104 nats float32 gives
# the others an attention of exactly 0.
LEAD_NATS = 110.0
# Half of it enters SiLU, which then is the identity or exactly 0: exp(-128) underflows.
GATE = 256.0
# Frequencies of a head, at least 1 in angle for the first; eight tell positions apart.
LEAST_HEAD = 16
ROPE_THETA = 100.0


@dataclass(frozen=True)
class Slot:
    """Coordinates of the residual stream that hold one symbol, or nothing.

    Attributes:
        start: First coordinate.
        size: Number of symbols.
    """

    start: int
    size: int

    @property
    def symbols(self) -> slice:
        """The coordinates of the symbols; the one behind them stands for nothing."""
        return slice(self.start, self.nothing)

    @property
    def nothing(self) -> int:
        """The coordinate that is one where the slot holds no symbol."""
        return self.start + self.size


def slots(*sizes: int) -> tuple[Slot, ...]:
    """Return slots of so many symbols, one behind the other.

    >>> slots(3, 2)
    (Slot(start=0, size=3), Slot(start=4, size=2))
    """
    starts = [sum(sizes[:i]) + i for i in range(len(sizes))]
    return tuple(Slot(start, size) for start, size in zip(starts, sizes, strict=True))


@torch.no_grad()
def markov(log_probs: Float[Tensor, "*history token"]) -> LlamaForCausalLM:
    """Write a model whose next token depends on the last one or two.

    Of one token: the unembedding holds `log_probs`. Of two: a head copies the previous token,
    a neuron for each pair writes the pair, the unembedding reads it; the token before the
    first is taken to be the first.

    Args:
        log_probs: Log-probabilities of the next token by the last one or two tokens, the
            oldest first, shape (token, token) or (token, token, token); finite.

    Returns:
        A model of one block, float32, in eval mode, that takes 512 tokens.
    """
    n_tokens, order = log_probs.shape[-1], log_probs.ndim - 1
    if order == 1:
        (current,) = stream = slots(n_tokens)
        model = _empty(stream, n_tokens, n_layers=1, n_neurons=1)
        _unembed(model, current, log_probs)
        return model
    current, previous, pair = stream = slots(n_tokens, n_tokens, n_tokens**2)
    model = _empty(stream, n_tokens, n_layers=1, n_neurons=n_tokens**2)
    _copy_previous(model, 1, current, previous)
    for index in range(n_tokens**2):
        before, now = divmod(index, n_tokens)
        where = [previous.start + before, current.start + now]
        _write(model, 1, index, where, (pair.nothing, pair.start + index))
    _unembed(model, pair, log_probs.flatten(0, 1))
    return model


def planted_slots(n_tokens: int) -> tuple[Slot, Slot, Slot, Slot]:
    """Return the slots of `planted`: current token, previous token, planted sum, output."""
    current, previous, total, output = slots(*[n_tokens] * 4)
    return current, previous, total, output


def require_order(planted_layer: int, erased_layer: int, n_layers: int) -> None:
    """Raise unless a signal can be written at one of the layers and erased at the other.

    Raises:
        SettingsError: If not 1 <= planted_layer < erased_layer <= n_layers.
    """
    if not 1 <= planted_layer < erased_layer <= n_layers:
        raise SettingsError(
            f"layers must be 1 <= planted < erased <= {n_layers}, the number of blocks, got "
            f"planted {planted_layer}, erased {erased_layer}"
        )


@torch.no_grad()
def planted(
    unembedding: Float[Tensor, "token token"], n_layers: int, planted_layer: int, erased_layer: int
) -> LlamaForCausalLM:
    """Write a model that knows x_t + x_{t-1} at some layers, and uses it one position later.

    Block 1's attention copies the previous token. The MLP of block `planted_layer` writes the
    sum of both tokens, modulo their number, as a symbol of its own. In block `erased_layer`
    attention copies the previous position's sum, x_{t-1} + x_{t-2}, into the output slot, and
    the MLP erases the position's own. The token before the first is taken to be the first.

    Args:
        unembedding: Logits of the next token by the symbol in the output slot, shape (symbol,
            token).
        n_layers: Number of blocks.
        planted_layer: The first layer at which the stream holds the sum, at least 1.
        erased_layer: The first layer at which it no longer does, planted_layer < erased_layer
            <= n_layers.

    Returns:
        A model in float32, in eval mode, that takes 512 tokens.

    Raises:
        SettingsError: If the layers are not in that order.
    """
    require_order(planted_layer, erased_layer, n_layers)
    n_tokens = len(unembedding)
    current, previous, total, output = stream = planted_slots(n_tokens)
    model = _empty(stream, n_tokens, n_layers, n_neurons=n_tokens**2)
    _copy_previous(model, 1, current, previous)
    write_sum(model, planted_layer)
    _copy_previous(model, erased_layer, total, output)
    for index in range(n_tokens):
        symbol = total.start + index
        _write(model, erased_layer, index, [symbol], (symbol, total.nothing))
    _unembed(model, output, unembedding)
    return model


@torch.no_grad()
def write_sum(model: LlamaForCausalLM, layer: int) -> None:
    """Let a block of `planted` write x_t + x_{t-1} into the slot of sums, where that is empty.

    Where it does so once more behind the block that erased it, no later block reads it.

    Args:
        model: A model that `planted` wrote.
        layer: The block, counted from 1, whose MLP writes nothing else.
    """
    n_tokens = model.config.vocab_size
    current, previous, total, _ = planted_slots(n_tokens)
    for index in range(n_tokens**2):
        before, now = divmod(index, n_tokens)
        where = [previous.start + before, current.start + now]
        symbol = total.start + (before + now) % n_tokens
        _write(model, layer, index, where, (total.nothing, symbol))


def _empty(
    stream: Sequence[Slot], n_tokens: int, n_layers: int, n_neurons: int
) -> LlamaForCausalLM:
    """Return a model whose blocks add nothing and whose norms do nothing.

    The mean square of the stream is (number of slots) / width. A power of 1/4 makes its root
    exact, and the norms' weight undoes the division by it.
    """
    shrink = 1
    while 4**shrink * len(stream) <= stream[-1].nothing:
        shrink += 1
    config = LlamaConfig(
        vocab_size=n_tokens,
        hidden_size=4**shrink * len(stream),
        intermediate_size=n_neurons,
        num_hidden_layers=n_layers,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=max(LEAST_HEAD, n_tokens + n_tokens % 2),
        rms_norm_eps=1e-12,  # lost beside the mean square in float32
        max_position_embeddings=LONGEST,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):  # the weights are drawn, then thrown away
        model: LlamaForCausalLM = LlamaForCausalLM(config).float().eval()
    for name, weight in model.named_parameters():
        weight.fill_(0.5**shrink if "norm" in name else 0.0)
    model.requires_grad_(False)
    embedding: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    embedding[:, stream[0].symbols] = torch.eye(n_tokens)
    embedding[:, [slot.nothing for slot in stream[1:]]] = 1.0
    return model


def _copy_previous(model: LlamaForCausalLM, layer: int, source: Slot, target: Slot) -> None:
    """Let a block's head copy `source` of the previous position into the empty `target`.

    Query and key are the same at every position but for their rotation; the query's turns it
    back by one position, so the score of distance m is Σ_i a cos((m - 1) θ_i).
    """
    attention = model.model.layers[layer - 1].self_attn
    angles = model.model.rotary_emb.inv_freq.double()
    away = torch.arange(1, LONGEST)[:, None] * angles
    lead = (1 - away.cos()).sum(dim=1).min()
    query = torch.cat([angles.cos(), -angles.sin()]) * LEAD_NATS / lead / attention.scaling
    # `current` always holds a token: the sum of its symbols is the constant 1.
    current = slice(0, model.config.vocab_size)
    attention.q_proj.weight[:, current] = query.float()[:, None]
    attention.k_proj.weight[: len(angles), current] = 1.0
    attention.v_proj.weight[: source.size, source.symbols] = torch.eye(source.size)
    attention.o_proj.weight[target.symbols, : source.size] = torch.eye(source.size)
    attention.o_proj.weight[target.nothing, : source.size] = -1.0


def _write(
    model: LlamaForCausalLM,
    layer: int,
    neuron: int,
    where: Sequence[int],
    moved: tuple[int, int],
) -> None:
    """Let a neuron of a block's MLP, where all coordinates `where` are one, move another one.

    Args:
        model: The model.
        layer: Block, counted from 1.
        neuron: Index of the neuron.
        where: Coordinates that must all be one.
        moved: The coordinate that turns from one to zero, and that which turns to one.
    """
    mlp = model.model.layers[layer - 1].mlp
    current = slice(0, model.config.vocab_size)
    # GATE / 2 where all hold, -GATE / 2 or less elsewhere.
    mlp.gate_proj.weight[neuron, current] -= GATE * (len(where) - 0.5)
    mlp.gate_proj.weight[neuron, list(where)] += GATE
    mlp.up_proj.weight[neuron, current] = 1.0
    mlp.down_proj.weight[list(moved), neuron] = torch.tensor([-2.0, 2.0]) / GATE


def _unembed(model: LlamaForCausalLM, slot: Slot, logits: Logits) -> None:
    model.lm_head.weight[:, slot.symbols] = logits.float().T
