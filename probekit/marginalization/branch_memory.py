"""The branches of a block that were run, kept so that no path is run twice from one position.

A node is known by its parent and its token; at the first level the parent is a position of the
block. What is kept of a node is what enters the output embeddings, so that another output may
stand in for the model's own, and its keys and values where a deeper level may follow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from probekit.marginalization.branch_routes import KeysValues, Nodes, joined
from probekit.shapes import Hidden, Targets1d

Key = tuple[int, int]  # parent and token


@dataclass
class Level:
    """The nodes of one level, in the order in which they were run.

    Attributes:
        places: The place of each node in the level, by its key.
        nodes: The nodes; their lineage is of places in the levels above.
        hidden: What enters the output embeddings, shape (nodes, hidden).
        cache: Keys and values by layer; none where no deeper level follows.
    """

    places: dict[Key, int] = field(default_factory=dict)
    nodes: Nodes | None = None
    hidden: Hidden | None = None
    cache: KeysValues = field(default_factory=list)

    def missing(self, keys: Sequence[Key]) -> list[Key]:
        """Return the keys of nodes that were not run, each once."""
        return list(dict.fromkeys(key for key in keys if key not in self.places))

    def add(self, keys: Sequence[Key], nodes: Nodes, hidden: Hidden, cache: KeysValues) -> None:
        """Keep nodes that were run."""
        self.places |= {key: place for place, key in enumerate(keys, start=len(self.places))}
        if self.nodes is None or self.hidden is None:
            self.nodes, self.hidden, self.cache = nodes, hidden, cache
            return
        self.nodes = Nodes.joined([self.nodes, nodes])
        self.hidden = torch.cat([self.hidden, hidden])
        self.cache = joined([self.cache, cache])

    @property
    def n_bytes(self) -> int:
        """Bytes that are kept."""
        kept = [x for pair in self.cache for x in pair]
        kept += [] if self.hidden is None else [self.hidden]
        return sum(x.numel() * x.element_size() for x in kept)


@dataclass
class Memory:
    """The levels of a block's branches, by their number from 1 on, and whether more may follow."""

    levels: dict[tuple[int, bool], Level] = field(default_factory=dict)

    def level(self, number: int, keep: bool) -> Level:
        """Return a level, empty at first."""
        return self.levels.setdefault((number, keep), Level())

    def above(self, number: int) -> list[Level]:
        """Return the levels above one, which were kept."""
        return [self.levels[each, True] for each in range(1, number)]

    @property
    def n_bytes(self) -> int:
        """Bytes that are kept."""
        return sum(level.n_bytes for level in self.levels.values())


def nodes_below(above: Sequence[Level], keys: Sequence[Key]) -> tuple[list[Key], Nodes]:
    """Return nodes by their keys, in order of position, and the keys in that order.

    Args:
        above: The levels above.
        keys: Parent and token of each node.
    """
    last = above[-1].nodes if above else None
    device = None if last is None else last.tokens.device
    parents, tokens = torch.tensor(keys, device=device).T
    lineage = (parents,) if last is None else (*(a[parents] for a in last.lineage), parents)
    order = lineage[0].argsort(stable=True)
    nodes = Nodes(tokens, lineage[0], lineage)[order]
    return [keys[place] for place in order.tolist()], nodes


def passes(ends: Targets1d, mixed: bool, limit: int) -> Iterator[Tensor]:
    """Yield which nodes run in each forward pass: at most `limit`, of one position or mixed.

    >>> [part.tolist() for part in passes(torch.tensor([5, 5, 5, 8]), mixed=False, limit=2)]
    [[0, 1], [2], [3]]
    >>> [part.tolist() for part in passes(torch.tensor([5, 5, 5, 8]), mixed=True, limit=3)]
    [[0, 1, 2], [3]]
    """
    counts = ends.unique_consecutive(return_counts=True)[1].tolist()
    rows = torch.arange(len(ends), device=ends.device)
    for group in [rows] if mixed else rows.split(counts):
        yield from group.split(limit)
