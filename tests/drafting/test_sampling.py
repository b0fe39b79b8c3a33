"""Where the model samples, drafted text has the model's distribution, however bad the drafts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import chisquare
from torch import Tensor

from probekit.drafting.drafters import ReadoutDrafter
from probekit.drafting.generate import generate
from probekit.models.anatomy import find_anatomy
from probekit.pipelines.calibration.markov import MarkovChain
from probekit.readout import Cell, Seen

NEW = 500
TEMPERATURE = 0.5
CHAIN = MarkovChain(
    torch.tensor(
        [[0.5, 0.2, 0.2, 0.1], [0.1, 0.1, 0.6, 0.2], [0.3, 0.3, 0.3, 0.1], [0.05, 0.4, 0.15, 0.4]],
        dtype=torch.float64,
    )
)
START = torch.tensor([[0]])


@dataclass(frozen=True)
class Skewed:
    """A readout that knows the token ahead for one with other chances than the model's."""

    layers: frozenset[int] = frozenset()

    def predict(self, seen: Seen, valid: Mapping[int, Tensor]) -> Iterator[tuple[Cell, Tensor]]:
        """Yield chances that are too sure of token 0."""
        for offset, mask in valid.items():
            probs = CHAIN.conditional(offset)[seen.token_ids[mask]]
            logits = probs.log().float() + torch.tensor([1.0, 0.0, -0.5, 0.0])
            yield Cell("skewed", offset), logits


def sampled(drafter: bool, **shape: Any) -> tuple[Tensor, int]:
    """Return a text of the chain's model, and how many drafted tokens it took over."""
    model: Any = CHAIN.model()
    options: dict[str, Any] = {
        "max_new_tokens": NEW, "do_sample": True, "temperature": TEMPERATURE, "top_k": 0
    }  # fmt: skip
    torch.manual_seed(0)
    if not drafter:
        plain: Tensor = model.generate(START, **options)
        return plain[0], 0
    skewed = ReadoutDrafter(Skewed(), (2, 3))
    drafted = generate(model, find_anatomy(model), skewed, START, **shape, **options)
    return drafted.token_ids[0], sum(step.accepted for step in drafted.steps)


def test_a_sampled_chain_has_the_models_distribution() -> None:
    text, accepted = sampled(drafter=True)
    assert accepted > NEW / 4
    probs = CHAIN.transition.pow(1 / TEMPERATURE)
    probs /= probs.sum(dim=1, keepdim=True)
    counts = torch.zeros(4, 4).index_put_((text[:-1], text[1:]), torch.ones(NEW), accumulate=True)
    expected = probs * counts.sum(dim=1, keepdim=True)
    # Each row of counts has one degree of freedom less than tokens.
    assert chisquare(counts.flatten(), expected.flatten(), ddof=3).pvalue > 0.01


def test_a_sampled_tree_is_the_very_text_that_the_model_draws_alone() -> None:
    text, accepted = sampled(drafter=True, widths=(2, 1))
    assert accepted > NEW / 4
    assert torch.equal(text, sampled(drafter=False)[0])
