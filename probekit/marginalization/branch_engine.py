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

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from probekit.checks import Check
from probekit.errors import SettingsError
from probekit.marginalization.branch_routes import ROUTES, choose, objection
from probekit.marginalization.branch_tree import Runner, Tree
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.models.rounding import log_prob_tolerance
from probekit.shapes import Logits

# A forward pass of 256 branch tokens keeps the products large and the mask small on a CPU;
# an accelerator needs more at once to be busy.
TOKENS_ON_CPU, TOKENS_ON_ACCELERATOR = 256, 2048


class BranchEngine(Runner):
    """Run branches on one model by the fastest route that is right for it.

    The attention implementation is left as the model has it.

    Attributes:
        route: The route in use; `check_first` may replace it where it was chosen here.
        automatic: Whether it was chosen here.
        reason: Why this route, in words.
        checked: What `check_first` said last; None before.
    """

    checked: Check | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        route: str = "auto",
        max_tokens_per_forward: int | None = None,
        anatomy: Anatomy | None = None,
    ):
        """Choose a route.

        Args:
            model: The model.
            route: One of `ROUTES`, or "auto": the first of them that this model allows.
            max_tokens_per_forward: Branch tokens in one forward pass, at least 1; by default
                256 on a CPU and 2,048 elsewhere.
            anatomy: The model's anatomy; found if not given.

        Raises:
            SettingsError: If the route is unknown, or the model does not allow it.
        """
        chosen = next((name for name in ROUTES if name == route), None)
        if chosen is None and route != "auto":
            raise SettingsError(f"route must be auto or one of {ROUTES}, got {route!r}")
        on_cpu = model.device.type == "cpu"
        most = max_tokens_per_forward
        if most is None:
            most = TOKENS_ON_CPU if on_cpu else TOKENS_ON_ACCELERATOR
        if most < 1:
            raise SettingsError(f"max_tokens_per_forward must be 1 or more, got {most}")
        self.automatic, self.reason = chosen is None, "asked for"
        if chosen is None:
            chosen, self.reason = choose(model)
        why_not = objection(model, chosen)
        if why_not is not None:
            raise SettingsError(f"route {route} does not suit this model: {why_not}; use auto")
        super().__init__(model, anatomy or find_anatomy(model), chosen, most)

    def check_first(self, token_ids: Int[Tensor, " pos"]) -> Check:
        """Compare the route with one by one, near the start and at the end of a block.

        Three branches of two tokens at position 1 and at the last position whose branches
        stay within the block, beyond any window that is shorter than the block. A route that
        was chosen here and fails, or that the model refuses, is replaced by the next one.

        Args:
            token_ids: Token ids of one block, shape (pos,).

        Returns:
            Of the route in use: the largest absolute difference of log-probabilities, nats.
            Allowed is what rounding in the model's dtype explains.
        """
        allowed = log_prob_tolerance(self.model.dtype)
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
        message += f"; {allowed:.0e} nats allowed{way_out}"
        self.checked = Check("branches", passed, measured, allowed, message)
        return self.checked


def _difference(engine: BranchEngine, token_ids: Tensor) -> tuple[float, str]:
    """Return how far the engine's route is from one by one, in nats, and that in words."""
    if engine.route == "one-by-one":
        return 0.0, "is the reference itself"
    last = max(len(token_ids) - 3, 0)
    positions = torch.tensor(sorted({min(1, last), last}), device=engine.model.device)
    one_by_one = BranchEngine(engine.model, "one-by-one", anatomy=engine.anatomy)
    reference = one_by_one.read(token_ids)
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
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return float("inf"), f"was refused by the model ({error})"
    measured = float((torch.cat(actual) - torch.cat(expected)).abs().max())
    return measured, f"differs from one by one by {measured:.1e} nats"


def _level(tree: Tree, parents: Tensor, tokens: Tensor) -> Logits:
    return torch.cat([log_probs for _, log_probs in tree.grow(parents, tokens)])
