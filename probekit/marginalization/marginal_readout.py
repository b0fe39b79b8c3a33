"""The model's own distribution over a token further on, the tokens between summed out.

p(x_{t+k} | x_<=t) = sum over paths y of p(y | x_<=t) p(x_{t+k} | x_<=t, y), y having k - 1
tokens. Paths are extended level by level and kept by a `Truncation`. What is left out is known:
with retained mass m, partial <= p <= partial + (1 - m) for each token, and the renormalised
estimate is within 1 - m of p in total variation.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from probekit.checks import Check
from probekit.errors import DataError, ModelError
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
        tv_bound: As in `Estimate`.
        branches: Distinct paths.
    """

    block: int
    position: int
    offset: int
    retained_mass: float
    tv_bound: float
    branches: int


@dataclass(frozen=True)
class MarginalSummary:
    """Cost and retained mass at one offset, over positions: a row of `marginal` in results.json."""

    offset: int
    domain: str
    route: str
    n_positions: int
    branches_mean: float
    branches_max: int
    retained_mass: float
    tv_bound_mean: float
    tv_bound_max: float


def summarize(
    records: Sequence[Record], route: str, domain: str = "all"
) -> tuple[MarginalSummary, ...]:
    """Summarize records by offset, in order of offset.

    Args:
        records: Records of one domain.
        route: The truncation's route.
        domain: The domain's name.

    Raises:
        DataError: If there is no record.

    >>> rows = [Record(0, t, 2, mass, 1 - mass, 4) for t, mass in enumerate((0.75, 0.25))]
    >>> row, = summarize(rows, "top")
    >>> row.offset, row.n_positions, row.branches_mean, row.retained_mass, row.tv_bound_max
    (2, 2, 4.0, 0.5, 0.75)
    """
    if not records:
        raise DataError("a summary needs at least one marginalized position, got none")
    by_offset = defaultdict(list)
    for record in records:
        by_offset[record.offset].append(record)
    return tuple(
        MarginalSummary(
            offset=offset,
            domain=domain,
            route=route,
            n_positions=len(group),
            branches_mean=sum(r.branches for r in group) / len(group),
            branches_max=max(r.branches for r in group),
            retained_mass=sum(r.retained_mass for r in group) / len(group),
            tv_bound_mean=sum(r.tv_bound for r in group) / len(group),
            tv_bound_max=max(r.tv_bound for r in group),
        )
        for offset, group in sorted(by_offset.items())
    )


class Marginalization:
    """The ceiling: a readout of the model's own marginals, at offsets of 2 and more.

    Attributes:
        layers: None are read.
        records: One a position and offset, in the order computed.
        check: The branch engine's first check; None until the first block was read.
    """

    layers: frozenset[int] = frozenset()

    def __init__(
        self,
        engine: BranchEngine,
        truncation: Truncation | None = None,
        name: str = MARGINAL,
    ):
        """Marginalize with an engine.

        Args:
            engine: Runs the branches.
            truncation: Which paths are kept; by default `Truncation()`.
            name: Name of the readout.
        """
        self.engine = engine
        self.truncation = truncation or Truncation()
        self.name = name
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
        masks = {k: v.to(self.engine.model.device) for k, v in sorted(valid.items()) if k > 1}
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
            self.check = self.engine.check_first(token_ids)
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
            estimate.tv_bound.tolist(),
            estimate.branches.tolist(),
        )
        for position, mass, bound, branches in zip(*columns, strict=True):
            self.records.append(Record(block, position, estimate.offset, mass, bound, branches))


def _restricted(estimate: Estimate, mask: Tensor) -> Estimate:
    """Return an estimate for those of its positions where the mask is true."""
    chosen = mask[estimate.positions]
    return Estimate(
        estimate.offset,
        estimate.positions[chosen],
        estimate.probs[chosen],
        estimate.retained_mass[chosen],
        estimate.branches[chosen],
    )
