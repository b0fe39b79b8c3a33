"""What a forward pass over several new tokens costs beside one over a single token."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from probekit.marginalization.branch_routes import cache_arguments

# New tokens of a pass: those of chains, and of trees.
TOKENS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64)
# Passes of each length; they take turns, and their median is taken.
REPEATS = 15


@dataclass(frozen=True)
class Cost:
    """The cost of a pass.

    Attributes:
        tokens: New tokens of the pass.
        seconds: Its median time.
        ratio: To the median time of a pass over one token.
    """

    tokens: int
    seconds: float
    ratio: float


@torch.no_grad()
def curve(
    model: PreTrainedModel,
    cached: int,
    synchronize: Callable[[], None],
    tokens: Sequence[int] = TOKENS,
    repeats: int = REPEATS,
) -> list[Cost]:
    """Time passes over new tokens behind a text in the cache.

    Args:
        model: The model.
        cached: Tokens in the cache.
        synchronize: Waits until the device has done its work.
        tokens: Numbers of new tokens, 1 among them.
        repeats: Passes of each.
    """
    generating: Any = model
    cache, device = DynamicCache(), model.device
    vocab_size = generating.config.get_text_config().vocab_size
    ids = torch.arange(max(tokens) + cached, device=device) % vocab_size
    arguments = cache_arguments(model, cache)
    model(input_ids=ids[None, :cached], **arguments)
    seconds: dict[int, list[float]] = {n: [] for n in tokens}
    for _ in range(repeats + 1):
        for n, taken in seconds.items():
            synchronize()
            start = time.perf_counter()
            model(input_ids=ids[None, cached : cached + n], **arguments)
            synchronize()
            taken.append(time.perf_counter() - start)
            cache.crop(-n)
    # The first round warms up.
    medians = {n: statistics.median(taken[1:]) for n, taken in seconds.items()}
    return [Cost(n, median, median / medians[1]) for n, median in medians.items()]


def at(costs: Sequence[Cost], tokens: int) -> float | None:
    """Return the ratio of a pass over so many tokens, from the two measured beside it.

    None where it would be longer than any that was measured.

    >>> at([Cost(1, 1.0, 1.0), Cost(2, 1.5, 1.5), Cost(4, 2.0, 2.0)], 3)
    1.75
    """
    if tokens > costs[-1].tokens:
        return None
    measured, ratios = [cost.tokens for cost in costs], [cost.ratio for cost in costs]
    return float(np.interp(tokens, measured, ratios))
