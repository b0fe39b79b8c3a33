"""Random models with multi-token layers of their own."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import transformers as hf
from transformers import PreTrainedModel
from transformers.modeling_layers import MtpModel

from probekit.heads.native import NativeHeads
from probekit.models.anatomy import find_anatomy
from support.architectures import SHAPE

EXPERTS: dict[str, Any] = {
    "moe_intermediate_size": 16, "num_experts_per_tok": 2, "tie_word_embeddings": False,
}  # fmt: skip
CONFIGS: dict[str, Callable[[], hf.PretrainedConfig]] = {
    "deepseek_v3": lambda: hf.DeepseekV3Config(
        **SHAPE | {"num_key_value_heads": 4}, **EXPERTS, first_k_dense_replace=1,
        n_routed_experts=4, n_group=1, topk_group=1, q_lora_rank=8, kv_lora_rank=8,
        qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8, num_mtp_layers=2,
    ),
    "glm4_moe": lambda: hf.Glm4MoeConfig(  # type: ignore[call-arg]
        **SHAPE, **EXPERTS, first_k_dense_replace=1, n_routed_experts=4, n_group=1, topk_group=1,
        head_dim=8, num_mtp_layers=2,
    ),
    "mellum": lambda: hf.MellumConfig(
        **SHAPE, **EXPERTS, num_experts=4, head_dim=8, num_mtp_layers=1, sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
}  # fmt: skip


@cache
def make(name: str) -> NativeHeads:
    """Return the heads that a random model of this kind brings along."""
    torch.manual_seed(0)
    model: PreTrainedModel = hf.AutoModelForCausalLM.from_config(CONFIGS[name]())
    brought = MtpModel(model, model.config.num_mtp_layers)
    with torch.no_grad():
        for parameter in [*model.parameters(), *brought.layers.parameters()]:
            # Not added to: transformers leaves the experts of such layers as they were in memory.
            parameter.copy_(torch.randn_like(parameter) * 0.2)
        for key, buffer in [*model.named_buffers(), *brought.layers.named_buffers()]:
            if key.endswith("e_score_correction_bias"):
                buffer.zero_()
    model.float().eval()
    return NativeHeads(model, find_anatomy(model), brought.float().eval())
