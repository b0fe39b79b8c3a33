"""The model's own cross-entropy of a token further on, without the bias of truncation.

One number is needed at a position: p = p(x_{t+k} = target | x_<=t), the sum over paths y of
k - 1 tokens of w(y) q(target | y). Paths are chosen, level by level, by how much they can matter
for the target of their level, and weighted such that the estimate of p is unbiased:

    size(y) = w(y) (1/2 + 1/2 g(target | last token of y) / mean of g)
    a path of size tau or more is kept; of the rest each stays with probability size / tau,
    by systematic sampling, and then has weight w(y) tau / size; tau gives n paths in all

g is what the model expects after the last token alone (`Continuations`); whatever it is, the
estimate stays unbiased. Two halves of the paths are drawn independently: -log of their mean is
biased by half the variance of p, which 2 (-log mean) - mean (-log) removes (the jackknife), and
their difference measures the error.

Where one half misses a path that matters, and the other has it, that difference is no measure and
the correction is as large. So each half is held within what is proven of p, where something is:
the paths of a truncated mixture have part of p, and the mass that they leave bounds the rest.

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
from probekit.marginalization.joint_paths import grouped, places
from probekit.scoring.losses import SMALLEST
from probekit.scoring.systematic import drawn, drawn_of_many, inclusion
from probekit.shapes import Logits, PerPosition, Targets1d

# Of the paths of a half, the share that follows the text, for the joint probability.
SHARE_OF_JOINT = 1 / 4


@dataclass(frozen=True)
class TargetNats:
    """Cross-entropies of the targets at one offset from some positions.

    Attributes:
        offset: Offset k.
        nats: -log p(x_{t+k} | x_<=t), shape (n,).
        joint_nats: -log p(x_{t+2} … x_{t+k} | x_<=t), shape (n,).
        variance: Of `nats`, by the difference of two halves, shape (n,).
    """

    offset: int
    nats: PerPosition
    joint_nats: PerPosition
    variance: PerPosition

    @classmethod
    def of_halves(
        cls, offset: int, probs: Float[Tensor, "2 n"], joint_probs: Float[Tensor, "2 n"]
    ) -> "TargetNats":
        """Combine unbiased estimates of probabilities by two independent halves."""
        nats, variance = jackknifed(probs)
        return cls(offset, nats, jackknifed(joint_probs)[0], variance)


def jackknifed(probs: Float[Tensor, "2 n"]) -> tuple[PerPosition, PerPosition]:
    """Return -log p from two unbiased estimates of p, and the variance of the result.

    -log of the mean is too large by half the relative variance of the mean, the mean of -log by
    twice as much.

    >>> jackknifed(torch.tensor([[0.5], [0.5]]).double())
    (tensor([0.6931], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """
    # A probability that underflows would cost its token an infinite loss.
    probs = probs.clamp_min(SMALLEST)
    of_halves = -probs.log()
    nats = 2 * -probs.mean(0).log() - of_halves.mean(0)
    return nats, (of_halves[0] - of_halves[1]).square() / 4


@dataclass(frozen=True)
class _Paths:
    """Weighted paths of one level, in order of owner and parent.

    `free` paths estimate the marginal. `bound` ones, whose tokens from t + 2 on are those of
    the text, estimate the joint probability. Paths of one token do both.
    """

    owner: Targets1d
    parent: Targets1d
    token: Targets1d
    weight: PerPosition
    free: Bool[Tensor, " paths"]
    bound: Bool[Tensor, " paths"]

    def __getitem__(self, rows: slice | Tensor) -> "_Paths":
        return _Paths(*(x[rows] for x in vars(self).values()))

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
        n_paths: Paths of a half at one position and level, at least 1.
    """

    continuations: Continuations
    n_paths: int

    def nats(
        self,
        prefix: Prefix,
        positions: Targets1d,
        targets: Int[Tensor, "n offsets"],
        uniform: Float[Tensor, "halves n offsets"],
        proven: Float[Tensor, "n offsets ends"] | None = None,
    ) -> Iterator[TargetNats]:
        """Yield the cross-entropies of targets at offsets 2, 3, ….

        Args:
            prefix: A block that was run once.
            positions: Positions in it, shape (n,).
            targets: Their targets at offsets 2, 3, …, shape (n, offsets).
            uniform: Uniform random numbers in [0, 1), shape (2, n, offsets).
            proven: The least and the most that each target's probability can be, shape
                (n, offsets, 2); None where nothing is known.
        """
        owners = positions.repeat(2)  # the two halves, each with its own paths
        targets, uniform = targets.repeat(2, 1), uniform.flatten(0, 1)
        index, yes = torch.arange(len(owners), device=owners.device), torch.ones_like(owners).bool()
        root = _Paths(index, index, index, yes.double(), yes, ~yes)
        paths = self._free(prefix.log_probs(owners), root, index, targets[:, 0], uniform[:, 0])
        paths = replace(paths, bound=paths.free)
        tree = prefix.tree(owners)
        for step in range(targets.shape[1]):
            deeper, last = [], step + 1 == targets.shape[1]
            sums = torch.zeros(2, len(owners), dtype=torch.float64, device=owners.device)
            for rows, log_probs in tree.grow(paths.parent, paths.token, keep=not last):
                piece = paths[rows]
                target = targets[piece.owner, step]
                of_target = log_probs.gather(1, target[:, None])[:, 0].double().exp()
                piece = replace(piece, weight=piece.weight * of_target)  # of path and target
                for total, chosen in zip(sums, (piece.free, piece.bound), strict=True):
                    total.index_add_(0, piece.owner, piece.weight * chosen)
                if not last:
                    nodes = torch.arange(rows.start, rows.stop, device=owners.device)
                    at = targets[:, step + 1], uniform[:, step + 1]
                    deeper.append(self._free(log_probs, paths[rows], nodes, *at))
                    deeper.append(self._bound(piece, nodes, target, at[1]))
            free, bound = sums.view(2, 2, -1)
            if proven is not None:
                free = free.clamp(*proven[:, step].unbind(dim=1))
            yield TargetNats.of_halves(step + 2, free, bound)
            if not last:
                paths = _Paths.joined(deeper)

    def _free(
        self,
        log_probs: Logits,
        paths: _Paths,
        nodes: Targets1d,
        targets: Int[Tensor, " owners"],
        uniform: Float[Tensor, " owners"],
    ) -> _Paths:
        """Draw extensions of free paths by what they can matter for their owner's next target."""
        log_probs, paths, nodes = log_probs[paths.free], paths[paths.free], nodes[paths.free]
        owners, slot, counts = grouped(paths.owner)
        # Extensions by path, token: w(y) p(x | y), then how much each may matter.
        sizes = log_probs.exp().mul_(paths.weight.float()[:, None])
        relevance = self._relevance(sizes, slot, targets[owners])
        # All extensions of an owner into one row: those of its path i go to table[owner, i].
        starts, path = places(slot, counts)
        table = sizes.new_zeros(len(counts), int(counts.max()), sizes.shape[1])
        table[slot, path] = sizes
        table[:, :, self.continuations.tokens] *= relevance[:, None]
        row, place, chance = drawn_of_many(table.flatten(1), self.n_paths, uniform[owners])
        parent, token = starts[row] + place // sizes.shape[1], place % sizes.shape[1]
        weight = paths.weight[parent] * log_probs[parent, token].double().exp() / chance
        yes = torch.ones_like(parent).bool()
        return _Paths(paths.owner[parent], nodes[parent], token, weight, yes, ~yes)

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
        self,
        paths: _Paths,
        nodes: Targets1d,
        targets: Targets1d,
        uniform: Float[Tensor, " owners"],
    ) -> _Paths:
        """Extend bound paths by the target itself; drawn by weight where they are too many.

        `paths` have the weight of path and target.
        """
        paths, nodes, targets = paths[paths.bound], nodes[paths.bound], targets[paths.bound]
        owners, slot, counts = grouped(paths.owner)
        _, place = places(slot, counts)
        table = paths.weight.new_zeros(len(counts), int(counts.max()))
        table[slot, place] = paths.weight
        chances = inclusion(table, max(1, int(self.n_paths * SHARE_OF_JOINT)))
        picked = drawn(chances, uniform[owners])[slot, place]
        weight = (paths.weight / chances[slot, place])[picked]
        no = torch.zeros_like(nodes[picked]).bool()
        return _Paths(paths.owner[picked], nodes[picked], targets[picked], weight, no, ~no)
