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
from probekit.marginalization.branch_engine import Prefix
from probekit.shapes import Logits, PerPosition, Targets1d

Kept = Int[Tensor, " kept"]  # the extensions that stay, in order of the path they extend


@dataclass(frozen=True)
class Truncation:
    """Which paths are kept at each level.

    Attributes:
        route: "nucleus": the most probable paths until `nucleus` of the mass kept by the level
            above is reached, the path that crosses it included. "top": the `max_branches` most
            probable. "sample": `max_branches` drawn at random, of equal weight, each from its
            own stratum of the probabilities; unbiased, and never more variable than
            independent draws.
        nucleus: Share of mass, in (0, 1]; read by the route "nucleus" alone.
        max_branches: Paths at one position and level at most; at least 1, for samples 2.

    Raises:
        SettingsError: If one of them is outside what is allowed.
    """

    route: str = "nucleus"
    nucleus: float = 0.99
    max_branches: int = 64

    def __post_init__(self) -> None:
        if self.route not in ("nucleus", "top", "sample"):
            raise SettingsError(f"route must be nucleus, top or sample, got {self.route!r}")
        if not 0 < self.nucleus <= 1:
            raise SettingsError(f"nucleus must be in (0, 1], got {self.nucleus}")
        least = 2 if self.route == "sample" else 1
        if self.max_branches < least:
            raise SettingsError(
                f"max_branches must be {least} or more for {self.route}, got {self.max_branches}"
            )


@dataclass(frozen=True)
class Paths:
    """Joint paths of one level, in order of owner and parent.

    `weight` is a path's share in the mixture, `mass` its joint probability; they differ for
    samples alone. Both are float64: 64 shares of 1/64 must sum to one.
    """

    owner: Targets1d
    parent: Targets1d
    token: Targets1d
    weight: PerPosition
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
        retained_mass: Joint probability of the paths kept (or drawn), float64, shape (n,).
        branches: Distinct paths, shape (n,).
        standard_error: Of `probs` when sampled, as if the draws were independent, shape
            (n, vocab); None otherwise. Its square is on average no less than the variance of
            the stratified draws.
    """

    offset: int
    positions: Targets1d
    probs: Float[Tensor, "n vocab"]
    retained_mass: PerPosition
    branches: Targets1d
    standard_error: Float[Tensor, "n vocab"] | None

    @property
    def tv_bound(self) -> PerPosition:
        """Bound on the total variation from the exact distribution, shape (n,).

        1 - retained mass, which always holds; for samples half the sum of the standard errors,
        an estimate of a bound on the expected total variation: 0 where all draws agree.
        """
        if self.standard_error is not None:
            return self.standard_error.double().sum(1) / 2
        return 1 - self.retained_mass


def estimates(
    prefix: Prefix,
    positions: Targets1d,
    horizon: Targets1d,
    truncation: Truncation,
    generator: torch.Generator | None = None,
) -> Iterator[Estimate]:
    """Yield the marginals at offsets 2 up to each position's horizon, some positions at a time.

    Args:
        prefix: A block that was run once.
        positions: Positions in it, ascending, shape (n,).
        horizon: The largest offset wanted at each, at least 2, shape (n,).
        truncation: Which paths are kept.
        generator: Source of randomness on the CPU, for samples alone.
    """
    tree = prefix.tree(positions)
    n, device = len(positions), positions.device
    index, one = torch.arange(n, device=device), torch.ones(n, device=device, dtype=torch.float64)
    root = Paths(index, index, index, one, one)
    paths = _extended(prefix.log_probs(positions), root, index, truncation, generator)
    for offset in range(2, int(horizon.max()) + 1):
        level, deeper = paths, []
        keep = bool((horizon > offset).any())
        for rows, log_probs in tree.grow(level.parent, level.token, keep=keep):
            piece = level[rows]
            yield _mixture(offset, positions, piece, log_probs, truncation)
            further = (horizon[piece.owner] > offset).nonzero().squeeze(1)
            if len(further):
                deeper.append(
                    _extended(
                        log_probs[further],
                        piece[further],
                        further + rows.start,
                        truncation,
                        generator,
                    )
                )
        if deeper:
            columns = zip(*(vars(p).values() for p in deeper), strict=True)
            paths = Paths(*(torch.cat(column) for column in columns))


def _mixture(
    offset: int,
    positions: Int[Tensor, " positions"],
    paths: Paths,
    log_probs: Logits,
    truncation: Truncation,
) -> Estimate:
    """Average next-token distributions over each position's paths; renormalise once."""
    owners, slot, branches = _grouped(paths.owner)
    # One row a position, one column a path: the path's weight in its owner's row, 0 in others.
    share = paths.weight.new_zeros(len(owners), len(slot))
    share[slot, torch.arange(len(slot), device=slot.device)] = paths.weight
    share = share.float()
    probs = log_probs.exp()
    # sum over y of w_y p(x | y) / sum over y of w_y: paths that were dropped count as never.
    mean = share @ probs / share.sum(1, keepdim=True)
    error = None
    if truncation.route == "sample":
        # Var of a mean of n independent draws: (E[p²] - E[p]²) / (n - 1). Strata never have more,
        # at any offset; neighbouring strata would give a closer error, but no such guarantee
        # past offset 2.
        variance = (share @ probs.square() - mean.square()).clamp_min(0)
        error = (variance / (truncation.max_branches - 1)).sqrt()
    # Probabilities that sum to one may, rounded, sum to more; the bound 1 - mass is never negative.
    mass = paths.mass.new_zeros(len(owners)).index_add_(0, slot, paths.mass).clamp_max(1)
    return Estimate(offset, positions[owners], mean, mass, branches, error)


