"""What drafting gains: acceptance, tokens a forward pass, and speed beside greedy decoding.

Every method continues the same prompts, in turn, prompt by prompt, so that whatever else the
machine does falls on all alike; a ratio of times is taken within one repetition. The first pass,
over the prompt, is the same for all and not counted; its time is in both times.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int
from torch import Tensor

from probekit.drafting.chain import Step
from probekit.drafting.generate import Drafted
from probekit.scoring.accepted_length import Numbers, Share, pooled
from probekit.shapes import TokenIds

Continue = Callable[[TokenIds], Drafted]


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt: its tokens, shape (1, pos), and the number of its document."""

    token_ids: TokenIds
    document: int


@dataclass
class Measured:
    """What one method did with each prompt.

    Attributes:
        drafted: Its texts and steps, one a prompt.
        seconds: By repetition, its time for all prompts.
    """

    drafted: list[Drafted] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def measure(
    methods: Mapping[str, Continue],
    prompts: Sequence[Prompt],
    repeats: int,
    synchronize: Callable[[], None] = lambda: None,
) -> dict[str, Measured]:
    """Let each method continue each prompt, so many times.

    Args:
        methods: By name, what continues a prompt.
        prompts: At least one.
        repeats: Repetitions, at least 1.
        synchronize: Waits until the device has done its work.
    """
    found = {name: Measured() for name in methods}
    for run in methods.values():
        run(prompts[0].token_ids)  # what is done once is not timed
    names = list(methods)
    for repeat in range(repeats):
        seconds = dict.fromkeys(names, 0.0)
        for number, prompt in enumerate(prompts):
            turn = (number + repeat) % len(names)
            for name in names[turn:] + names[:turn]:
                synchronize()
                start = time.perf_counter()
                drafted = methods[name](prompt.token_ids)
                synchronize()
                seconds[name] += time.perf_counter() - start
                if not repeat:
                    found[name].drafted.append(drafted)
        for name in names:
            found[name].seconds.append(seconds[name])
    return found


@dataclass(frozen=True)
class Acceptance:
    """How often the draft at an offset is right.

    Attributes:
        offset: The offset, 2 or more.
        conditional: Share of passes in which it is accepted, of those in which all before it are.
        unconditional: Share of passes in which it is the text's token, whatever came before.
    """

    offset: int
    conditional: Share | None
    unconditional: Share | None


@dataclass(frozen=True)
class Gain:
    """What a method gained on some prompts.

    Attributes:
        accepted: Drafted tokens that were accepted a pass, where all offsets could be drafted.
        tokens_per_forward: New tokens behind the first, by forward passes behind the first.
        offsets: Acceptance by offset.
        n_passes: Passes behind the first.
        n_tokens: New tokens behind the first.
    """

    accepted: Share | None
    tokens_per_forward: Share | None
    offsets: list[Acceptance]
    n_passes: int
    n_tokens: int


def gain(
    drafted: Sequence[Drafted], prompts: Sequence[Prompt], horizon: int, limit: int, seed: int
) -> Gain:
    """Return what a method gained.

    Args:
        drafted: Its texts, one a prompt.
        prompts: The prompts.
        horizon: Largest offset that is drafted.
        limit: New tokens at most: drafts are cut short before it, and not counted there.
        seed: Seed of the resampling.
    """
    documents = [prompt.document for prompt in prompts]
    passes = [each.steps[1:] for each in drafted]
    tokens = [len(each.token_ids[0]) - len(p.token_ids[0]) - 1
              for each, p in zip(drafted, prompts, strict=True)]  # fmt: skip
    whole = [
        [step for step in steps if step.position + horizon < len(p.token_ids[0]) + limit]
        for steps, p in zip(passes, prompts, strict=True)
    ]

    def share(counted: Numbers, among: Numbers) -> Share | None:
        return pooled(counted, among, documents, seed)

    texts = [each.token_ids[0] for each in drafted]
    offsets = []
    for offset in range(2, horizon + 1):
        reached = [[s for s in steps if s.accepted >= offset - 2] for steps in whole]
        taken = [sum(s.accepted >= offset - 1 for s in steps) for steps in reached]
        right = [
            [_right(step, offset, text) for step in steps if step.position + offset <= len(text)]
            for steps, text in zip(whole, texts, strict=True)
        ]
        offsets.append(
            Acceptance(
                offset,
                share(taken, list(map(len, reached))),
                share(list(map(sum, right)), list(map(len, right))),
            )
        )
    accepted = share([sum(s.accepted for s in steps) for steps in whole], list(map(len, whole)))
    n_passes = list(map(len, passes))
    return Gain(accepted, share(tokens, n_passes), offsets, sum(n_passes), sum(tokens))


def _right(step: Step, offset: int, text: Int[Tensor, " text"]) -> bool:
    """Whether a candidate at an offset is the text's own token, be it accepted or not."""
    if len(step.drafted) < offset - 1:
        return False
    return int(text[step.position + offset - 1]) in step.drafted[offset - 2]


@dataclass(frozen=True)
class Ratio:
    """A ratio of times: the median over repetitions, the least and the greatest."""

    value: float
    low: float
    high: float


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Return how times compare, repetition by repetition.

    >>> ratio([2.0, 3.0, 4.0], [1.0, 2.0, 1.0])
    Ratio(value=2.0, low=1.5, high=4.0)
    """
    ratios = np.array(above) / np.array(below)
    return Ratio(float(np.median(ratios)), float(ratios.min()), float(ratios.max()))
