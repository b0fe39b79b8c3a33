"""What a shortlist of the vocabulary costs and loses, against a fit over all of it.

    python benchmarks/shortlist.py --model PATH --text wiki=PATH --cells 20.2,30.1

One cell after the other is fitted twice to the same text, with its shortlist and over the whole
vocabulary. Prints processor-seconds, the certified excess, and the cross-entropy on the test text.
Set OMP_NUM_THREADS=1: threads that wait for each other count as work.
"""

import time
from collections.abc import Iterator
from typing import Annotated

import torch
import typer

from probekit.data.documents import Split
from probekit.data.targets import text_targets
from probekit.probes import linear
from probekit.probes.convex import shortlist
from probekit.probes.probe import Examples, Probe
from probekit.runs.setup import Setup, load_model, prepare, with_machine_defaults
from probekit.runs.streams import SITE_OF_MODEL, Streams
from probekit.scoring.score import score
from probekit.settings import Settings

Cell = tuple[int, int]


def fitted(parts: dict[Split, Examples], setup: Setup, cell: Cell) -> tuple[float, Probe, float]:
    """Return processor-seconds, the probe, and its mean cross-entropy on the test text."""
    of_cell = {split: (stream, ids.only([cell[1]])) for split, (stream, ids) in parts.items()}
    start = time.process_time()
    probes = linear.fit(of_cell["train"], of_cell["validation"], setup.anatomy, [cell[0]])
    seconds = time.process_time() - start
    stream, targets = of_cell["test"]
    documents = setup.blocks["test"].documents
    sums = score([probes], stream, targets, {"all": targets.valid[cell[1]]}, documents)
    return seconds, probes.probes[cell], float(sums["nats_sum"].sum() / sums["n"].sum())


def lines(settings: Settings, cells: list[Cell]) -> Iterator[str]:
    """Yield the table."""
    loaded = load_model(settings)
    settings = with_machine_defaults(settings, loaded)
    setup = prepare(loaded, settings, sorted({layer for layer, _ in cells}))
    streams = Streams(setup, setup.layers, SITE_OF_MODEL)
    parts: dict[Split, Examples] = {
        part: (list(streams.read(part)), text_targets(blocks, settings.offsets))
        for part, blocks in setup.blocks.items()
    }
    yield "| layer, offset | seconds, whole / shortlist | excess | test nats, whole / shortlist |"
    yield "| --- | --- | --- | --- |"
    most = shortlist.MOST
    for layer, offset in cells:
        seconds, probe, nats = fitted(parts, setup, (layer, offset))
        shortlist.MOST = 0.0
        of_whole, _, nats_of_whole = fitted(parts, setup, (layer, offset))
        shortlist.MOST = most
        yield (
            f"| {layer}, *t+{offset}* | {of_whole:.1f} / {seconds:.1f} | {probe.excess_nats:.4f} "
            f"| {nats_of_whole:.3f} / {nats:.3f} |"
        )


@torch.no_grad()
def main(
    model: Annotated[str, typer.Option(help="Model to probe.")] = "tiny",
    text: Annotated[list[str] | None, typer.Option(help="[NAME=]PATH.")] = None,
    cells: Annotated[str, typer.Option(help="Layer.offset, with commas.")] = "3.2,6.1",
    max_tokens: Annotated[int, typer.Option(help="Tokens of each text.")] = 10_000,
) -> None:
    """Print the table."""
    pairs = [cell.split(".") for cell in cells.split(",")]
    settings = Settings(model=model, text=tuple(text or ()), max_tokens=max_tokens)
    for line in lines(settings, [(int(layer), int(offset)) for layer, offset in pairs]):
        print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
