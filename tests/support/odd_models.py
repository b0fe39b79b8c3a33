"""Tiny random models that are built as few others are; each from its configuration."""

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from transformers import PreTrainedModel

from support.architectures import SHAPE, VOCABULARY

CAP = 5.0
SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3}
ENDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
# Those that take images too.
SEEING = ("qwen2-vl", "llava")
CONVOLVED = ["conv", "full_attention", "conv"]
IMAGES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "patch_size": 4}
ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

ODD: dict[str, Callable[[], hf.PretrainedConfig]] = {
    "lfm2": lambda: hf.Lfm2Config(**SHAPE, layer_types=CONVOLVED),
    "lfm2-moe": lambda: hf.Lfm2MoeConfig(
        **SHAPE, **EXPERTS, layer_types=CONVOLVED, num_dense_layers=1
    ),
    "recurrent-gemma": lambda: hf.RecurrentGemmaConfig(
        **SMALL, **ENDS, intermediate_size=96, num_attention_heads=4, num_key_value_heads=1,
        lru_width=32, attention_window_size=8, logits_soft_cap=CAP,
    ),
    "xlstm": lambda: hf.xLSTMConfig(**SMALL, **ENDS, num_heads=4, output_logit_soft_cap=CAP),
    "minicpm3": lambda: hf.MiniCPM3Config(
        **SHAPE | {"num_key_value_heads": 4}, q_lora_rank=16, kv_lora_rank=8, qk_nope_head_dim=8,
        qk_rope_head_dim=4, v_head_dim=8, dim_model_base=8,
    ),
    "qwen2-vl": lambda: hf.Qwen2VLConfig(
        text_config={**SHAPE, "rope_parameters": ROPE},
        vision_config={"depth": 2, "embed_dim": 32, "num_heads": 2, **IMAGES},
    ),
    "llava": lambda: hf.LlavaConfig(
        text_config=hf.LlamaConfig(**SHAPE),
        vision_config=hf.CLIPVisionConfig(
            **IMAGES, num_hidden_layers=3, num_attention_heads=2, image_size=16
        ),
    ),
}  # fmt: skip


def build(name: str) -> PreTrainedModel:
    """Return a random model whose distributions are far from uniform, in float32, to be read."""
    torch.manual_seed(0)
    kind: Any = hf.AutoModelForImageTextToText if name in SEEING else hf.AutoModelForCausalLM
    model: PreTrainedModel = kind.from_config(ODD[name]())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.float().eval()
    return model