def _extended(
    log_probs: Logits,
    paths: Paths,
    nodes: Targets1d,
    truncation: Truncation,
    generator: torch.Generator | None,
) -> Paths:
    """Return the paths kept at the next level; `nodes` are the indices of `paths` in this one."""
    if truncation.route == "sample":
        row, token, count = _drawn(log_probs, paths, truncation.max_branches, generator)
        weight = count.double() / truncation.max_branches
    else:
        row, token = _most_probable(log_probs, paths, truncation)
        weight = None
    # p(y, x) = p(y) p(x | y), in float64: a product of many small factors.
    mass = paths.mass[row] * log_probs[row, token].double().exp()
    return Paths(paths.owner[row], nodes[row], token, mass if weight is None else weight, mass)


def _most_probable(log_probs: Logits, paths: Paths, truncation: Truncation) -> tuple[Kept, Kept]:
    """Return row and token of the extensions kept, ascending in row."""
    # No position keeps more than max_branches extensions, so no path needs more of its tokens.
    width = min(truncation.max_branches, log_probs.shape[1])
    best, tokens = log_probs.topk(width, dim=1)
    joint = paths.mass[:, None] * best.double().exp()
    # All extensions of a position into one row, (positions, paths · width), padded with zeros:
    # path i of the position in slot s goes to table[s, i].
    _, slot, counts = _grouped(paths.owner)
    starts = counts.cumsum(0) - counts
    index = torch.arange(len(slot), device=slot.device) - starts[slot]
    table = joint.new_zeros(len(counts), int(counts.max()), width)
    table[slot, index] = joint
    values, order = table.flatten(1).topk(min(truncation.max_branches, table[0].numel()), dim=1)
    kept = values > 0  # neither padding nor tokens that cannot come
    if truncation.route == "nucleus" and truncation.nucleus < 1:
        # Keep what stands before the share is reached; the extension that crosses it included.
        above = paths.mass.new_zeros(len(counts)).index_add_(0, slot, paths.mass)
        before = values.cumsum(1) - values
        kept &= before < truncation.nucleus * above[:, None]
    # Back from table[s].flatten()[j] to path j // width of the position and its token j % width.
    row = (starts[:, None] + order // width)[kept]
    token = tokens[row, (order % width)[kept]]
    row, ascending = row.sort(stable=True)  # the engine takes parents in ascending order
    return row, token[ascending]


def _drawn(
    log_probs: Logits, paths: Paths, n: int, generator: torch.Generator | None
) -> tuple[Kept, Kept, Kept]:
    """Draw one token for each copy of each path; return row, token and how often, by row.

    The j-th of a path's c copies draws from [j/c, (j + 1)/c) of its cumulative probabilities.
    """
    # A path of weight c/n stands for c of the n draws; a root stands for all of them.
    copies = (paths.weight * n).round().long()
    cumulative = log_probs.double().exp().cumsum(1)
    vocab = cumulative.shape[1]
    # (paths, most copies), drawn on the CPU: the same numbers whatever the device.
    u = torch.rand(len(copies), int(copies.max()), generator=generator, dtype=torch.float64)
    stratum = torch.arange(u.shape[1], device=cumulative.device)
    # Uniform in stratum j of c, times the row's sum, which rounding leaves beside 1.
    u = (stratum + u.to(cumulative.device)) / copies[:, None] * cumulative[:, -1:]
    # Inverse of the distribution function: the first token whose cumulative sum is above u.
    token = torch.searchsorted(cumulative, u, right=True).clamp_max(vocab - 1)
    drawn = stratum < copies[:, None]  # a path of c copies has c strata, not the most
    # Equal draws of one path become one extension with a count: one key a (path, token).
    keys = torch.arange(len(copies), device=u.device)[:, None] * vocab + token
    key, count = torch.unique(keys[drawn], return_counts=True)
    return key // vocab, key % vocab, count


def _grouped(
    owner: Targets1d,
) -> tuple[Int[Tensor, " owners"], Targets1d, Int[Tensor, " owners"]]:
    """Return the owners, the index of each path's owner among them, and their path counts.

    >>> _grouped(torch.tensor([2, 2, 5]))
    (tensor([2, 5]), tensor([0, 0, 1]), tensor([2, 1]))
    """
    counts = owner.bincount()
    owners = counts.nonzero().squeeze(1)
    return owners, (owner.diff(prepend=owner[:1]) != 0).cumsum(0), counts[owners]
