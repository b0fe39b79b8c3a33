"""The model's own cross-entropy of a text at offsets of 2 and more, position by position."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from probekit.data.targets import Targets
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.continuations import Continuations
from probekit.marginalization.importance import GROUPS, TargetNats, TargetSampler
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import POSITIONS_AT_ONCE
from probekit.readout import Seen
from probekit.shapes import Mask

# A position has nearly twice the paths that it has where those kept are all.
POSITIONS = POSITIONS_AT_ONCE // 2


@dataclass(frozen=True)
class NatsSampler:
    """Computes the cross-entropy of a text's own tokens, unbiased whatever the paths.

    Attributes:
        engine: Runs the branches.
        bos: Token that stands before a document, if any.
        truncation: Which paths are summed exactly.
        n_paths: Paths of each group at one position and level, beside these, at least 1.
        seed: Seed of the draws; those of one block do not depend on the others.
    """

    engine: BranchEngine
    bos: int | None
    truncation: Truncation
    n_paths: int
    seed: int

    @torch.no_grad()
    def nats(
        self,
        stream: Iterable[Seen],
        targets: Targets,
        drawn: Mask,
        own: Mask | None = None,
    ) -> pd.DataFrame:
        """Return the cross-entropies of the targets at offsets 2, 3, … from some positions.

        Args:
            stream: The blocks; can be read more than once.
            targets: Their targets.
            drawn: The positions, shape (block, pos); they have a target at every offset.
            own: Those of some of their blocks, from which alone there are rows; all by default.
                What is taken from all is what the model expects, so that rows do not depend on
                which these are.

        Returns:
            Rows of block, position and offset, and in nats: nats, joint_nats and variance, as
            in `TargetNats`.
        """
        offsets = [offset for offset in targets.ids if offset > 1]
        ids = torch.stack([targets.ids[offset] for offset in offsets], dim=-1)
        expected = _expected(self.engine, stream, drawn)
        model = self.engine.model
        continuations = Continuations.of(self.engine, self.bos, ids[drawn].flatten(), expected)
        sampler = TargetSampler(continuations, self.truncation, self.n_paths)
        tables = []
        for block, token_ids in _blocks(stream, drawn if own is None else own):
            prefix, positions = self.engine.read(token_ids), drawn[block].nonzero()[:, 0]
            random = np.random.default_rng((self.seed, block))
            uniform = torch.from_numpy(random.random((GROUPS, len(positions), len(offsets))))
            for start in range(0, len(positions), POSITIONS):
                few = slice(start, start + POSITIONS)
                places = positions[few]
                at = places, ids[block, places], uniform[:, few]
                for nats in sampler.nats(prefix, *(x.to(model.device) for x in at)):
                    tables.append(_table(block, positions[few].tolist(), nats))
        return pd.concat(tables, ignore_index=True)


def _blocks(stream: Iterable[Seen], drawn: Mask) -> Iterator[tuple[int, Tensor]]:
    """Yield number and token ids of the blocks from which positions are drawn."""
    for seen in stream:
        for block, token_ids in enumerate(seen.token_ids, start=seen.first_block):
            if bool(drawn[block].any()):
                yield block, token_ids


def _expected(engine: BranchEngine, stream: Iterable[Seen], drawn: Mask) -> Float[Tensor, " vocab"]:
    """Return how often the model expects each token next, over the drawn positions."""
    total = torch.zeros(engine.vocab_size, device=engine.model.device)
    for block, token_ids in _blocks(stream, drawn):
        log_probs = engine.read(token_ids).log_probs(drawn[block].nonzero()[:, 0])
        total += log_probs.exp().sum(0)
    return total


def _table(block: int, positions: list[int], nats: TargetNats) -> pd.DataFrame:
    columns = {name: getattr(nats, name).tolist() for name in ("nats", "joint_nats", "variance")}
    place = {"block": block, "position": positions, "offset": nats.offset}
    return pd.DataFrame(place | columns)
