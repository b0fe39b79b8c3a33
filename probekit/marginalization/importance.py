"""The model's own cross-entropy of a token further on, without the bias of truncation.

One number is needed at a position: p = p(x_{t+k} = target | x_<=t), the sum over paths y of
k - 1 tokens of w(y) q(target | y). The paths that a `Truncation` keeps are summed exactly. Of all
others some are drawn, level by level, by how much they can matter for the target of their level,
and weighted such that the estimate of p is unbiased:

    size(y) = w(y) (1/2 + 1/2 g(target | last token of y) / mean of g)
    a path of size tau or more is drawn; of the rest each is with probability size / tau, by
    systematic sampling, and then has weight w(y) tau / size; tau gives n paths in all

g is what the model expects after the last token alone (`Continuations`); whatever it is, the
estimate stays unbiased. Four groups are drawn independently: -log of their mean is too large by
half the relative variance of the mean. The jackknife over groups removes that, and says the error
of the result. No group misses a path that is kept: where one did, the others would be no measure
of it, and the correction as large as what it missed.

Sources: Fearnhead and Clifford (2003), "On-line inference for hidden Markov models via particle
filters", for the threshold; Chirkova et al. (2023), "Should you marginalize over possible
tokenizations?", for importance sampling of a language model's marginals.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probekit.marginalization.branch_tree import Prefix
from probekit.marginalization.continuations import Continuations
from probekit.marginalization.joint_paths import Truncation, grouped, most_probable, places
from probekit.scoring.losses import SMALLEST
from probekit.scoring.systematic import drawn, drawn_of_many, inclusion
from probekit.shapes import Logits, PerPosition, Targets1d

# Groups that are drawn independently. With two, the correction is as uncertain as the mean itself.
GROUPS = 4
# Of the paths of a group, the share that follows the text, for the joint probability.
SHARE_OF_JOINT = 1 / 2


@dataclass(frozen=True)
class TargetNats:
    """Cross-entropies of the targets at one offset from some positions.

    Attributes:
        offset: Offset k.
        nats: -log p(x_{t+k} | x_<=t), shape (n,).
        joint_nats: -log p(x_{t+2} … x_{t+k} | x_<=t), shape (n,).
        variance: Of `nats`, by what it is without each group in turn, shape (n,).
    """

    offset: int
    nats: PerPosition
    joint_nats: PerPosition
    variance: PerPosition

    @classmethod
    def of_groups(
        cls, offset: int, probs: Float[Tensor, "groups n"], joint_probs: Float[Tensor, "groups n"]
    ) -> "TargetNats":
        """Combine unbiased estimates of probabilities by independent groups."""
        nats, variance = jackknifed(probs)
        return cls(offset, nats, jackknifed(joint_probs)[0], variance)


def jackknifed(probs: Float[Tensor, "groups n"]) -> tuple[PerPosition, PerPosition]:
    """Return -log p from unbiased estimates of p, two or more, and the variance of the result.

    -log of the mean is too large by half the relative variance of the mean; without one of g
    groups by g / (g - 1) as much.

    Source: Efron and Stein (1981), "The jackknife estimate of variance".

    >>> jackknifed(torch.tensor([[0.5], [0.5]]).double())
    (tensor([0.6931], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """
    # A probability that underflows would cost its token an infinite loss.
    probs, n = probs.clamp_min(SMALLEST), len(probs)
    others = (1 - torch.eye(n, dtype=probs.dtype, device=probs.device)) / (n - 1)
    without = -(others @ probs).log()
    mean = without.mean(0)
    nats = n * -probs.mean(0).log() - (n - 1) * mean
    return nats, (n - 1) / n * (without - mean).square().sum(0)


@dataclass(frozen=True)
class _Paths:
    """Weighted paths of one level, in order of owner and parent.

    `free` paths estimate the marginal. `bound` ones, whose tokens from t + 2 on are those of
    the text, estimate the joint probability. Paths of one token do both. `group` counts from 1, and
    is 0 for the paths that are in all.
    """

    owner: Targets1d
    parent: Targets1d
    token: Targets1d
    weight: PerPosition
    group: Targets1d
    free: Bool[Tensor, " paths"]
    bound: Bool[Tensor, " paths"]

    def __getitem__(self, rows: slice | Tensor) -> "_Paths":
        return _Paths(*(x[rows] for x in vars(self).values()))

    def within(self, group: int) -> Bool[Tensor, " paths"]:
        """Return which of them a group has."""
        return (self.group == 0) | (self.group == group)

    def then(
        self, rows: Targets1d, token: Targets1d, weight: PerPosition, group: int, bound: bool
    ) -> "_Paths":
        """Return paths of the next level; `rows` are those that they extend, by one token each."""
        is_bound = torch.full_like(rows, bound, dtype=torch.bool)
        of_group = torch.full_like(rows, group)
        return _Paths(self.owner[rows], rows, token, weight, of_group, ~is_bound, is_bound)

    @classmethod
    def joined(cls, parts: Sequence["_Paths"]) -> "_Paths":
        """Return the paths of several parts, ascending by parent."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        paths = cls(*(torch.cat(column) for column in columns))
        return paths[paths.parent.sort(stable=True).indices]


@dataclass(frozen=True)
class TargetSampler:
    """Estimates the probabilities of targets by paths that matter for them.

    Attributes:
        continuations: The guess of what follows a token.
        truncation: Which paths are summed exactly.
        n_paths: Paths of a group at one position and level, beside these, at least 1.
    """

    continuations: Continuations
    truncation: Truncation
    n_paths: int

    def nats(
        self,
        prefix: Prefix,
        positions: Targets1d,
        targets: Int[Tensor, "n offsets"],
        uniform: Float[Tensor, "groups n offsets"],
    ) -> Iterator[TargetNats]:
        """Yield the cross-entropies of targets at offsets 2, 3, ….

        Args:
            prefix: A block that was run once.
            positions: Positions in it, shape (n,).
            targets: Their targets at offsets 2, 3, …, shape (n, offsets).
            uniform: Uniform random numbers in [0, 1), shape (groups, n, offsets).
        """
        index, yes = torch.arange(len(positions), device=positions.device), positions >= 0
        root = _Paths(index, index, index, yes.double(), 0 * index, yes, ~yes)
        first = self._free(prefix.log_probs(positions), root, targets[:, 0], uniform[..., 0])
        paths = _Paths.joined(list(first))
        paths = replace(paths, bound=paths.free)
        tree = prefix.tree(positions)
        for step in range(targets.shape[1]):
            deeper, last = [], step + 1 == targets.shape[1]
            sums = torch.zeros(
                2, len(uniform) + 1, len(positions), dtype=torch.float64, device=positions.device
            )
            for rows, log_probs in tree.grow(paths.parent, paths.token, keep=not last):
                piece = paths[rows]
                target = targets[piece.owner, step]
                of_target = log_probs.gather(1, target[:, None])[:, 0].double().exp()
                reached = replace(piece, weight=piece.weight * of_target)  # path and target
                for total, chosen in zip(sums, (piece.free, piece.bound), strict=True):
                    at = reached.group, reached.owner
                    total.index_put_(at, reached.weight * chosen, accumulate=True)
                if not last:
                    draws = uniform[..., step + 1]
                    more = (
                        *self._free(log_probs, piece, targets[:, step + 1], draws),
                        *self._bound(reached, target, draws),
                    )
                    deeper += [replace(each, parent=each.parent + rows.start) for each in more]
            yield TargetNats.of_groups(step + 2, *(sums[:, :1] + sums[:, 1:]))
            if not last:
                paths = _Paths.joined(deeper)

    def _free(
        self,
        log_probs: Logits,
        paths: _Paths,
        targets: Int[Tensor, " owners"],
        uniform: Float[Tensor, "groups owners"],
    ) -> Iterator[_Paths]:
        """Yield extensions of free paths: those kept, then by group those drawn of the others."""
        whole = (paths.group == 0).nonzero()[:, 0]
        kept, token = most_probable(
            log_probs[whole], paths.owner[whole], paths.weight[whole], self.truncation
        )
        kept = whole[kept]
        weight = paths.weight[kept] * log_probs[kept, token].double().exp()
        yield paths.then(kept, token, weight, group=0, bound=False)
        # Extensions by path and token: w(y) p(x | y); those that are kept are not drawn.
        sizes = log_probs.exp().mul_(paths.weight.float()[:, None])
        sizes[kept, token] = 0
        for group, draws in enumerate(uniform, start=1):
            rows = (paths.free & paths.within(group)).nonzero()[:, 0]
            row, token, chance = self._drawn(sizes[rows], paths.owner[rows], targets, draws)
            row = rows[row]
            weight = paths.weight[row] * log_probs[row, token].double().exp() / chance
            yield paths.then(row, token, weight, group=group, bound=False)

    def _drawn(
        self,
        sizes: Float[Tensor, "paths vocab"],
        owner: Targets1d,
        targets: Int[Tensor, " owners"],
        uniform: Float[Tensor, " owners"],
    ) -> tuple[Int[Tensor, " drawn"], Int[Tensor, " drawn"], Float[Tensor, " drawn"]]:
        """Draw extensions by what they can matter for their owner's next target.

        Returns:
            Row of `sizes`, token and chance of each.
        """
        owners, slot, counts = grouped(owner)
        relevance = self._relevance(sizes, slot, targets[owners])
        # All extensions of an owner into one row: those of its path i go to table[owner, i].
        starts, path = places(slot, counts)
        table = sizes.new_zeros(len(counts), int(counts.max()), sizes.shape[1])
        table[slot, path] = sizes
        table[:, :, self.continuations.tokens] *= relevance[:, None]
        row, place, chance = drawn_of_many(table.flatten(1), self.n_paths, uniform[owners])
        return starts[row] + place // sizes.shape[1], place % sizes.shape[1], chance

    def _relevance(self, mass: Tensor, slot: Tensor, targets: Tensor) -> Tensor:
        """Return 1/2 + 1/2 g / mean of g, shape (n, tokens); of tokens without a g it is 1.

        Args:
            mass: Weights of extensions, shape (paths, vocab).
            slot: Which target is each path's, shape (paths,).
            targets: The targets, shape (n,).
        """
        guess = self.continuations.guess(targets)
        known = torch.zeros_like(guess).index_add_(0, slot, mass[:, self.continuations.tokens])
        mean = (known * guess).sum(1) / known.sum(1).clamp_min(SMALLEST)
        return 0.5 + 0.5 * guess / mean.clamp_min(SMALLEST)[:, None]

    def _bound(
        self, paths: _Paths, targets: Targets1d, uniform: Float[Tensor, "groups owners"]
    ) -> Iterator[_Paths]:
        """Yield, by group, extensions of bound paths by the target itself, drawn by weight.

        `paths` have the weight of path and target.
        """
        for group, draws in enumerate(uniform, start=1):
            rows = (paths.bound & paths.within(group)).nonzero()[:, 0]
            owners, slot, counts = grouped(paths.owner[rows])
            _, place = places(slot, counts)
            table = paths.weight.new_zeros(len(counts), int(counts.max()))
            table[slot, place] = paths.weight[rows]
            chances = inclusion(table, max(1, int(self.n_paths * SHARE_OF_JOINT)))
            picked = drawn(chances, draws[owners])[slot, place]
            weight = (paths.weight[rows] / chances[slot, place])[picked]
            rows = rows[picked]
            yield paths.then(rows, targets[rows], weight, group=group, bound=True)
