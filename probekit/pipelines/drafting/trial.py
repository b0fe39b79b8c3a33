"""Every way of drafting on the same prompts: candidates in the shapes that suit them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from probekit.drafting.generate import Drafted, generate
from probekit.drafting.measure import Measured, Prompt, measure
from probekit.marginalization.branch_routes import objection
from probekit.pipelines.drafting.candidates import LOOKUP, Candidate
from probekit.pipelines.drafting.settings import DraftSettings
from probekit.readout import LINEAR
from probekit.runs.setup import Setup
from probekit.shapes import TokenIds

PLAIN = "greedy"


@dataclass(frozen=True, eq=False)
class Trial:
    """A candidate in one shape.

    Attributes:
        candidate: What drafts.
        widths: Candidates by offset from 2 on; all 1 in a chain.
    """

    candidate: Candidate
    widths: tuple[int, ...]

    @property
    def chain(self) -> bool:
        """Whether there is one candidate a position."""
        return max(self.widths) == 1

    @property
    def label(self) -> str:
        """Name and shape."""
        return f"{self.candidate.name} {'-'.join(map(str, self.widths))}"

    @property
    def pass_tokens(self) -> int:
        """New tokens that a pass runs: the newest, the drafted, and queries behind each."""
        nodes, level = 1, 1
        for width in self.widths:
            level *= width
            nodes += level
        drafter = self.candidate.drafter
        asked = 0 if drafter is None or drafter.queries is None else len(drafter.queries)
        return nodes * (1 + asked)


def trials(settings: DraftSettings, setup: Setup, candidates: Sequence[Candidate]) -> list[Trial]:
    """Return what is tried: chains, and trees of the longest probe chain and of heads."""
    packs = objection(setup.loaded.model, "packed") is None
    found = []
    for candidate in candidates:
        n = len(candidate.offsets)
        found.append(Trial(candidate, (1,) * n))
        branches = candidate.name == LINEAR or candidate.name.startswith("head:")
        tree = settings.tree[:n]
        if packs and branches and n == settings.offsets - 1 and max(tree) > 1:
            found.append(Trial(candidate, tree))
    return found


def run(
    settings: DraftSettings, setup: Setup, found: Sequence[Trial], prompts: Sequence[Prompt]
) -> dict[str, Measured]:
    """Let greedy decoding and every trial continue the prompts; return what each did, by label."""
    model, anatomy = setup.loaded.model, setup.anatomy
    options: dict[str, Any] = {"max_new_tokens": settings.new_tokens, "do_sample": False}
    if settings.temperature:
        options |= {"do_sample": True, "temperature": settings.temperature, "top_k": 0}

    def plain(token_ids: TokenIds) -> Drafted:
        generating: Any = model
        _seed(settings)
        asked = {**options, "attention_mask": torch.ones_like(token_ids)}
        return Drafted(generating.generate(token_ids, **asked), [], 0)

    def drafted(trial: Trial) -> Callable[[TokenIds], Drafted]:
        drafter = trial.candidate.drafter
        more: dict[str, Any] = dict(options)
        if trial.candidate.name == LOOKUP:
            more["prompt_lookup_num_tokens"] = len(trial.widths)
        widths = None if trial.chain else trial.widths

        def continued(token_ids: TokenIds) -> Drafted:
            _seed(settings)
            asked = {**more, "attention_mask": torch.ones_like(token_ids)}
            return generate(model, anatomy, drafter, token_ids, widths=widths, **asked)

        return continued

    methods: Mapping[str, Callable[[TokenIds], Drafted]] = {
        PLAIN: plain,
        **{trial.label: drafted(trial) for trial in found},
    }
    return measure(methods, prompts, settings.repeats, synchronize(setup))


def synchronize(setup: Setup) -> Callable[[], None]:
    """Return what waits until the model's device has done its work."""
    device = setup.loaded.model.device
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else lambda: None


def _seed(settings: DraftSettings) -> None:
    if settings.temperature:
        torch.manual_seed(settings.seed)
