"""Small Llamas trained on hidden Markov processes until they predict almost as well as one can."""

import math

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from probekit.pipelines.calibration.hidden_markov import HiddenMarkov

WARMUP = 100
MOMENTUM = (0.9, 0.98)


def next_token_nats(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Return the cross-entropy at each position that has a next token, (batch, pos - 1)."""
    wanted = token_ids[:, 1:]
    return nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), wanted, reduction="none")


def trained(process: HiddenMarkov, length: int, n_layers: int, steps: int) -> LlamaForCausalLM:
    """Return a model of width 64 trained on fresh samples, 64 sequences a step, no BOS."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=process.n_tokens,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=n_layers,
            num_attention_heads=4,
            max_position_embeddings=length,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    draw = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=MOMENTUM)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / WARMUP, 1) * (1 + math.cos(math.pi * step / steps)) / 2,
    )
    for token_ids in process.sample(64 * steps, length, draw).split(64):
        logits = model(token_ids, use_cache=False).logits
        optimizer.zero_grad()
        next_token_nats(logits, token_ids).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    return model
