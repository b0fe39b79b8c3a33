"""Attention whose gradients stay at their own position: myopic training.

In training, a model is also taught by later tokens: the loss at j reaches the states at
i < j through their keys and values. Wu, Morris and Levine (2024, arXiv 2404.00859) cut
that way off: keys and values of past positions are computed from detached states, so that
their weights still learn, and the states do not. The forward pass is unchanged.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    apply_rotary_pos_emb,
    repeat_kv,
)


class MyopicAttention(LlamaAttention):
    """Eager attention without cache or dropout, for training."""

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """Return what eager attention gives, shape (batch, positions, width).

        Args:
            hidden_states: Shape (batch, positions, width).
            position_embeddings: Cosines and sines of the rotation.
            attention_mask: What is added to the scores.
        """
        past = hidden_states.detach()
        query, key = apply_rotary_pos_emb(
            self._by_head(self.q_proj(hidden_states)),
            self._by_head(self.k_proj(hidden_states)),
            *position_embeddings,
        )
        _, past_key = apply_rotary_pos_emb(
            query, self._by_head(self.k_proj(past)), *position_embeddings
        )
        value = self._by_head(self.v_proj(hidden_states))
        past_value = self._by_head(self.v_proj(past))
        # What is added on the diagonal is zero, and brings the live state's gradient.
        own = torch.diag_embed((query * (key - past_key)).sum(-1))
        scores = (query @ past_key.mT + own) * self.scaling + attention_mask
        weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
        at_itself = weights.diagonal(dim1=-2, dim2=-1)[..., None]
        out = weights @ past_value + at_itself * (value - past_value)
        attended: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return attended, None

    def _by_head(self, states: Tensor) -> Tensor:
        heads = states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        return repeat_kv(heads, self.config.num_attention_heads // heads.shape[1])


def make_myopic(blocks: Iterable[LlamaDecoderLayer]) -> None:
    """Train these blocks of a Llama from now on without gradients of later tokens."""
    for block in blocks:
        block.self_attn.__class__ = MyopicAttention
