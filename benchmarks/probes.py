"""What fitting the whole grid of linear probes costs, against other ways and the arithmetic.

    python benchmarks/probes.py [--model tiny] [--max-tokens 10000]

All on the same positions, in one process: the grid as `probekit analyze` fits it; scikit-learn's
LogisticRegression, timed on a few cells and taken times all cells; the optimizer of the tuned
lens (SGD with Nesterov momentum, its rate falling to 0 over 250 steps, gradients clipped), on all
cells at once, for the affine map that the grid fits too. Held-out cross-entropies stand beside
the times. The floor is what the grid's passes take at the least: the model's forward pass and
two products with the unembedding, a cell a pass, at the rate at which this machine multiplies.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import typer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from probekit.data.documents import Split
from probekit.data.targets import Targets, text_targets
from probekit.models.anatomy import Anatomy
from probekit.probes import linear
from probekit.probes.convex.affine_objective import scaled_bias, scaled_unembedding
from probekit.probes.probe import Probes, Tensors
from probekit.runs.setup import Setup, load_model, prepare, with_machine_defaults
from probekit.runs.streams import SITE_OF_MODEL, Streams
from probekit.scoring import losses
from probekit.settings import Settings

# Of github.com/AlignmentResearch/tuned-lens, its train command: rate, momentum, decay.
RATE, MOMENTUM, DECAY, STEPS = 1.0, 0.9, 1e-3, 250
ROUNDS = 5
Cell = tuple[int, int]


@dataclass(frozen=True)
class Data:
    """What enters the unembedding at a layer, and the targets at an offset."""

    setup: Setup
    streams: Streams
    targets: dict[Split, Targets]

    def of(self, part: Split, cell: Cell) -> tuple[Tensor, Tensor]:
        """Return z and the targets of one cell, shapes (n, hidden) and (n,)."""
        layer, offset = cell
        rows, ids = [], []
        for seen in self.streams.read(part):
            valid = self.targets[part].valid[offset][seen.blocks]
            rows.append(self.setup.anatomy.hidden(seen.resid[layer][valid]))
            ids.append(self.targets[part].ids[offset][seen.blocks][valid])
        return torch.cat(rows), torch.cat(ids)


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def grid(data: Data, layers: Sequence[int]) -> tuple[float, Probes]:
    """Return how long the whole grid takes, and the probes."""
    train, validation = (
        (data.streams.read(part), data.targets[part]) for part in ("train", "validation")
    )
    start = time.perf_counter()
    probes = linear.fit(train, validation, data.setup.anatomy, layers)
    return time.perf_counter() - start, probes


def held_out(data: Data, cell: Cell, tensors: Tensors, *, seen: bool = False) -> float:
    """Return the mean cross-entropy of a linear probe on the test text, in nats.

    Args:
        data: The text.
        cell: Layer and offset.
        tensors: Of the probe.
        seen: Whether to ask for targets alone that training saw, as `by_sklearn` does.
    """
    z, ids = data.of("test", cell)
    if seen:
        trained = torch.isin(ids, data.of("train", cell)[1])
        z, ids = z[trained], ids[trained]
    return float(losses.losses(applied(data.setup.anatomy, tensors, z), ids).nats.mean())


def by_sklearn(data: Data, cell: Cell) -> tuple[float, float]:
    """Return the seconds of one cell, and its held-out nats on targets that training saw."""
    z, ids = data.of("train", cell)
    model = LogisticRegression(C=0.1, max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        seconds = timed(lambda: model.fit(z.numpy(), ids.numpy()))
    z, ids = data.of("test", cell)
    trained = np.isin(ids.numpy(), model.classes_)
    columns = np.searchsorted(model.classes_, ids.numpy()[trained])
    logs = model.predict_log_proba(z.numpy()[trained])
    return seconds, float(-logs[np.arange(len(columns)), columns].mean())


def applied(anatomy: Anatomy, tensors: Tensors, z: Tensor) -> Tensor:
    """Return the logits of a linear probe."""
    moved = z.float() @ tensors["A"].T + tensors["b"]
    logits: Tensor = moved @ scaled_unembedding(anatomy).float().T + tensors["c"]
    return logits


def tuned_lens(data: Data, cells: Sequence[Cell]) -> tuple[float, dict[Cell, float]]:
    """Return the seconds of the tuned lens' optimizer on all cells, and held-out nats."""
    anatomy, width = data.setup.anatomy, data.setup.anatomy.d_hidden
    output, bias = scaled_unembedding(anatomy), scaled_bias(anatomy)
    narrow = output.to(losses.product_dtype(output.device))
    nats, seconds = {}, 0.0
    for cell in cells:
        z, ids = data.of("train", cell)
        lens = nn.Linear(width, width)
        nn.init.eye_(lens.weight)
        nn.init.zeros_(lens.bias)
        optimizer = torch.optim.SGD(
            lens.parameters(), lr=RATE * (1 - MOMENTUM), momentum=MOMENTUM, nesterov=True,
            weight_decay=DECAY,
        )  # fmt: skip
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
        start = time.perf_counter()
        for _ in range(STEPS):
            moved = lens(z)
            slope = losses.cross_entropy(moved.detach(), narrow, bias, ids).hidden / len(ids)
            optimizer.zero_grad()
            moved.backward(slope)
            nn.utils.clip_grad_norm_(lens.parameters(), 1.0)
            optimizer.step()
            falling.step()
        seconds += time.perf_counter() - start
        learned = {"A": lens.weight.detach(), "b": lens.bias.detach(), "c": bias}
        nats[cell] = held_out(data, cell, learned)
    return seconds, nats


