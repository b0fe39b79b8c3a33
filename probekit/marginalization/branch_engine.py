"""Next-token log-probabilities after given token paths at given positions of a block.

    engine = BranchEngine(model)         which of three routes suits this model, and why
    prefix = engine.read(token_ids)      the block, run once; its keys and values are kept
    tree = prefix.tree(positions)        level 0: one node at each position
    for rows, log_probs in tree.grow(parents, tokens): ...        the next level, by pieces

`packed` puts the branches of many positions into one forward pass: a mask lets each branch
token see the prefix up to its position (inside the model's window), its ancestors and itself.
`expanded` copies the prefix's keys and values for every branch of a position. `one-by-one`
runs each path from the start; the other two are checked against it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from probekit.checks import Check
from probekit.errors import DataError, SettingsError
from probekit.marginalization.branch_routes import (
    ROUTES,
    Context,
    KeysValues,
    Nodes,
    choose,
    joined,
    objection,
    run,
    run_block,
)
from probekit.models.loading import longest
from probekit.shapes import Logits, Targets1d

# A forward pass of 256 branch tokens keeps the products large and the mask small on a CPU;
# an accelerator needs more at once to be busy.
TOKENS_ON_CPU, TOKENS_ON_ACCELERATOR = 256, 2048


class BranchEngine:
    """Run branches on one model by the fastest route that is right for it.

    The attention implementation is left as the model has it.

    Attributes:
        model: A Hugging Face causal language model; read in the mode that it is in.
        route: The route in use; `check_first` may replace it where it was chosen here.
        reason: Why this route, in words.
        vocab_size: Rows of the unembedding.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        route: str = "auto",
        max_tokens_per_forward: int | None = None,
    ):
        """Choose a route.

        Args:
            model: The model.
            route: One of `ROUTES`, or "auto": the first of them that this model allows.
            max_tokens_per_forward: Branch tokens in one forward pass, at least 1; by default
                256 on a CPU and 2,048 elsewhere.

        Raises:
            SettingsError: If the route is unknown, or the model does not allow it.
        """
        chosen = next((name for name in ROUTES if name == route), None)
        if chosen is None and route != "auto":
            raise SettingsError(f"route must be auto or one of {ROUTES}, got {route!r}")
        on_cpu = model.device.type == "cpu"
        default = TOKENS_ON_CPU if on_cpu else TOKENS_ON_ACCELERATOR
        self.max_tokens = default if max_tokens_per_forward is None else max_tokens_per_forward
        if self.max_tokens < 1:
            raise SettingsError(f"max_tokens_per_forward must be 1 or more, got {self.max_tokens}")
        self.model = model
        self.vocab_size = int(model.config.get_text_config().vocab_size)
        self.automatic = chosen is None
        self.route, self.reason = choose(model) if chosen is None else (chosen, "asked for")
        why_not = objection(model, self.route)
        if why_not is not None:
            raise SettingsError(f"route {route} does not suit this model: {why_not}; use auto")

    @torch.no_grad()
    def read(self, token_ids: Int[Tensor, " pos"]) -> "Prefix":
        """Run a block once.

        Args:
            token_ids: Token ids of one block, shape (pos,), at least one.

        Returns:
            The block's logits and, where the route uses them, its keys and values.

        Raises:
            DataError: If there is no token.
        """
        if len(token_ids) == 0:
            raise DataError("a block must hold at least one token, got none")
        token_ids = token_ids.to(self.model.device)
        return Prefix(self, token_ids, *run_block(self.route, self.model, token_ids))

    def check_first(self, token_ids: Int[Tensor, " pos"]) -> Check:
        """Compare the route with one by one, near the start and at the end of a block.

        Three branches of two tokens at position 1 and at the last position whose branches
        stay within the block, beyond any window that is shorter than the block. A route that
        was chosen here and fails, or that the model refuses, is replaced by the next one.

        Args:
            token_ids: Token ids of one block, shape (pos,).

        Returns:
            Of the route in use: the largest absolute difference of log-probabilities, nats.
            Allowed are 1e-4, or 64 units of rounding where the model's dtype is coarser.
        """
        # 64 units: room for logits of a few tens that are rounded at each layer.
        allowed = max(1e-4, 64 * torch.finfo(self.model.dtype).eps)
        history: list[str] = []
        measured, outcome = _difference(self, token_ids)
        while self.automatic and not measured <= allowed:  # nan is a failure too
            history.append(f"{self.route} {outcome}")
            self.route = choose(self.model, after=self.route)[0]
            self.reason = "; ".join(history)
            measured, outcome = _difference(self, token_ids)
        message = "; ".join([*history, f"{self.route} {outcome}"])
        passed = measured <= allowed
        way_out = "" if passed else "; use route auto"
        return Check(
            "branches", passed, measured, allowed, f"{message}; {allowed:.0e} nats allowed{way_out}"
        )


