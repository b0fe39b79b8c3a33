"""What a run will take, before it starts: batch size, memory, the time of a probe."""

import itertools
import math
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from probekit.activations.residual_stream import Store
from probekit.marginalization.branch_engine import TOKENS_ON_ACCELERATOR, TOKENS_ON_CPU
from probekit.models.anatomy import Anatomy
from probekit.models.devices import free_bytes, processes_here
from probekit.models.quantization import method
from probekit.probes import waves
from probekit.probes.convex import shortlist
from probekit.probes.convex.cell_fit import DRAWN
from probekit.probes.linear import CERTIFIED, SAMPLED
from probekit.scoring import losses

# Float32 copies of one batch's logits that are alive at once while a cell is scored.
LOGIT_COPIES = 3
# Shares of the free memory that one batch's logits, and the kept residuals, may take.
BATCH_SHARE = 0.05
STORE_SHARE = 0.4
DISK_SHARE = 0.8
# Share of it that a second model may take: its activations want some too.
ANOTHER_SHARE = 0.8
MOST_BLOCKS = 64
# Passes over the training positions that a cell was seen to take.
USUAL_PASSES = 9
# Token types of a text, over the root of its length: 1,700 in 7,000 tokens of WikiText.
TYPES_PER_ROOT = 20
TIMED_POSITIONS = 1024


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        n_tokens: Tokens that the model reads.
        n_cells: Probes to fit.
        n_probe_parameters: Learned values of all probes.
        batch_size: Blocks in a forward pass.
        branch_tokens: Branch tokens in a forward pass of marginalization.
        store: Where residuals are kept between passes.
        store_bytes: Bytes of all residuals.
        n_waves: Groups of probes that are fitted one after another.
        fit_bytes: Bytes that the probes of one such group take while they are fitted.
        n_ranks: Processes that share the probes; residuals and groups are those of one.
        another: Whether a second model, of untrained blocks, fits into memory beside this one.
    """

    n_tokens: int
    n_cells: int
    n_probe_parameters: int
    batch_size: int
    branch_tokens: int
    store: Store
    store_bytes: int
    n_waves: int
    fit_bytes: int
    n_ranks: int = 1
    another: bool = True

    def line(self) -> str:
        """Return the plan in one line."""
        shared = f"in each of {self.n_ranks} processes " if self.n_ranks > 1 else ""
        return (
            f"Plan: {self.n_tokens:,} tokens, {self.n_cells} probes of "
            f"{self.n_probe_parameters // max(self.n_cells, 1):,} parameters, batches of "
            f"{self.batch_size} blocks, {shared}residuals {self.store} "
            f"({_size(self.store_bytes)}), {_size(self.fit_bytes)} for {_waves(self.n_waves)}"
            f"{'' if self.another else ', without the control on an untrained model'}."
        )


def make(  # noqa: PLR0913 -- what is read, how far, and what the machine has room for
    anatomy: Anatomy,
    n_blocks: int,
    block: int,
    layers: Sequence[int],
    offsets: int,
    *,
    batch_size: int | Literal["auto"] = "auto",
    scratch: Path | None = None,
    n_ranks: int = 1,
    n_sites: int = 1,
) -> Plan:
    """Plan a run.

    Args:
        anatomy: Anatomy of the model.
        n_blocks: Blocks of all splits.
        block: Tokens in a block.
        layers: Layers to read.
        offsets: The horizon.
        batch_size: Blocks in a forward pass; `auto` for as many as suit the memory.
        scratch: An existing folder for residuals that memory has no room for.
        n_ranks: Processes that share the layers.
        n_sites: Places in a block; the further ones are read one after another, beside the first,
            from layer 1 on.
    """
    device = anatomy.unembedding.device
    logits = block * anatomy.vocab_size * 4 * LOGIT_COPIES
    if batch_size == "auto":
        batch_size = int(min(MOST_BLOCKS, max(1, free_bytes(device) * BATCH_SHARE // logits)))
    share = math.ceil(len(layers) / n_ranks)
    captured = min(len(layers), share + 1)  # the last layer is everyone's
    kept = n_blocks * block * captured * anatomy.d_model * anatomy.unembedding.element_size()
    kept *= min(n_sites, 2)
    cells = (len(layers) + (n_sites - 1) * sum(layer > 0 for layer in layers)) * offsets
    parameters = cells * (anatomy.d_hidden**2 + anatomy.d_hidden + anatomy.vocab_size)
    each = waves.cell_bytes(anatomy)
    wave = waves.wave_size(share * offsets, each, anatomy)
    return Plan(
        n_tokens=n_blocks * block,
        n_cells=cells,
        n_probe_parameters=parameters,
        batch_size=batch_size,
        branch_tokens=_branch_tokens(device, anatomy.vocab_size),
        store=_store(device, kept, scratch),
        store_bytes=kept,
        n_waves=math.ceil(share * offsets / wave),
        fit_bytes=wave * each,
        n_ranks=n_ranks,
    )


def room_for_another(model: PreTrainedModel) -> bool:
    """Whether a second model of the same kind can be made, and fits into memory beside this one."""
    if method(model.config):
        return False
    needed: Counter[torch.device] = Counter()
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        needed[tensor.device] += tensor.nbytes
    # Its weights are drawn in main memory before they go where the first one's are.
    main = torch.device("cpu")
    needed[main] = max(needed[main], sum(n for device, n in needed.items() if device != main))
    return all(n <= ANOTHER_SHARE * free_bytes(device) for device, n in needed.items())


def _branch_tokens(device: torch.device, vocab_size: int) -> int:
    """Return as many branch tokens as are worth it, or as few as their logits leave room for."""
    enough = TOKENS_ON_CPU if device.type == "cpu" else TOKENS_ON_ACCELERATOR
    fitting = free_bytes(device) * BATCH_SHARE // (vocab_size * 4 * LOGIT_COPIES)
    return int(min(enough, max(1, fitting)))


def _store(device: torch.device, kept: int, scratch: Path | None) -> Store:
    """Return the fastest place that has room for all residuals; where none has, run again."""
    if device.type == "cuda" and kept < STORE_SHARE * free_bytes(device):
        return "device"
    here = processes_here()
    if kept < STORE_SHARE * free_bytes(torch.device("cpu")):
        return "memory"
    if scratch is not None and kept < DISK_SHARE * shutil.disk_usage(scratch).free / here:
        return "disk"
    return "live"


def cell_seconds(anatomy: Anatomy, n_train: float, n_validation: float) -> float:
    """Estimate the seconds of one probe's fit, from measured products.

    Args:
        anatomy: Anatomy of the model.
        n_train: Training positions.
        n_validation: Validation positions.
    """
    n_rows = _shortlisted(n_train, anatomy.vocab_size)
    each = seconds_each(anatomy, n_rows) * n_train * USUAL_PASSES
    if n_rows < anatomy.vocab_size:
        # The start, the certificate, and the loss of what was chosen.
        sampled = min(SAMPLED, n_train) + min(CERTIFIED, n_train) + n_validation
        each += seconds_each(anatomy, anatomy.vocab_size) * sampled
    return each


def _shortlisted(n_tokens: float, vocab_size: int) -> int:
    """Return about how many tokens a fit to so much text looks at."""
    n_rows = DRAWN + int(TYPES_PER_ROOT * n_tokens**0.5)
    return n_rows if n_rows < shortlist.MOST * vocab_size else vocab_size


def seconds_each(anatomy: Anatomy, n_rows: int) -> float:
    """Return the seconds of a position in a pass over so many rows of the unembedding."""
    device, width = anatomy.unembedding.device, anatomy.d_hidden
    rows = anatomy.unembedding[:n_rows].to(losses.product_dtype(device))
    hidden = torch.zeros(TIMED_POSITIONS, width, device=device)
    bias = torch.zeros(n_rows, device=device)
    targets = torch.zeros(TIMED_POSITIONS, dtype=torch.long, device=device)
    slope = torch.zeros(width, width, device=device)

    def pass_over() -> float:
        # The map, the gradient, and what of the gradient is the map's and the curvature's.
        gradient = losses.cross_entropy(hidden @ slope, rows, bias, targets).hidden
        return float((gradient.T @ hidden)[0, 0] + (gradient.T @ gradient)[0, 0])

    pass_over()
    start = time.perf_counter()
    pass_over()
    return (time.perf_counter() - start) / TIMED_POSITIONS


def _size(count: int) -> str:
    """Return bytes in words.

    >>> _size(94 * 2**20), _size(35 * 2**30)
    ('94 MiB', '35.0 GiB')
    """
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def _waves(count: int) -> str:
    return "all probes at once" if count == 1 else f"the probes of each of {count} waves"
