"""Tiny random models of many architectures, built from configurations, no network."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import transformers as hf
from transformers import PreTrainedModel

VOCABULARY = 97
WINDOW = 8

SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
GPT_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def _without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in SHAPE.items() if key not in keys}


CONFIGS: dict[str, Callable[[], hf.PretrainedConfig]] = {
    "llama": lambda: hf.LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "gpt2": lambda: hf.GPT2Config(**GPT_SHAPE),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**_without("num_key_value_heads")),
    "gptj": lambda: hf.GPTJConfig(**GPT_SHAPE, rotary_dim=4, tie_word_embeddings=False),
    "qwen2": lambda: hf.Qwen2Config(**SHAPE),
    "qwen3": lambda: hf.Qwen3Config(**SHAPE, head_dim=8),
    "mistral": lambda: hf.MistralConfig(**SHAPE, sliding_window=WINDOW),
    "gemma2": lambda: hf.Gemma2Config(
        **SHAPE, head_dim=8, sliding_window=WINDOW, final_logit_softcapping=5.0
    ),
    "gemma3": lambda: hf.Gemma3TextConfig(
        **SHAPE,
        head_dim=8,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
    "opt": lambda: hf.OPTConfig(
        **_without("intermediate_size", "num_key_value_heads") | {"pad_token_id": 1},
        ffn_dim=48,
        word_embed_proj_dim=32,
    ),
    "opt-projected": lambda: hf.OPTConfig(
        **_without("intermediate_size", "num_key_value_heads") | {"pad_token_id": 1},
        ffn_dim=48,
        word_embed_proj_dim=16,
        do_layer_norm_before=False,
    ),
    "phi": lambda: hf.PhiConfig(**SHAPE | {"num_key_value_heads": 4}),
    "bloom": lambda: hf.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=32, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0
    ),
    "falcon": lambda: hf.FalconConfig(
        **_without("intermediate_size", "num_key_value_heads"), alibi=False
    ),
    "falcon-alibi": lambda: hf.FalconConfig(
        **_without("intermediate_size", "num_key_value_heads"), alibi=True
    ),
    "olmo2": lambda: hf.Olmo2Config(**SHAPE),
    "cohere": lambda: hf.CohereConfig(**SHAPE, logit_scale=0.0625),
    "granite": lambda: hf.GraniteConfig(**SHAPE, logits_scaling=8.0, embedding_multiplier=12.0),
    "mamba": lambda: hf.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3, state_size=4,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    ),
}  # fmt: skip


# Four that are built in as many ways; what holds for them is rarely wrong for others.
DISTINCT = ("llama", "gpt2", "gpt_neox", "gemma2")


def each(names: Iterable[str] = CONFIGS, quick: Iterable[str] = DISTINCT) -> list[Any]:
    """Return names to parametrize a test by; all but the quick ones are left to slow tests."""
    chosen = set(quick)
    return [n if n in chosen else pytest.param(n, marks=pytest.mark.slow) for n in sorted(names)]


def build(name: str, seed: int = 0) -> PreTrainedModel:
    """Return a random model whose distributions are far from uniform, in float32, to be read."""
    torch.manual_seed(seed)
    config = CONFIGS[name]()
    model: PreTrainedModel = hf.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Random biases and norms too: what is zero or one at the start hides mistakes.
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.float().eval()
    return model
