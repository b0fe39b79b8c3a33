"""The model's own greedy continuation as targets."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from probekit.data.blocks import Blocks
from probekit.data.targets import Targets, text_targets
from probekit.errors import ModelError
from probekit.marginalization.branch_engine import BranchEngine


@torch.no_grad()
def model_targets(engine: BranchEngine, blocks: Blocks, horizon: int) -> Targets:
    """Return the model's own greedy continuation of every prefix, 1 … `horizon` tokens long.

    Positions are those that have a text target, so that both are scored on the same.

    Args:
        engine: Branches of the model; one branch a position is run.
        blocks: Token blocks.
        horizon: Largest offset.

    Raises:
        SettingsError: If the horizon is not in 1 … pos - 1.
        ModelError: If the branches are not what the model computes one by one.
    """
    text = text_targets(blocks, horizon)
    check = engine.check_first(blocks.token_ids[0])
    if not check.passed:
        raise ModelError(check.message)
    ids = {k: torch.zeros_like(blocks.token_ids) for k in text.valid}
    for row, token_ids in enumerate(blocks.token_ids):
        valid = {k: mask[row] for k, mask in text.valid.items()}
        for k, greedy in zip(valid, _greedy(engine, token_ids, valid), strict=False):
            ids[k][row][valid[k]] = greedy.cpu()
    return Targets("model", ids, text.valid)


def _greedy(
    engine: BranchEngine, token_ids: Tensor, valid: Mapping[int, Tensor]
) -> Iterator[Tensor]:
    """Yield the continuations of one block at the valid positions, offset by offset."""
    positions = valid[1].nonzero()[:, 0]
    if not len(positions):
        return
    prefix = engine.read(token_ids)
    tokens = prefix.log_probs(positions).argmax(dim=1)
    yield tokens
    tree = prefix.tree(positions)
    for offset in range(2, max(valid) + 1):
        # Of the nodes of the level above, those whose position has a target this far ahead.
        longer = valid[offset][positions].nonzero()[:, 0].to(tokens.device)
        if not len(longer):
            return
        pieces = tree.grow(longer, tokens[longer], keep=offset < max(valid))
        tokens = torch.cat([log_probs.argmax(dim=1) for _, log_probs in pieces])
        positions = positions[longer.cpu()]
        yield tokens