def floor(data: Data, cells: Sequence[Cell], n_passes: int) -> float:
    """Return the least seconds that the passes of the grid take here."""
    anatomy = data.setup.anatomy
    narrow = scaled_unembedding(anatomy).to(losses.product_dtype(anatomy.unembedding.device))
    chunk = torch.randn(4_096, anatomy.d_hidden).to(narrow)
    products = min(timed(lambda: (chunk @ narrow.T) @ narrow) for _ in range(ROUNDS)) / len(chunk)
    positions = {k: int(data.targets["train"].valid[k].sum()) for _, k in cells}
    each = sum(positions[offset] for _, offset in cells) * products
    ids = data.setup.blocks["train"].token_ids
    with torch.no_grad():
        bare = timed(lambda: [anatomy.decoder(rows, use_cache=False) for rows in ids.split(8)])
    return n_passes * (each + bare)


def lines(model: str, max_tokens: int) -> Iterator[str]:
    """Yield the table."""
    settings = Settings(model=model, max_tokens=max_tokens)
    loaded = load_model(settings)
    settings = with_machine_defaults(settings, loaded)
    setup = prepare(loaded, settings)
    blocks = setup.blocks
    targets = {part: text_targets(blocks[part], settings.offsets) for part in blocks}
    streams = Streams(setup, setup.layers, SITE_OF_MODEL)
    for part in blocks:
        list(streams.read(part))  # captured once, for all ways alike
    data = Data(setup, streams, targets)
    cells = [(layer, k) for layer in setup.layers for k in range(1, settings.offsets + 1)]
    grid_seconds, fitted = grid(data, setup.layers)
    yield f"{model}: {len(cells)} cells, {int(targets['train'].valid[1].sum()):,} positions, "
    yield f"{fitted.n_passes} passes in {grid_seconds:.1f} s\n"
    yield "| way | its time / the grid's | held-out nats, its / the grid's, on the same |"
    yield "| --- | --- | --- |"
    least = floor(data, cells, fitted.n_passes)
    share = f"the arithmetic of its passes (the grid takes {grid_seconds / least:.2f} of it)"
    yield f"| {share} | {least / grid_seconds:.2f} | |"
    seconds, nats = tuned_lens(data, cells)
    ours = {cell: held_out(data, cell, fitted.probes[cell].tensors) for cell in cells}
    theirs = f"{np.mean(list(nats.values())):.3f} / {np.mean(list(ours.values())):.3f}, all cells"
    yield f"| tuned lens' SGD, {STEPS} steps, all cells | {seconds / grid_seconds:.1f} | {theirs} |"
    # Near the middle, and at the last layer.
    for cell in (cells[len(cells) // 2], cells[-settings.offsets + 1]):
        seconds, reached = by_sklearn(data, cell)
        mine = held_out(data, cell, fitted.probes[cell].tensors, seen=True)
        both = f"{reached:.3f} / {mine:.3f}, seen targets"
        name = f"scikit-learn, layer {cell[0]} at t+{cell[1]}, times {len(cells)} cells"
        yield f"| {name} | {seconds * len(cells) / grid_seconds:.0f} | {both} |"


def main(
    model: Annotated[str, typer.Option(help="Model to probe.")] = "tiny",
    max_tokens: Annotated[int, typer.Option(help="Tokens of each text.")] = 10_000,
) -> None:
    """Print the table."""
    for text in lines(model, max_tokens):
        print(text, flush=True)


if __name__ == "__main__":
    typer.run(main)
