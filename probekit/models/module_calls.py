"""Record which modules of a model fire, in what order and on what, in one run on a few tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.errors import ModelError
from probekit.shapes import TokenIds

# Long enough for a cause to have an effect later on, short enough to cost nothing.
PROBE_TOKENS = 8


@dataclass
class Call:
    """One firing of a module: when it started and ended, what went in and came out."""

    module: nn.Module
    start: int
    entered: Tensor | None
    end: int = -1
    left: Tensor | None = None

    def within(self, other: "Call") -> bool:
        """Say whether this module fired inside the other."""
        return other.start < self.start and self.end < other.end


def record_module_calls(model: PreTrainedModel) -> tuple[list[Call], Tensor]:
    """Run the model on two rows that differ in their last token.

    Returns:
        The calls in the order of their start, and the logits, shape (2, pos, vocab).

    Raises:
        ModelError: If the model cannot be run on token ids alone, or its logits are not finite.
    """
    calls: list[Call] = []
    clock = iter(range(10**9))

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entered = args[0] if args else kwargs.get("hidden_states")
        calls.append(Call(module, next(clock), entered if torch.is_tensor(entered) else None))

    def leave(module: nn.Module, _: Any, output: Any) -> None:
        call = next(c for c in reversed(calls) if c.module is module and c.end < 0)
        call.end = next(clock)
        first = output[0] if isinstance(output, Sequence) and output else output
        call.left = first if torch.is_tensor(first) else None

    handles = [m.register_forward_pre_hook(enter, with_kwargs=True) for m in model.modules()]
    handles += [m.register_forward_hook(leave) for m in model.modules()]
    try:
        return calls, run_on_probe_ids(model)
    finally:
        for handle in handles:
            handle.remove()


def run_on_probe_ids(model: PreTrainedModel) -> Tensor:
    """Return the logits of two rows of a few token ids that differ in the last, (2, pos, vocab).

    Raises:
        ModelError: If the model cannot be run on token ids alone, or they are not finite.
    """
    token_ids = _probe_ids(model)
    try:
        with torch.no_grad():
            logits = model(token_ids, use_cache=False).logits
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{type(model).__name__} could not be run on {PROBE_TOKENS} token ids alone "
            f"({type(error).__name__}: {error}). It must be a causal language model that "
            "takes text alone, with all its weights in dtypes that go together"
        ) from error
    if isinstance(logits, Tensor) and logits.shape[:2] != token_ids.shape:
        raise ModelError(
            f"{type(model).__name__} gives logits at {logits.shape[1]} positions for "
            f"{PROBE_TOKENS} tokens: it puts tokens of its own among them, as prompt tuning "
            "does, or leaves some out. Give it the model without that"
        )
    if not isinstance(logits, Tensor) or not bool(torch.isfinite(logits).all()):
        raise ModelError(
            f"{type(model).__name__} in {model.dtype} gives logits that are not finite; "
            "load it in bfloat16 or float32, or check its weights"
        )
    return logits


def _probe_ids(model: PreTrainedModel) -> TokenIds:
    embeddings: Any = model.get_input_embeddings()
    vocabulary = embeddings.weight.shape[0]
    ids = torch.arange(PROBE_TOKENS) % vocabulary
    other = ids.clone()
    other[-1] = (ids[-1] + 1) % vocabulary
    return torch.stack([ids, other]).to(model.device)


def residual_out(output: Any) -> Tensor:
    """Return the residual stream in a block's output, which is a tensor or a tuple's first.

    Raises:
        ModelError: If there is no tensor there.

    >>> residual_out((torch.ones(1), None))
    tensor([1.])
    """
    first = output[0] if isinstance(output, Sequence) and output else output
    if not isinstance(first, Tensor):
        raise ModelError(f"a block's output must start with a tensor, got {type(first).__name__}")
    return first


def residual_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the residual stream that enters a block, from the arguments of its call.

    Raises:
        ModelError: If neither the first argument nor `hidden_states` is a tensor.

    >>> residual_in((), {"hidden_states": torch.ones(1)})
    tensor([1.])
    """
    first = args[0] if args else kwargs.get("hidden_states")
    if not isinstance(first, Tensor):
        raise ModelError(
            "a block must be called with the residual stream first or as `hidden_states`, "
            f"got {len(args)} positional arguments and the names {sorted(kwargs)}"
        )
    return first
