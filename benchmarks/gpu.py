"""What one device takes for the main job at the shape of a large model.

    python benchmarks/gpu.py [--shape llama-1b] [--tokens 200000] [--offsets 4]

Random weights, and tokens that follow from the one before with a chance of one half, else by
Zipf's law: what a pass costs depends on the shape alone. Prints seconds of capture, fit and
scoring, the share of the rate at which this device multiplies in this process, the memory beside
the plan's, and a profile of the fit. Nothing is read or downloaded; transformer_lens is not used.
"""

import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from probekit.activations.residual_stream import stream
from probekit.data.blocks import Blocks
from probekit.data.targets import text_targets
from probekit.models.anatomy import find_anatomy
from probekit.models.devices import resolve_device
from probekit.probes import linear
from probekit.probes.probe import Examples
from probekit.runs import plan
from probekit.scoring.losses import product_dtype
from probekit.scoring.score import score
from probekit.shapes import TokenIds

BLOCK = 256
# Train, validation and test, of ten.
TENTHS = 6, 2, 2
# Width, MLP, blocks, heads, key-value heads, vocabulary.
SHAPES = {
    "llama-1b": (2048, 8192, 16, 32, 8, 128_256),
    "llama-8b": (4096, 14_336, 32, 32, 8, 128_256),
    "smol": (576, 1536, 30, 9, 3, 49_152),
    "wide": (1024, 1024, 2, 8, 8, 512),
    "tiny": (64, 160, 2, 4, 4, 2_048),
}
# Rows and columns of the products that the device's rate is taken from.
SQUARE, SQUARE_ON_CPU = 8192, 1024


def build(shape: str, device: torch.device) -> PreTrainedModel:
    """Return a random Llama, in bfloat16 on an accelerator."""
    torch.manual_seed(0)
    width, mlp, n_layers, heads, kv_heads, vocabulary = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=n_layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=True,
        dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
    )
    with device:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    model.eval().requires_grad_(requires_grad=False)
    return model


def text(n_tokens: int, vocabulary: int) -> TokenIds:
    """Return blocks of tokens, half of which follow from the one before."""
    draws = torch.Generator().manual_seed(0)
    shape = max(10, n_tokens // BLOCK), BLOCK
    weights = 1 / torch.arange(1, vocabulary + 1)
    ids = weights.multinomial(shape[0] * BLOCK, replacement=True, generator=draws).view(shape)
    follows = torch.rand(shape, generator=draws) < 0.5
    for at in range(1, BLOCK):
        after = (ids[:, at - 1] * 7 + 3) % vocabulary
        ids[:, at] = torch.where(follows[:, at], after, ids[:, at])
    return ids


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long work takes, until the device is done with it."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def rate(device: torch.device) -> float:
    """Return the operations a second of products in the dtype of the fit."""
    side = SQUARE_ON_CPU if device.type == "cpu" else SQUARE
    left = torch.randn(side, side, device=device, dtype=product_dtype(device))
    return 2 * side**3 / min(seconds(lambda: left @ left, device) for _ in range(10))


class Job:
    """The main job on one device: capture, fit, score."""

    def __init__(self, shape: str, n_tokens: int, offsets: int, device: torch.device) -> None:
        self.device, self.offsets = device, offsets
        self.model = build(shape, device)
        self.anatomy = find_anatomy(self.model)
        self.layers = range(self.anatomy.n_layers + 1)
        self.ids = text(n_tokens, self.anatomy.vocab_size)
        n_blocks = len(self.ids)
        self.plan = plan.make(self.anatomy, n_blocks, BLOCK, self.layers, offsets)
        cuts = [n_blocks * tenths // sum(TENTHS) for tenths in TENTHS]
        cuts[0] += n_blocks - sum(cuts)
        self.parts = [self._part(ids) for ids in self.ids.split(cuts)]
        self.test_documents = _documents(self.ids[-cuts[-1] :])

    def _part(self, ids: TokenIds) -> Examples:
        store = "memory" if self.plan.store == "disk" else self.plan.store
        read = stream(
            self.model, self.anatomy, ids, self.layers, batch_size=self.plan.batch_size, store=store
        )
        return read, text_targets(Blocks(ids, _documents(ids)), self.offsets)

    def forward(self) -> None:
        """Run the bare model over all tokens, without logits."""
        with torch.no_grad():
            for ids in self.ids.split(self.plan.batch_size):
                self.anatomy.decoder(input_ids=ids.to(self.device), use_cache=False)

    def capture(self) -> None:
        """Keep every layer of all tokens."""
        for read, _ in self.parts:
            for _ in read:
                pass

    def fit(self) -> None:
        """Fit every cell."""
        self.probes = linear.fit(self.parts[0], self.parts[1], self.anatomy, self.layers)

    def score(self) -> None:
        """Score every cell on the test part."""
        read, targets = self.parts[2]
        score([self.probes], read, targets, {"all": targets.valid[1]}, self.test_documents)


def _documents(ids: TokenIds) -> Tensor:
    return torch.arange(len(ids))[:, None].expand(ids.shape)


def main(
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}.")] = "llama-1b",
    tokens: Annotated[int, typer.Option(help="Tokens of the text.")] = 200_000,
    offsets: Annotated[int, typer.Option(help="The horizon.")] = 4,
) -> None:
    """Print the table and the profile."""
    device = torch.device(resolve_device("auto"))
    peak = rate(device)
    job = Job(shape, tokens, offsets, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{shape} on {name}, {job.ids.numel():,} tokens, products {peak / 1e12:,.2f} Tflop/s")
    print(job.plan.line(), end="\n\n")
    print("| what | seconds | share of the rate |\n|---|---|---|", flush=True)
    for work in (job.forward, job.capture, job.fit, job.score):
        with FlopCounterMode(display=False) as counter:
            taken = seconds(work, device)
        share = counter.get_total_flops() / taken / peak
        print(f"| {work.__name__} | {taken:,.1f} | {share:.0%} |", flush=True)
    print(f"\n{job.probes.n_passes} passes; {_memory(job, device)}\n")
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA][: device.type == "cuda"]]
    job.layers, job.offsets = range(job.anatomy.n_layers, job.anatomy.n_layers + 1), 1
    with profile(activities=activities) as profiled:
        job.fit()
    order = f"self_{device.type}_time_total"
    print(f"The fit of layer {job.layers[0]} alone:")
    print(profiled.key_averages().table(sort_by=order, row_limit=12, max_name_column_width=40))


def _memory(job: Job, device: torch.device) -> str:
    if device.type != "cuda":
        return "memory is measured on an accelerator alone"
    seen, weights = torch.cuda.max_memory_allocated(device), job.model.get_memory_footprint()
    planned = weights + job.plan.fit_bytes
    planned += job.plan.store_bytes if job.plan.store == "device" else 0
    return f"memory {seen / 2**30:,.1f} GiB, planned {planned / 2**30:,.1f} GiB with the weights"


if __name__ == "__main__":
    typer.run(main)
