"""Which cells are fitted together: as many as memory takes, the others after them.

Cells share passes over the stream, and nothing else: a cell is the same in any wave.
"""

import math
from collections.abc import Iterator, Sequence

from probekit.errors import SettingsError
from probekit.models.anatomy import Anatomy
from probekit.models.devices import free_bytes
from probekit.probes.grid import GridCell
from probekit.readout import CONCAT, LINEAR, LINEAR_FULL

# Float32 copies of a map while it is fitted: six pairs of L-BFGS, the points tried under other
# penalties, and a dozen of points, sums, gradients and factors.
FIT_COPIES = 32
# Of what a cell reads: covariance and its inverse, in float64 while they are collected.
MOMENT_COPIES = 4
# Share of the free memory that the cells of a wave may take; activations and logits want some.
WAVE_SHARE = 0.5

# The families of several cells at once, and what to do where one cell takes too much memory.
FAMILIES = {
    LINEAR: "read a smaller model, or use a device with more memory",
    CONCAT: "read fewer layers, or use linear",
    LINEAR_FULL: "it is for small vocabularies; use linear or linear-lowrank",
}


def cell_bytes(anatomy: Anatomy, n_read: int = 1, family: str = LINEAR) -> int:
    """Return the bytes that the fit of one cell takes.

    Args:
        anatomy: How the model decodes its residual stream.
        n_read: Layers that the cell reads, side by side.
        family: One of `FAMILIES`.
    """
    width = n_read * anatomy.d_hidden
    n_outputs = anatomy.vocab_size if family == LINEAR_FULL else anatomy.d_hidden
    n_values = FIT_COPIES * (n_outputs * width + anatomy.vocab_size) + MOMENT_COPIES * width**2
    return 4 * n_values


def in_waves(
    cells: Sequence[GridCell], anatomy: Anatomy, family: str = LINEAR
) -> Iterator[Sequence[GridCell]]:
    """Yield the cells in waves of even size, each no larger than memory takes.

    Args:
        cells: Cells of one family, those that read the same layers together.
        anatomy: How the model decodes its residual stream.
        family: One of `FAMILIES`.

    Raises:
        SettingsError: If memory does not suffice for one cell.
    """
    each = cell_bytes(anatomy, len(cells[0].read), family)
    size = wave_size(len(cells), each, anatomy, family)
    for first in range(0, len(cells), size):
        yield cells[first : first + size]


def wave_size(n_cells: int, each: int, anatomy: Anatomy, family: str = LINEAR) -> int:
    """Return how many of the cells are fitted together, `each` of so many bytes.

    Raises:
        SettingsError: If memory does not suffice for one.
    """
    free = free_bytes(anatomy.unembedding.device)
    if each > free:
        raise SettingsError(
            f"fitting one {family} probe takes about {each / 2**30:,.1f} GiB, and "
            f"{free / 2**30:,.1f} GiB are free: {FAMILIES[family]}"
        )
    n_waves = math.ceil(n_cells / max(1, int(WAVE_SHARE * free / each)))
    return math.ceil(n_cells / n_waves)
