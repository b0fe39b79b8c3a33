"""What one draw of the causal check costs, as forward passes of the same blocks.

    python benchmarks/causal.py [--model tiny] [--text PATH] [--directions 64] [--every]

Takes random directions of the middle layer out of the test text of `analyze`, at the positions that
the check draws or at every one, and divides its processor seconds by those of the model alone,
logits included, over the blocks in which these positions stand. The best round of each counts.
"""

import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer

from probekit.activations.residual_stream import stream
from probekit.causal.effects import Chosen, effects
from probekit.causal.rerun import Rerun
from probekit.causal.subspaces import Part
from probekit.data.targets import text_targets
from probekit.pipelines.analysis.causality import drawn_positions
from probekit.runs.setup import Setup, load_model, prepare, with_machine_defaults
from probekit.settings import Settings
from probekit.shapes import Mask

DRAWS = 4


def draws(setup: Setup, where: Mask, layer: int, offset: int, rank: int) -> Callable[[], object]:
    """Return the removal of nothing and of `DRAWS` random parts at some positions."""
    blocks, anatomy = setup.blocks["test"], setup.anatomy
    generator = torch.Generator().manual_seed(0)
    parts = {}
    for number in range(DRAWS):
        drawn = torch.randn(anatomy.d_model, rank, generator=generator, dtype=torch.float64)
        directions = torch.linalg.qr(drawn).Q
        parts[f"random-{number}"] = Part(directions, directions.sum(dim=0) * 0)
    chosen = Chosen(layer, offset, parts, rank, 0.0, 0.0)
    model, kept = setup.loaded.model, (layer, anatomy.n_layers)
    seen = stream(
        model, anatomy, blocks.token_ids, kept, batch_size=setup.plan.batch_size, store="memory"
    )
    list(seen)  # captured, as in an analysis, before the check begins
    targets = text_targets(blocks, offset)
    rerun = Rerun(model, anatomy, layer)
    return lambda: effects(chosen, rerun, seen, targets, where, blocks.documents)


def forward(setup: Setup, where: Mask) -> Callable[[], object]:
    """Return one forward pass of the blocks in which some positions stand."""
    model = setup.loaded.model
    batches = setup.blocks["test"].token_ids[where.any(dim=1)].split(setup.plan.batch_size)

    def run() -> None:
        with torch.inference_mode():
            for ids in batches:
                model(ids.to(model.device), use_cache=False)

    return run


def processor_seconds(run: Callable[[], object]) -> float:
    """Return the processor time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main(
    model: Annotated[str, typer.Option(help="Model.")] = "tiny",
    text: Annotated[list[str] | None, typer.Option(help="Texts, as of `analyze`.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of each text.")] = None,
    directions: Annotated[int, typer.Option(help="Directions that are taken out.")] = 16,
    rounds: Annotated[int, typer.Option(help="Rounds.")] = 3,
    every: Annotated[bool, typer.Option("--every", help="At every position.")] = False,
) -> None:
    """Print the table."""
    settings = Settings(model=model, text=tuple(text or ()), max_tokens=max_tokens)
    loaded = load_model(settings)
    setup = prepare(loaded, with_machine_defaults(settings, loaded))
    at = setup.anatomy.n_layers // 2
    if every:
        where = setup.blocks["test"].valid(settings.offsets)
    else:
        where = drawn_positions(setup, settings.offsets, settings.seed)
    n_positions, n_tokens = int(where.sum()), int(where.any(dim=1).sum()) * where.shape[1]
    print(f"{model}, layer {at} of {setup.anatomy.n_layers}, {directions} directions at ", end="")
    print(f"{n_positions:,} positions in blocks of {n_tokens:,} tokens\n")
    print("| offset | a draw / a forward pass |\n|---|---|")
    one_pass = forward(setup, where)
    for offset in range(2, settings.offsets + 1):
        removals = draws(setup, where, at, offset, directions)
        seconds = [
            (processor_seconds(removals), processor_seconds(one_pass)) for _ in range(rounds)
        ]
        own, bare = map(min, zip(*seconds, strict=True))
        print(f"| t+{offset} | {own / (DRAWS + 1) / bare:.2f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
