"""Paths of tokens after a position, kept by joint probability, and the mixture of what follows.

Paths are extended level by level, by one token each; a `Truncation` says which extensions stay.
An `Estimate` mixes the next-token distributions after the paths kept, by their probabilities.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probekit.errors import SettingsError
from probekit.marginalization.branch_tree import Prefix
from probekit.shapes import Logits, PerPosition, Targets1d

Kept = Int[Tensor, " kept"]  # the extensions that stay, in order of the path they extend


@dataclass(frozen=True)
class Truncation:
    """Which paths are kept at each level.

    Attributes:
        route: "nucleus": the most probable paths until `nucleus` of the mass kept by the level
            above is reached, the path that crosses it included. "top": the `max_branches` most
            probable.
        nucleus: Share of mass, in (0, 1]; read by the route "nucleus" alone.
        max_branches: Paths at one position and level at most; at least 1.

    Raises:
        SettingsError: If one of them is outside what is allowed.
    """

    route: str = "nucleus"
    nucleus: float = 0.99
    max_branches: int = 64

    def __post_init__(self) -> None:
        if self.route not in ("nucleus", "top"):
            raise SettingsError(f"route must be nucleus or top, got {self.route!r}")
        if not 0 < self.nucleus <= 1:
            raise SettingsError(f"nucleus must be in (0, 1], got {self.nucleus}")
        if self.max_branches < 1:
            raise SettingsError(f"max_branches must be 1 or more, got {self.max_branches}")


@dataclass(frozen=True)
class Paths:
    """Joint paths of one level, in order of owner and parent.

    `mass` is the joint probability, `tokens` are those of the path, shape (paths, level).
    """

    owner: Targets1d
    parent: Targets1d
    tokens: Int[Tensor, "paths level"]
    mass: PerPosition

    def __getitem__(self, rows: slice | Tensor) -> "Paths":
        return Paths(*(x[rows] for x in vars(self).values()))


@dataclass(frozen=True)
class Estimate:
    """Distributions at one offset for some positions of a block.

    Attributes:
        offset: Offset k; position t predicts token t + k.
        positions: Positions in the block, shape (n,).
        probs: Probabilities, renormalised, float32, shape (n, vocab).
        retained_mass: Joint probability of the paths kept, float64, shape (n,).
        branches: Distinct paths, shape (n,).
        mode: The most probable tokens at offsets 2 … k together, as far as these paths tell,
            shape (n, k - 1).
    """

    offset: int
    positions: Targets1d
    probs: Float[Tensor, "n vocab"]
    retained_mass: PerPosition
    branches: Targets1d
    mode: Int[Tensor, "n later"]

    @property
    def tv_bound(self) -> PerPosition:
        """Bound on the total variation from the exact distribution, shape (n,)."""
        return 1 - self.retained_mass


def estimates(
    prefix: Prefix,
    positions: Targets1d,
    horizon: Targets1d,
    truncation: Truncation,
) -> Iterator[Estimate]:
    """Yield the marginals at offsets 2 up to each position's horizon, some positions at a time.

    Args:
        prefix: A block that was run once.
        positions: Positions in it, ascending, shape (n,).
        horizon: The largest offset wanted at each, at least 2, shape (n,).
        truncation: Which paths are kept.
    """
    tree = prefix.tree(positions)
    n, device = len(positions), positions.device
    index, one = torch.arange(n, device=device), torch.ones(n, device=device, dtype=torch.float64)
    root = Paths(index, index, index.new_empty(n, 0), one)
    paths = _extended(prefix.log_probs(positions), root, index, truncation)
    for offset in range(2, int(horizon.max()) + 1):
        level, deeper = paths, []
        keep = bool((horizon > offset).any())
        for rows, log_probs in tree.grow(level.parent, level.tokens[:, -1], keep=keep):
            piece = level[rows]
            yield _mixture(offset, positions, piece, log_probs)
            further = (horizon[piece.owner] > offset).nonzero().squeeze(1)
            if len(further):
                nodes = further + rows.start
                deeper.append(_extended(log_probs[further], piece[further], nodes, truncation))
        if deeper:
            columns = zip(*(vars(p).values() for p in deeper), strict=True)
            paths = Paths(*(torch.cat(column) for column in columns))


def _mixture(
    offset: int,
    positions: Int[Tensor, " positions"],
    paths: Paths,
    log_probs: Logits,
) -> Estimate:
    """Average next-token distributions over each position's paths; renormalise once."""
    owners, slot, branches = grouped(paths.owner)
    # Paths that differ in the first token alone lead to one sequence from offset 2 on: rows of
    # (slot, tokens), ascending.
    keys = torch.cat([slot[:, None], paths.tokens[:, 1:]], dim=1)
    sequences, which = keys.unique(dim=0, return_inverse=True)
    # p(sequence, x) = sum over its paths y of p(y) p(x | y), shape (sequences, vocab).
    weighted = log_probs.exp().mul_(paths.mass.float()[:, None])
    joint = weighted.new_zeros(len(sequences), weighted.shape[1]).index_add_(0, which, weighted)
    total = paths.mass.new_zeros(len(owners)).index_add_(0, slot, paths.mass)
    # sum over y of p(y) p(x | y) / sum over y of p(y): paths that were dropped count as never.
    mean = joint.new_zeros(len(owners), joint.shape[1]).index_add_(0, sequences[:, 0], joint)
    mean = mean / total.float()[:, None]
    # Probabilities that sum to one may, rounded, sum to more; the bound 1 - mass is never negative.
    mass, mode = total.clamp_max(1), _mode(sequences, joint)
    return Estimate(offset, positions[owners], mean, mass, branches, mode)


