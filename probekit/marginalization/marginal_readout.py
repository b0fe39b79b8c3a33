"""The model's own distribution over a token further on, the tokens between summed out.

p(x_{t+k} | x_<=t) = sum over paths y of p(y | x_<=t) p(x_{t+k} | x_<=t, y), y having k - 1
tokens. Paths are extended level by level and kept by a `Truncation`. What is left out is known:
with retained mass m, partial <= p <= partial + (1 - m) for each token, and the renormalised
estimate is within 1 - m of p in total variation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from probekit.checks import Check
from probekit.errors import ModelError
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.joint_paths import Estimate, Truncation, estimates
from probekit.readout import MARGINAL, Cell, Seen
from probekit.shapes import Logits, Mask

# Positions of a block whose trees are alive together: their keys and values are what counts,
# and 64 leave the forward passes full where a position has four branches or more.
POSITIONS_AT_ONCE = 64


@dataclass(frozen=True)
class Record:
    """Cost and retained mass of marginalizing at one position and offset.

    Attributes:
        block: Index among all blocks of the text.
        position: Position in the block.
        offset: Offset k.
        retained_mass: Joint probability of the paths kept .
        branches: Distinct paths.
        mode: The most probable tokens at offsets 2 … k together.
    """

    block: int
    position: int
    offset: int
    retained_mass: float
    branches: int
    mode: tuple[int, ...]


class Marginalization:
    """The ceiling: a readout of the model's own marginals, at offsets of 2 and more.

    Attributes:
        layers: None are read.
        records: One a position and offset, in the order computed.
        check: The branch engine's check; None until the first block was read.
    """

    layers: frozenset[int] = frozenset()

    def __init__(
        self,
        engine: BranchEngine,
        truncation: Truncation | None = None,
        name: str = MARGINAL,
        farthest: int | None = None,
    ):
        """Marginalize with an engine.

        Args:
            engine: Runs the branches.
            truncation: Which paths are kept; by default `Truncation()`.
            name: Name of the readout.
            farthest: The last offset that is predicted; None for all that are asked.
        """
        self.engine = engine
        self.truncation = truncation or Truncation()
        self.name = name
        self.farthest = farthest
        self.records: list[Record] = []
        self.check: Check | None = None

    def predict(self, seen: Seen, valid: Mapping[int, Mask]) -> Iterator[tuple[Cell, Logits]]:
        """Yield log-probabilities cell by cell, in order of offset.

        One tree serves all offsets. Its results, (n, vocab) in float32 for each offset, are
        kept until yielded: the keys and values of the trees would be larger.

        Args:
            seen: Tokens of a batch; no residual stream is read.
            valid: By offset, the positions to predict from, shape (batch, pos); offset 1 is
                left to the model's own logits.

        Yields:
            Cell(name, k) and log-probabilities, shape (n, vocab), where n counts the True
            of `valid[k]`, in order of block and position, on the model's device.

        Raises:
            ModelError: If the engine's first check fails and it has no other route.
        """
        last, device = self.farthest or max(valid), self.engine.model.device
        masks = {k: v.to(device) for k, v in sorted(valid.items()) if 1 < k <= last}
        # Of each True in a mask, its row in the result: how many stand before it.
        rows = {k: v.flatten().cumsum(0).view(v.shape) - 1 for k, v in masks.items()}
        results = {k: self._empty(int(v.sum())) for k, v in masks.items()}
        for block, token_ids in enumerate(seen.token_ids):
            for estimate in self.estimate_block(token_ids, {k: v[block] for k, v in masks.items()}):
                target = rows[estimate.offset][block, estimate.positions]
                # A probability that underflows would cost its token an infinite loss.
                floor = torch.finfo(torch.float32).tiny
                results[estimate.offset][target] = estimate.probs.clamp_min(floor).log()
                self._record(seen.first_block + block, estimate)
        for offset in masks:
            yield Cell(self.name, offset), results.pop(offset)

    def _empty(self, n: int) -> Logits:
        return torch.empty(n, self.engine.vocab_size, device=self.engine.model.device)

    def estimate_block(
        self, token_ids: Int[Tensor, " pos"], masks: Mapping[int, Tensor]
    ) -> Iterator[Estimate]:
        """Yield estimates at the positions of the masks, shape (pos,), by offset, in one block."""
        horizon = torch.zeros(len(token_ids), dtype=torch.long, device=self.engine.model.device)
        for offset, mask in masks.items():
            horizon[mask] = offset  # in ascending order: the last one stays
        positions = horizon.nonzero().squeeze(1)
        if len(positions) == 0:
            return
        if self.check is None:
            self.check = self.engine.checked or self.engine.check_first(token_ids)
        if not self.check.passed:
            raise ModelError(self.check.message)
        prefix = self.engine.read(token_ids)
        for start in range(0, len(positions), POSITIONS_AT_ONCE):
            chunk = positions[start : start + POSITIONS_AT_ONCE]
            for estimate in estimates(prefix, chunk, horizon[chunk], self.truncation):
                if estimate.offset in masks:
                    yield _restricted(estimate, masks[estimate.offset])

    def _record(self, block: int, estimate: Estimate) -> None:
        columns = (
            estimate.positions.tolist(),
            estimate.retained_mass.tolist(),
            estimate.branches.tolist(),
            map(tuple, estimate.mode.tolist()),
        )
        for position, *values in zip(*columns, strict=True):
            self.records.append(Record(block, position, estimate.offset, *values))


def _restricted(estimate: Estimate, mask: Tensor) -> Estimate:
    """Return an estimate for those of its positions where the mask is true."""
    chosen = mask[estimate.positions]
    return Estimate(
        estimate.offset,
        estimate.positions[chosen],
        estimate.probs[chosen],
        estimate.retained_mass[chosen],
        estimate.branches[chosen],
        estimate.mode[chosen],
    )
