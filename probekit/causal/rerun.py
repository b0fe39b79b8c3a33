"""The blocks behind a layer, run again from residual streams that were changed at one position.

    Rerun(model, anatomy, layer).hidden(token_ids, resid, positions, changed, length)

A branch starts at one position t of a block: there its residual stream at the layer is what it is
handed, at t+1 … it is the block's own. Behind the layer the branch sees the block up to t-1, as it
was, and itself. So what was changed at t reaches a later position through attention to t alone,
by its keys and values, and the token predicted at t through the position itself.

All branches run behind the block in one sequence, kept apart by the mask; the blocks before the
layer are not run.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.activations.hooks import Arguments, passed_over, resid_post
from probekit.checks import Check
from probekit.errors import ModelError
from probekit.marginalization.branch_routes import additive, objection, windows
from probekit.models.anatomy import Anatomy
from probekit.models.module_calls import residual_out
from probekit.models.rounding import log_prob_tolerance

# Tokens of branches that run at once: beyond, the mask is what fills the memory.
TOKENS = 1_024
WAY_OUT = "Leave --causal out, or choose a model with attention in all its layers"


@dataclass(frozen=True)
class Rerun:
    """Runs a model from one of its layers on.

    Attributes:
        model: The model.
        anatomy: Its anatomy.
        layer: Where residual streams are changed: 0 … number of blocks - 1.

    Raises:
        ModelError: If branches cannot be kept apart by a mask in this model.
    """

    model: PreTrainedModel
    anatomy: Anatomy
    layer: int

    def __post_init__(self) -> None:
        require_maskable(self.model)

    @torch.no_grad()
    def hidden(
        self,
        token_ids: Int[Tensor, " pos"],
        resid: Float[Tensor, "pos model"],
        positions: Int[Tensor, " branch"],
        changed: Float[Tensor, "branch model"],
        length: int,
    ) -> Float[Tensor, "branch step hidden"]:
        """Run branches of a block.

        Args:
            token_ids: Tokens of the block, shape (pos,).
            resid: Its residual stream at the layer, shape (pos, model).
            positions: Where each branch starts, shape (branch,); it ends inside the block.
            changed: The residual stream there, shape (branch, model).
            length: Tokens of a branch, at least 1.

        Returns:
            What enters the unembedding at t … t+length-1, shape (branch, length, hidden).
        """
        each = max(1, TOKENS // length)
        parts = [
            self._run(token_ids, resid, at, of, length)
            for at, of in zip(positions.split(each), changed.split(each), strict=True)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def check(self, token_ids: Int[Tensor, " pos"]) -> Check:
        """Compare branches in which nothing is changed with the model itself.

        Args:
            token_ids: Tokens of one block, shape (pos,), at least 3.

        Returns:
            The largest absolute difference of log-probabilities, in nats. Allowed is what rounding
            in the model's dtype explains.
        """
        allowed = log_prob_tolerance(self.model.dtype)
        layers = sorted({self.layer, self.anatomy.n_layers})
        streams = resid_post(self.anatomy, layers, token_ids[None])
        first, last = (streams[at][0] for at in (layers[0], layers[-1]))
        positions = torch.tensor(sorted({1, len(token_ids) - 2}), device=token_ids.device)
        try:
            hidden = self.hidden(token_ids, first, positions, first[positions], 2)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            message = f"the blocks behind layer {self.layer} cannot be run by themselves: {error}"
            return Check("causal", False, float("inf"), allowed, f"{message}. {WAY_OUT}")
        expected = self.anatomy.hidden(last[positions[:, None] + torch.arange(2).to(positions)])
        both = (self.anatomy.logits(x).float().log_softmax(dim=-1) for x in (hidden, expected))
        measured = float((next(both) - next(both)).abs().max())
        passed = measured <= allowed
        message = (
            f"blocks behind layer {self.layer}, run by themselves, differ from the model by "
            f"{measured:.1e} nats; {allowed:.0e} allowed"
        )
        message += "" if passed else f". {WAY_OUT}"
        return Check("causal", passed, measured, allowed, message)

    def _run(
        self, token_ids: Tensor, resid: Tensor, positions: Tensor, changed: Tensor, length: int
    ) -> Tensor:
        n, device = len(token_ids), token_ids.device
        places = positions[:, None] + torch.arange(length, device=device)
        branches = resid[places]
        branches[:, 0] = changed
        whole = torch.cat([resid, branches.flatten(0, 1)])[None]
        masks = {
            kind: additive(visible(n, positions, length, window), self.model.dtype)
            for kind, window in windows(self.model).items()
        }
        last = self._from_layer(
            whole,
            input_ids=torch.cat([token_ids, token_ids[places].flatten()])[None],
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            position_ids=torch.cat([torch.arange(n, device=device), places.flatten()])[None],
        )
        return self.anatomy.hidden(last[0, n:].unflatten(0, (-1, length)))

    def _from_layer(self, resid: Tensor, **inputs: Any) -> Tensor:
        """Return the last residual stream of a sequence whose stream at the layer is given."""
        blocks, outputs = self.anatomy.blocks, list[Any]()

        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
            if args:
                return (resid, *args[1:]), kwargs
            return args, kwargs | {"hidden_states": resid}

        def keep(_: nn.Module, __: Any, output: Any) -> None:
            outputs.append(output)

        # The first block is run in any case: what it returns stands for those passed over.
        handles = [
            blocks[0].register_forward_hook(keep),
            blocks[-1].register_forward_hook(keep),
            blocks[self.layer].register_forward_pre_hook(enter, with_kwargs=True),
        ]
        try:
            with passed_over(blocks[1 : self.layer], lambda *_, **__: outputs[0]):
                self.anatomy.decoder(use_cache=False, **inputs)
        finally:
            for handle in handles:
                handle.remove()
        return residual_out(outputs[-1])


def visible(
    n: int, positions: Int[Tensor, " branch"], length: int, window: int | None
) -> Bool[Tensor, "row row"]:
    """Return which of a block's tokens and of its branches each of them sees.

    Args:
        n: Tokens of the block.
        positions: Where each branch starts, shape (branch,).
        length: Tokens of a branch.
        window: How many positions back a layer sees, itself included; None for all.

    Returns:
        Shape (n + branch · length, the same): the block, then branch by branch.

    >>> visible(2, torch.tensor([1]), 1, None).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    """
    device = positions.device
    step = torch.arange(length, device=device).repeat(len(positions))
    start = positions.repeat_interleave(length)
    block = torch.arange(n, device=device)
    place = torch.cat([block, start + step])
    # What a row sees of the block ends before this; the block's rows see themselves too.
    ends = torch.cat([block + 1, start])
    branch = torch.cat(
        [block.new_full((n,), -1), torch.arange(len(start), device=device) // length]
    )
    of_block = (branch < 0) & (place < ends[:, None])
    own = (branch >= 0) & (branch == branch[:, None])
    seen = (of_block | own) & (place <= place[:, None])
    if window is not None:
        seen &= place[:, None] - place < window
    return seen


def require_maskable(model: PreTrainedModel) -> None:
    """Raise if branches cannot be kept apart by a mask.

    Raises:
        ModelError: If they cannot.
    """
    why_not = objection(model, "packed")
    if why_not is not None:
        raise ModelError(f"--causal cannot keep branches apart in this model: {why_not}. {WAY_OUT}")