@dataclass(frozen=True)
class Prefix:
    """A block that was run once.

    Attributes:
        engine: The engine that ran it.
        token_ids: Token ids, shape (pos,).
        logits: The model's logits, in its dtype, shape (pos, vocab).
        cache: Keys and values by layer; empty on the route one-by-one.
    """

    engine: BranchEngine
    token_ids: Int[Tensor, " pos"]
    logits: Float[Tensor, "pos vocab"]
    cache: KeysValues

    def log_probs(self, positions: Targets1d) -> Logits:
        """Return the model's next-token log-probabilities at positions.

        Args:
            positions: Positions in the block, shape (n,).

        Returns:
            Natural logarithms in float32, shape (n, vocab).
        """
        return self.logits[positions.to(self.logits.device)].float().log_softmax(-1)

    def tree(self, positions: Targets1d) -> "Tree":
        """Return a tree of branches with one node, of no token, at each position.

        Args:
            positions: Positions in the block, shape (n,).

        Raises:
            DataError: If a position is outside the block.
        """
        if bool(((positions < 0) | (positions >= len(self.token_ids))).any()):
            raise DataError(f"positions must be in 0..{len(self.token_ids) - 1}, got {positions}")
        return Tree(self, positions.to(self.token_ids.device))


@dataclass
class Tree:
    """Branches at positions of a block, grown level by level.

    Attributes:
        prefix: The block.
        positions: Positions of level 0, shape (n,).
    """

    prefix: Prefix
    positions: Targets1d
    _levels: list[tuple[Tensor, KeysValues]] = field(default_factory=list)
    _lineage: tuple[Targets1d, ...] = ()
    _ended: bool = False

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
        engine = self.prefix.engine
        device = self.prefix.token_ids.device
        context = Context(self.prefix.token_ids, self.prefix.cache, self._levels)
        nodes = self._nodes(parents.to(device), tokens.to(device))
        # Only packing can mix positions; one position a piece otherwise.
        limit = engine.max_tokens if engine.route == "packed" else 1
        caches: list[KeysValues] = []
        for piece in _pieces(nodes.lineage[0], limit):
            logits = []
            for start in range(piece.start, piece.stop, engine.max_tokens):
                rows = slice(start, min(start + engine.max_tokens, piece.stop))
                rows_logits, cache = run(engine.route, engine.model, context, nodes[rows])
                logits.append(rows_logits)
                if keep:
                    caches.append([(k.clone(), v.clone()) for k, v in cache])
            yield piece, torch.cat(logits).float().log_softmax(-1)
        self._lineage = nodes.lineage
        self._levels.append((nodes.tokens, joined(caches)))
        self._ended = not keep

    def _nodes(self, parents: Tensor, tokens: Tensor) -> Nodes:
        above = len(self._levels[-1][0]) if self._levels else len(self.positions)
        if len(parents) != len(tokens) or len(parents) == 0:
            raise DataError(f"one parent a token, got {len(parents)} for {len(tokens)} tokens")
        if bool((parents.diff() < 0).any()) or parents[0] < 0 or parents[-1] >= above:
            raise DataError(f"parents must ascend within 0..{above - 1}, got {parents}")
        vocab_size = self.prefix.engine.vocab_size
        if bool(((tokens < 0) | (tokens >= vocab_size)).any()):
            raise DataError(f"tokens must be in 0..{vocab_size - 1}, got {tokens}")
        lineage = (*(ancestors[parents] for ancestors in self._lineage), parents)
        ends = self.positions[lineage[0]]
        most = longest(self.prefix.engine.model)
        if most is not None and int(ends.max()) + len(lineage) >= most:
            raise DataError(f"the model takes {most} tokens, a branch ends beyond them")
        return Nodes(tokens, ends, lineage)


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


def _difference(engine: BranchEngine, token_ids: Tensor) -> tuple[float, str]:
    """Return how far the engine's route is from one by one, in nats, and that in words."""
    if engine.route == "one-by-one":
        return 0.0, "is the reference itself"
    last = max(len(token_ids) - 3, 0)
    positions = torch.tensor(sorted({min(1, last), last}), device=engine.model.device)
    reference = BranchEngine(engine.model, "one-by-one").read(token_ids)
    width = min(3, engine.vocab_size)
    first = reference.log_probs(positions).topk(width).indices.flatten()
    expected_tree = reference.tree(positions)
    parents = torch.arange(len(positions), device=first.device).repeat_interleave(width)
    expected = [_level(expected_tree, parents, first)]
    second = expected[0].argmax(-1)
    nodes = torch.arange(len(second), device=first.device)
    expected.append(_level(expected_tree, nodes, second))
    try:
        tree = engine.read(token_ids).tree(positions)
        actual = [_level(tree, parents, first), _level(tree, nodes, second)]
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return float("inf"), f"was refused by the model ({error})"
    measured = float((torch.cat(actual) - torch.cat(expected)).abs().max())
    return measured, f"differs from one by one by {measured:.1e} nats"


def _level(tree: Tree, parents: Tensor, tokens: Tensor) -> Logits:
    return torch.cat([log_probs for _, log_probs in tree.grow(parents, tokens)])
