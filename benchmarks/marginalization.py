"""What packing the branches of marginalization is worth, as ratios within one run.

    python benchmarks/marginalization.py [--tokens 256] [--branches 16] [--rounds 3] [--growth]

A random Llama of 3M parameters, float32; the `branches` most probable next tokens at every
position of one block, each way giving log-probabilities after each of them. The ways take turns
and the best round of each counts: other work on the machine only ever adds time. One by one runs
on every sixteenth position and counts sixteenfold. Memory is the rise of the process's peak
(Linux). With --growth, how the packed way's cost grows with tokens, branches and offset, against
the limit: a bare forward pass for each branch of each position and level.
"""

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import transformers as hf

from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization
from probekit.readout import Seen

VOCABULARY = 2048
THINNING = 16  # one by one at every position would take ten times longer than all else
Way = Callable[[], None]


def random_model(n_tokens: int) -> hf.PreTrainedModel:
    """Return a random Llama of 3M parameters."""
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=n_tokens,
        tie_word_embeddings=True,
    )
    model = hf.LlamaForCausalLM(config)
    model.train(False)
    return model


def branches(engine: BranchEngine, token_ids: torch.Tensor, n: int, step: int = 1) -> None:
    """Grow one level of n branches at every step-th position."""
    prefix = engine.read(token_ids)
    for start in range(0, len(token_ids) - 1, 64 * step):
        positions = torch.arange(start, min(start + 64 * step, len(token_ids) - 1), step)
        tokens = prefix.log_probs(positions).topk(n).indices.flatten()
        parents = torch.arange(len(positions)).repeat_interleave(n)
        for _ in prefix.tree(positions).grow(parents, tokens, keep=False):
            pass


def growth(rounds: int) -> None:
    """Print what marginalizing one block costs as tokens, branches and offset grow."""
    print(
        "| tokens | branches | offset | / (branches x levels x bare forward) | memory added, MiB |"
    )
    print("|---|---|---|---|---|")
    usual = {"n_tokens": 256, "n": 16, "offset": 2}
    axes = {"n_tokens": (128, 256, 512), "n": (4, 16, 64), "offset": (2, 3, 4)}
    cases = [usual | {name: value} for name, values in axes.items() for value in values]
    for case in dict.fromkeys(tuple(case.values()) for case in cases):
        n_tokens, n, offset = case
        model = random_model(n_tokens)
        token_ids = torch.randint(VOCABULARY, (1, n_tokens))
        whole = marginalized(model, token_ids, n, offset)
        limit = bare_forwards(model, token_ids, n * (offset - 1))
        ratios = [seconds(whole) / seconds(limit) for _ in range(rounds)]
        memory = memory_mib(whole)
        print(f"| {n_tokens} | {n} | t+{offset} | {median(ratios):.2f} | {memory:.0f} |")


def marginalized(model: hf.PreTrainedModel, token_ids: torch.Tensor, n: int, offset: int) -> Way:
    """Return the marginalization of every position of a block, up to an offset."""
    readout = Marginalization(BranchEngine(model, "packed"), Truncation("top", max_branches=n))
    valid = {}
    for k in range(2, offset + 1):
        valid[k] = torch.ones_like(token_ids, dtype=torch.bool)
        valid[k][:, -(k - 1) :] = False

    def run() -> None:
        for _ in readout.predict(Seen(token_ids, {}), valid):
            pass

    run()  # what is done once: the first check
    return run


def bare_forwards(model: hf.PreTrainedModel, token_ids: torch.Tensor, n: int) -> Way:
    """Return n forward passes of a block, each with its log-softmax."""

    @torch.no_grad()
    def run() -> None:
        for _ in range(n):
            model(token_ids, use_cache=False).logits.float().log_softmax(-1)

    return run


def ways(n_tokens: int, n_branches: int) -> dict[str, tuple[Way, int]]:
    """Return what is compared, each with the factor that its cost counts."""
    model = random_model(n_tokens)
    token_ids = torch.randint(VOCABULARY, (n_tokens,))
    engines = {route: BranchEngine(model, route) for route in ("packed", "expanded", "one-by-one")}
    valid = {2: torch.ones(1, n_tokens, dtype=torch.bool)}
    valid[2][:, -1] = False
    readout = Marginalization(engines["packed"], Truncation("top", max_branches=n_branches))

    def whole() -> None:
        for _ in readout.predict(Seen(token_ids[None], {}), valid):
            pass

    return {
        "branches x bare forward": (bare_forwards(model, token_ids[None], n_branches), 1),
        "packed": (lambda: branches(engines["packed"], token_ids, n_branches), 1),
        "packed, summed to offset 2": (whole, 1),
        "expanded": (lambda: branches(engines["expanded"], token_ids, n_branches), 1),
        "one by one": (
            lambda: branches(engines["one-by-one"], token_ids, n_branches, THINNING),
            THINNING,
        ),
    }


def seconds(way: Way) -> float:
    """Return the wall-clock time of one call."""
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def memory_mib(way: Way) -> float:
    """Return by how much one call raises the resident memory at its peak, MiB."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    before = peak_mib()
    way()
    return peak_mib() - before


def peak_mib() -> float:
    """Return the peak of this process's resident memory, MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--branches", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", action="store_true")
    arguments = parser.parse_args()
    if arguments.growth:
        growth(arguments.rounds)
        return
    compared = ways(arguments.tokens, arguments.branches)
    for name in ("branches x bare forward", "packed, summed to offset 2"):
        compared[name][0]()  # what is done once: the choice of kernels, the first check
    best = dict.fromkeys(compared, float("inf"))
    for _ in range(arguments.rounds):
        for name, (way, factor) in compared.items():
            best[name] = min(best[name], seconds(way) * factor)
    print("| way | / packed | / (branches x bare forward) | memory added, MiB |")
    print("|---|---|---|---|")
    for name, (way, _) in compared.items():
        ratios = [best[name] / best[other] for other in ("packed", "branches x bare forward")]
        print(f"| {name} | {ratios[0]:.2f} | {ratios[1]:.2f} | {memory_mib(way):.0f} |")


if __name__ == "__main__":
    main()