def _mode(
    sequences: Int[Tensor, "sequences slot_and_tokens"], joint: Float[Tensor, "sequences vocab"]
) -> Int[Tensor, "owners tokens"]:
    """Return the tokens of the largest joint probability in each slot."""
    best, token = joint.max(1)
    slot = sequences[:, 0]
    # By slot, and by probability in a slot: the last one of a slot is its best.
    order = best.argsort()
    order = order[slot[order].argsort(stable=True)]
    chosen = order[slot.bincount().cumsum(0) - 1]
    return torch.cat([sequences[chosen, 1:], token[chosen, None]], dim=1)


def _extended(log_probs: Logits, paths: Paths, nodes: Targets1d, truncation: Truncation) -> Paths:
    """Return the paths kept at the next level; `nodes` are the indices of `paths` in this one."""
    row, token = most_probable(log_probs, paths.owner, paths.mass, truncation)
    # p(y, x) = p(y) p(x | y), in float64: a product of many small factors.
    mass = paths.mass[row] * log_probs[row, token].double().exp()
    tokens = torch.cat([paths.tokens[row], token[:, None]], dim=1)
    return Paths(paths.owner[row], nodes[row], tokens, mass)


def most_probable(
    log_probs: Logits, owner: Targets1d, mass: PerPosition, truncation: Truncation
) -> tuple[Kept, Kept]:
    """Return row and token of the extensions kept, ascending in row.

    Args:
        log_probs: Of the next token after each path, shape (paths, vocab).
        owner: Index of the position of each path, ascending, shape (paths,).
        mass: Joint probability of each path, shape (paths,).
        truncation: Which extensions are kept.
    """
    # No position keeps more than max_branches extensions, so no path needs more of its tokens.
    width = min(truncation.max_branches, log_probs.shape[1])
    best, tokens = log_probs.topk(width, dim=1)
    joint = mass[:, None] * best.double().exp()
    # All extensions of a position into one row, (positions, paths · width), padded with zeros:
    # path i of the position in slot s goes to table[s, i].
    _, slot, counts = grouped(owner)
    starts, index = places(slot, counts)
    table = joint.new_zeros(len(counts), int(counts.max()), width)
    table[slot, index] = joint
    values, order = table.flatten(1).topk(min(truncation.max_branches, table[0].numel()), dim=1)
    kept = values > 0  # neither padding nor tokens that cannot come
    if truncation.route == "nucleus" and truncation.nucleus < 1:
        # Keep what stands before the share is reached; the extension that crosses it included.
        above = mass.new_zeros(len(counts)).index_add_(0, slot, mass)
        before = values.cumsum(1) - values
        kept &= before < truncation.nucleus * above[:, None]
    # Back from table[s].flatten()[j] to path j // width of the position and its token j % width.
    row = (starts[:, None] + order // width)[kept]
    token = tokens[row, (order % width)[kept]]
    row, ascending = row.sort(stable=True)  # the engine takes parents in ascending order
    return row, token[ascending]


def grouped(
    owner: Targets1d,
) -> tuple[Int[Tensor, " owners"], Targets1d, Int[Tensor, " owners"]]:
    """Return the owners, the index of each path's owner among them, and their path counts.

    >>> grouped(torch.tensor([2, 2, 5]))
    (tensor([2, 5]), tensor([0, 0, 1]), tensor([2, 1]))
    """
    counts = owner.bincount()
    owners = counts.nonzero().squeeze(1)
    return owners, (owner.diff(prepend=owner[:1]) != 0).cumsum(0), counts[owners]


def places(
    slot: Targets1d, counts: Int[Tensor, " owners"]
) -> tuple[Int[Tensor, " owners"], Targets1d]:
    """Return where each owner's paths begin, and the place of each path among its owner's.

    >>> places(torch.tensor([0, 0, 1]), torch.tensor([2, 1]))
    (tensor([0, 2]), tensor([0, 1, 0]))
    """
    starts = counts.cumsum(0) - counts
    return starts, torch.arange(len(slot), device=slot.device) - starts[slot]
