"""What capturing every layer costs, against the bare forward pass of the same model.

    python benchmarks/capture.py

A random Llama of 28 million parameters reads the same tokens in four ways, turn by turn in
one process; each way's time is given as a multiple of the bare pass of its own round, as the
median over rounds with the range of the middle half.
"""

import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import typer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from probekit.activations import residual_stream
from probekit.models.anatomy import find_anatomy

VOCABULARY = 4_096
BLOCKS, BLOCK = 8, 256


def build() -> PreTrainedModel:
    """Return a random Llama of 28 million parameters in float32."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def ways(model: PreTrainedModel, token_ids: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return the ways by name; the bare pass computes no logits, as capture does not."""
    anatomy = find_anatomy(model)
    stream = residual_stream.stream(
        model, anatomy, token_ids, range(anatomy.n_layers + 1), batch_size=len(token_ids)
    )

    def bare() -> None:
        with torch.no_grad():
            anatomy.decoder(input_ids=token_ids, use_cache=False)

    def output_hidden_states() -> None:
        with torch.no_grad():
            anatomy.decoder(input_ids=token_ids, use_cache=False, output_hidden_states=True)

    return {
        "bare forward pass, no logits": bare,
        "probekit, all layers": lambda: list(stream),
        "output_hidden_states": output_hidden_states,
        "with logits": lambda: model(input_ids=token_ids, use_cache=False).logits.shape,
    }


def main(rounds: Annotated[int, typer.Option(help="Rounds.")] = 15) -> None:
    """Print the table."""
    model = build().requires_grad_(requires_grad=False)
    token_ids = torch.randint(VOCABULARY, (BLOCKS, BLOCK))
    timed = ways(model, token_ids)
    seconds = {name: np.empty(rounds) for name in timed}
    for run in timed.values():
        run()
    for turn in range(rounds):
        for name, run in timed.items():
            start = time.perf_counter()
            run()
            seconds[name][turn] = time.perf_counter() - start
    reference = seconds["bare forward pass, no logits"]
    print("| way | / bare, median | middle half |\n|---|---|---|")
    for name, taken in seconds.items():
        low, middle, high = np.quantile(taken / reference, [0.25, 0.5, 0.75])
        print(f"| {name} | {middle:.3f} | {low:.3f} to {high:.3f} |")


if __name__ == "__main__":
    typer.run(main)
