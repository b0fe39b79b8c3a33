"""Text that is drafted by a readout and verified by the model, in one loop, without loss.

    drafted = generate(model, anatomy, drafter, token_ids, max_new_tokens=64)
    drafted.token_ids       greedy decoding's own, token for token, in float32
    drafted.steps           what was drafted and accepted, pass by pass

A chain runs on any model that transformers' assisted generation takes; a tree, and queries, where
the model takes a mask of ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from probekit.drafting import chain, tree
from probekit.drafting.chain import Step
from probekit.drafting.drafters import Drafter
from probekit.drafting.reading import watching
from probekit.errors import DataError, ModelError
from probekit.marginalization.branch_routes import objection
from probekit.models.anatomy import Anatomy
from probekit.shapes import TokenIds


@dataclass(frozen=True, eq=False)
class Drafted:
    """A text, and how it came to be.

    Attributes:
        token_ids: Prompt and continuation, shape (1, pos).
        steps: What was drafted and accepted in each pass, the first over the prompt among them.
        passes: Forward passes of the model, the first among them.
    """

    token_ids: TokenIds
    steps: list[Step]
    passes: int


def generate(
    model: PreTrainedModel,
    anatomy: Anatomy,
    drafter: Drafter | None,
    token_ids: TokenIds,
    *,
    widths: Sequence[int] | None = None,
    **generation: Any,
) -> Drafted:
    """Continue a prompt with drafts that the model verifies.

    Args:
        model: A causal language model.
        anatomy: Its anatomy.
        drafter: What drafts. None: transformers' own generator of candidates that `generation`
            asks for, such as `prompt_lookup_num_tokens=3`.
        token_ids: The prompt, shape (1, pos).
        widths: Candidates by offset from 2 on; None for a chain of the drafter's offsets.
        **generation: As `model.generate` takes it, such as `max_new_tokens` or `do_sample`.

    Returns:
        What `model.generate` would have given, and the steps.

    Raises:
        DataError: If the prompt is not one, or there are more widths than offsets.
        ModelError: If the model keeps no keys and values, or cannot verify trees.
    """
    _require_one(token_ids, drafter, widths)
    why_not = objection(model, "expanded")
    if why_not is not None:
        raise ModelError(f"{type(model).__name__} cannot take back a rejected draft: {why_not}")
    steps = list[Step]()
    with watching(anatomy, frozenset() if drafter is None else drafter.layers) as watch:
        if drafter is not None and (widths is not None or drafter.queries is not None):
            tree.require_packable(model)
            shape = widths or [1] * len(drafter.offsets)
            decode = tree.decoding(drafter, shape, watch, steps)
        else:
            decode = chain.decoding(drafter, watch, steps)
        generating: Any = model
        found = generating.generate(token_ids, custom_generate=decode, **generation)
    return Drafted(found, steps, watch.passes)


def _require_one(
    token_ids: TokenIds, drafter: Drafter | None, widths: Sequence[int] | None
) -> None:
    if token_ids.shape[0] != 1 or not token_ids.shape[1]:
        raise DataError(f"one prompt at a time, got token ids of shape {tuple(token_ids.shape)}")
    if widths is not None and drafter is not None:
        most = len(drafter.offsets)
        if not 1 <= len(widths) <= most or min(widths) < 1:
            raise DataError(
                f"a tree has 1 to {most} numbers of candidates for this drafter, each 1 or more, "
                f"got {list(widths)}"
            )
