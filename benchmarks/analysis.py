"""What share of an analysis is model, probes and marginalization.

    python benchmarks/analysis.py [--model tiny]

Runs `probekit analyze` once and prints a table: the seconds of each stage, and the same as
multiples of one bare forward pass of the model over the same tokens, timed in this process.
"""

import tempfile
import time
from typing import Annotated

import torch
import typer

from probekit.pipelines.analysis import analyze
from probekit.runs.setup import Setup, load_model, prepare, with_machine_defaults
from probekit.settings import Settings

ROUNDS = 3


def bare_forward_seconds(setup: Setup) -> float:
    """Return the best of a few timings of the model alone over all tokens of the run."""
    model = setup.loaded.model
    batches = [
        ids.to(model.device)
        for blocks in setup.blocks.values()
        for ids in blocks.token_ids.split(setup.plan.batch_size)
    ]
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        with torch.inference_mode():
            for ids in batches:
                model(ids, use_cache=False)
        best = min(best, time.perf_counter() - start)
    return best


def main(model: Annotated[str, typer.Option(help="Model to analyse.")] = "tiny") -> None:
    """Print where the time of one analysis goes."""
    settings = Settings(model=model)
    loaded = load_model(settings)
    settings = with_machine_defaults(settings, loaded)
    setup = prepare(loaded, settings)
    bare = bare_forward_seconds(setup)
    with tempfile.TemporaryDirectory() as folder:
        run = analyze.run(loaded, settings, folder, True, lambda _: None).results["run"]
    total = run["seconds"]
    print(f"{model}: {setup.plan.n_tokens:,} tokens, bare forward pass {bare:.2f} s\n")
    print("| stage | seconds | share | bare forward passes |\n|---|---|---|---|")
    for stage, seconds in run["stage_seconds"].items():
        print(f"| {stage} | {seconds:.1f} | {seconds / total:.0%} | {seconds / bare:.1f} |")
    print(f"| all | {total:.1f} | 100% | {total / bare:.1f} |")


if __name__ == "__main__":
    typer.run(main)
