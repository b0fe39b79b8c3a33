"""Next-token log-probabilities after given token paths at given positions of a block.

    prefix = runner.read(token_ids)      the block, run once; its keys and values are kept
    tree = prefix.tree(positions)        level 0: one node at each position
    for rows, log_probs in tree.grow(parents, tokens): ...        the next level, by pieces

Blocks and branches that were run are kept while there is room.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from probekit.errors import DataError
from probekit.marginalization.branch_memory import Level, Memory, nodes_below, passes
from probekit.marginalization.branch_routes import (
    Context,
    KeysValues,
    Nodes,
    Route,
    joined,
    run,
    run_block,
)
from probekit.models.anatomy import Anatomy
from probekit.models.loading import longest
from probekit.shapes import Hidden, Logits, Targets1d

# What may be kept of blocks and branches for the next readout: those of 100 positions of
# SmolLM2-135M. Not a share of what is free: where it ends, rounding and so draws are others.
ROOM_BYTES = 3 * 2**29


class Runner:
    """Runs blocks and branches of one model on one route.

    Blocks and branches that were run are kept while there is room: the model's weights must not
    change, but for its output.

    Attributes:
        model: A Hugging Face causal language model; read in the mode that it is in.
        anatomy: Its anatomy.
        route: The route in use.
        max_tokens: Branch tokens in one forward pass.
        vocab_size: Rows of the unembedding.
        room_bytes: What may be kept of blocks and branches.
    """

    def __init__(
        self, model: PreTrainedModel, anatomy: Anatomy, route: Route, max_tokens: int
    ) -> None:
        self.model, self.anatomy, self.route, self.max_tokens = model, anatomy, route, max_tokens
        self.vocab_size = anatomy.vocab_size
        self.room_bytes = ROOM_BYTES
        self._read: dict[tuple[Route, tuple[int, ...]], Prefix] = {}

    @torch.no_grad()
    def read(self, token_ids: Int[Tensor, " pos"]) -> "Prefix":
        """Run a block once.

        Args:
            token_ids: Token ids of one block, shape (pos,), at least one.

        Returns:
            What enters the output embeddings and, where the route uses them, its keys and
            values. The same one is returned again while there is room for it.

        Raises:
            DataError: If there is no token.
        """
        if len(token_ids) == 0:
            raise DataError("a block must hold at least one token, got none")
        token_ids = token_ids.to(self.model.device)
        key = self.route, tuple(token_ids.tolist())
        prefix = self._read.get(key)
        if prefix is None:
            prefix = Prefix(self, token_ids, *run_block(self.route, self.model, token_ids))
            if self.has_room:
                self._read[key] = prefix
        return prefix

    @property
    def has_room(self) -> bool:
        """Whether more blocks and branches may be kept."""
        return sum(prefix.n_bytes for prefix in self._read.values()) < self.room_bytes

    def forget(self) -> None:
        """Drop the blocks and branches that were kept."""
        self._read.clear()

    @torch.no_grad()
    def log_probs(self, hidden: Float[Tensor, "n hidden"]) -> Logits:
        """Return next-token log-probabilities, float32, of what enters the output embeddings.

        They are run as a module, in whose place another may stand (`in_place_of_output`).
        """
        logits = self.anatomy.scaled(self.anatomy.output_embeddings(hidden))
        return logits.float().log_softmax(-1)


@dataclass(frozen=True)
class Prefix:
    """A block that was run once.

    Attributes:
        engine: What ran it.
        token_ids: Token ids, shape (pos,).
        hidden: What enters the output embeddings, in the model's dtype, shape (pos, hidden).
        cache: Keys and values by layer; empty on the route one-by-one.
        memory: The branches that were run; those of other trees too, as long as there is room.
    """

    engine: Runner
    token_ids: Int[Tensor, " pos"]
    hidden: Float[Tensor, "pos hidden"]
    cache: KeysValues
    memory: Memory = field(default_factory=Memory)

    @property
    def n_bytes(self) -> int:
        """Bytes of keys and values, and of what was kept of branches."""
        return self.memory.n_bytes + sum(2 * k.numel() * k.element_size() for k, _ in self.cache)

    def log_probs(self, positions: Targets1d) -> Logits:
        """Return the model's next-token log-probabilities at positions.

        Args:
            positions: Positions in the block, shape (n,).

        Returns:
            Natural logarithms in float32, shape (n, vocab).
        """
        return self.engine.log_probs(self.hidden[positions.to(self.hidden.device)])

    def tree(self, positions: Targets1d) -> "Tree":
        """Return a tree of branches with one node, of no token, at each position.

        Args:
            positions: Positions in the block, shape (n,).

        Raises:
            DataError: If a position is outside the block.
        """
        if bool(((positions < 0) | (positions >= len(self.token_ids))).any()):
            raise DataError(f"positions must be in 0..{len(self.token_ids) - 1}, got {positions}")
        positions = positions.to(self.token_ids.device)
        return Tree(self, positions, self.memory if self.engine.has_room else Memory())


@dataclass
class Tree:
    """Branches at positions of a block, grown level by level.

    Attributes:
        prefix: The block.
        positions: Positions of level 0, shape (n,).
        memory: The branches that were run.
    """

    prefix: Prefix
    positions: Targets1d
    memory: Memory = field(default_factory=Memory)
    _depth: int = 0
    _ended: bool = False

    def __post_init__(self) -> None:
        # Of the nodes of the last level: the index of each one's position, and their places in
        # the memory, which are positions at level 0.
        self._owners, self._places = torch.arange(len(self.positions)), self.positions

    def grow(
        self, parents: Int[Tensor, " parents"], tokens: Targets1d, keep: bool = True
    ) -> Iterator[tuple[slice, Logits]]:
        """Add a level: one token after each given node of the level above.

        Run to the end before the next call. A piece holds all nodes of its positions, so
        what is decided per position can be decided piece by piece, and (nodes, vocab) never
        exists for the whole level.

        Args:
            parents: Indices into the level above, ascending; into `positions` at first.
            tokens: Token ids, shape (n,).
            keep: Whether a deeper level will follow; if not, keys and values are dropped.

        Yields:
            The piece, a slice of 0..n, and the log-probabilities of the token after each of
            its nodes, natural logarithms in float32, shape (piece, vocab).

        Raises:
            DataError: If parents are out of range or order, tokens or depth are not the
                model's, or the level above was not kept.
        """
        if self._ended:
            raise DataError("the level above was grown with keep=False, nothing can follow it")
        self._require_possible(parents, tokens)
        owners, engine = self._owners[parents.cpu()], self.prefix.engine
        level, places = self._run(self._places[parents.to(self._places.device)], tokens, keep)
        assert level.hidden is not None
        for piece in _pieces(owners, engine.max_tokens):
            yield piece, engine.log_probs(level.hidden[places[piece]])
        self._owners, self._places = owners, places
        self._depth, self._ended = self._depth + 1, not keep

    def _run(self, parents: Tensor, tokens: Tensor, keep: bool) -> tuple[Level, Tensor]:
        """Return the next level, in which these nodes were run, and their places in it."""
        level, above = self.memory.level(self._depth + 1, keep), self.memory.above(self._depth + 1)
        keys = list(zip(parents.tolist(), tokens.tolist(), strict=True))
        if missing := level.missing(keys):
            missing, nodes = nodes_below(above, missing)
            level.add(missing, nodes, *self._forward(above, nodes, keep))
        places = [level.places[key] for key in keys]
        return level, torch.tensor(places, device=self.prefix.token_ids.device)

    def _forward(
        self, above: Sequence[Level], nodes: Nodes, keep: bool
    ) -> tuple[Hidden, KeysValues]:
        engine, hidden, caches = self.prefix.engine, [], []
        seen = [(level.nodes.tokens, level.cache) for level in above if level.nodes is not None]
        context = Context(self.prefix.token_ids, self.prefix.cache, seen)
        # Only packing can mix positions.
        for rows in passes(nodes.ends, engine.route == "packed", engine.max_tokens):
            rows_hidden, cache = run(engine.route, engine.model, context, nodes[rows])
            hidden.append(rows_hidden)
            if keep:
                caches.append([(k.clone(), v.clone()) for k, v in cache])
        return torch.cat(hidden), joined(caches) if keep else []

    def _require_possible(self, parents: Tensor, tokens: Tensor) -> None:
        above = len(self._places)
        if len(parents) != len(tokens) or len(parents) == 0:
            raise DataError(f"one parent a token, got {len(parents)} for {len(tokens)} tokens")
        if bool((parents.diff() < 0).any()) or parents[0] < 0 or parents[-1] >= above:
            raise DataError(f"parents must ascend within 0..{above - 1}, got {parents}")
        vocab_size = self.prefix.engine.vocab_size
        if bool(((tokens < 0) | (tokens >= vocab_size)).any()):
            raise DataError(f"tokens must be in 0..{vocab_size - 1}, got {tokens}")
        most = longest(self.prefix.engine.model)
        furthest = int(self.positions[self._owners[parents.cpu()]].max()) + self._depth + 1
        if most is not None and furthest >= most:
            raise DataError(f"the model takes {most} tokens, a branch ends beyond them")


def _pieces(owners: Targets1d, limit: int) -> Iterator[slice]:
    """Cut nodes, in order of owner, into pieces of whole owners and at most `limit` nodes.

    >>> list(_pieces(torch.tensor([0, 0, 1, 2, 2, 2]), limit=3))
    [slice(0, 3, None), slice(3, 6, None)]
    """
    start = stop = 0
    for count in owners.bincount().tolist():
        if stop > start and stop + count - start > limit:
            yield slice(start, stop)
            start = stop
        stop += count
    yield slice(start, stop)
