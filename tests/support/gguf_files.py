"""GGUF files of small Llamas, as llama.cpp writes them."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers import LlamaForCausalLM

# Names of weights in a file, by those of transformers.
NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "model.layers": "blk", "model.embed_tokens": "token_embd",
    "model.norm": "output_norm", "lm_head": "output",
}  # fmt: skip


def write(
    model: LlamaForCausalLM, tokenizer: Any, path: Path, kind: str = "F32", pre: str = "default"
) -> Path:
    """Write a model and its byte-level BPE tokenizer; matrices in a kind that gguf has."""
    config: Any = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer, config.vocab_size, pre)
    for name, weight in model.state_dict().items():
        if not (config.tie_word_embeddings and name == "lm_head.weight"):
            _add_tensor(writer, config, name, weight.float().numpy(), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: Any, tokenizer: Any, size: int, pre: str) -> None:
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    names = {number: token for token, number in tokenizer.get_vocab().items()}
    special = set(tokenizer.added_tokens_decoder)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([names.get(n, f"[PAD{n}]") for n in range(size)])
    writer.add_token_types([control if n in special else normal for n in range(size)])
    merges = bpe["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)


def _add_tensor(writer: Any, config: Any, name: str, weight: Any, kind: str) -> None:
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, n_heads in heads.items():
        if part in name:  # llama.cpp turns neighbours, transformers halves
            halves = weight.reshape(n_heads, 2, len(weight) // n_heads // 2, -1)
            weight = halves.swapaxes(1, 2).reshape(weight.shape)
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    kind = kind if weight.ndim == 2 else "F32"
    kind = kind if kind == "F32" or weight.shape[1] % 32 == 0 else "F32"
    raw = gguf.GGMLQuantizationType[kind]
    packed = gguf.quantize(np.ascontiguousarray(weight), raw)
    writer.add_tensor(name, packed, raw_dtype=raw)
