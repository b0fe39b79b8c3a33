"""How much more memory a fit takes when the text is twice as long and residuals lie on disk.

    python benchmarks/memory.py [--tokens 12000]

Fits every cell of a random Llama to so many tokens, and to twice as many, each in a process of
its own. Prints the memory that is the process's own at its highest, less what it was before, and
the ratio. Pages of the file that residuals lie in are the operating system's to keep or drop, and
are not counted. Reads /proc: for Linux.
"""

import multiprocessing
import re
import tempfile
import threading
from pathlib import Path
from typing import Annotated

import torch
import typer
from gpu import BLOCK, build, text

from probekit.activations.residual_stream import stream
from probekit.data.blocks import Blocks
from probekit.data.targets import text_targets
from probekit.models.anatomy import find_anatomy
from probekit.probes import linear
from probekit.probes.probe import Examples

OFFSETS = 1
EVERY_SECONDS = 0.02


def own_bytes() -> int:
    """Return the bytes of memory that belong to this process alone."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def highest(n_tokens: int, store: str) -> tuple[int, int]:
    """Return the bytes of all residuals, and what a fit took at its highest."""
    model = build("wide", torch.device("cpu"))
    anatomy = find_anatomy(model)
    layers, seen, done = range(anatomy.n_layers + 1), [own_bytes()], threading.Event()

    def watch() -> None:
        while not done.wait(EVERY_SECONDS):
            seen.append(own_bytes())

    def examples(ids: torch.Tensor, folder: str) -> Examples:
        documents = torch.arange(len(ids))[:, None].expand(ids.shape)
        read = stream(model, anatomy, ids, layers, batch_size=8, store=store, folder=Path(folder))  # type: ignore[call-overload]
        return read, text_targets(Blocks(ids, documents), OFFSETS)

    ids = text(n_tokens, anatomy.vocab_size)
    watching = threading.Thread(target=watch)
    watching.start()
    with tempfile.TemporaryDirectory() as folder:
        parts = [examples(part, folder) for part in ids.tensor_split([len(ids) * 4 // 5])]
        linear.fit(parts[0], parts[1], anatomy, layers)
    done.set()
    watching.join()
    return ids.numel() * len(layers) * anatomy.d_model * 4, max(seen) - seen[0]


def main(
    tokens: Annotated[int, typer.Option(help=f"Tokens, in blocks of {BLOCK}.")] = 12_000,
) -> None:
    """Print the table."""
    print("| store | tokens | residuals, MiB | highest, MiB |\n|---|---|---|---|")
    for store in ("disk", "memory"):
        taken = []
        for n_tokens in (tokens, 2 * tokens):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                residuals, most = pool.apply(highest, (n_tokens, store))
            taken.append(most)
            print(f"| {store} | {n_tokens:,} | {residuals >> 20:,} | {most >> 20:,} |", flush=True)
        print(f"| {store} | twice as many / as many | 2.00 | {taken[1] / taken[0]:.2f} |")


if __name__ == "__main__":
    typer.run(main)
