"""The rate and the length of a training, by validation, from schedules that came to their end.

The rate is tried on the shortest length; then the length is doubled while validation likes what
comes out. Each length has a schedule of its own that falls to 0 where it ends: weights from the
middle of a longer one would be those of a rate that is still high.

Source: Hoffmann et al. (2022), "Training compute-optimal large language models", appendix B: a
cosine should be as long as the training; Hägele et al. (2024), "Scaling laws and compute-optimal
training beyond fixed training durations", on what weights before the decay lack.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from probekit.activations.backbone import Backbone
from probekit.heads.training import lora
from probekit.heads.training.history import History
from probekit.heads.training.loop import Data
from probekit.heads.training.recipes import Recipe
from probekit.heads.training.train import train
from probekit.heads.training.trainable import Trainable
from probekit.progress import Say

# Of the longest, ascending.
LENGTHS = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class _Run:
    recipe: Recipe
    history: History
    values: Mapping[str, Tensor]

    @property
    def nats(self) -> float:
        """Sum over offsets of the cross-entropy on validation text of what was kept."""
        return sum(self.history.kept().values())


def search(
    heads: Trainable | None,
    backbone: Backbone,
    data: Data,
    recipe: Recipe,
    checkpoint: Path,
    say: Say,
) -> tuple[History, Recipe]:
    """Train at several rates and lengths; the weights that validation likes best are in place.

    Args:
        heads: What to train, or None for the model itself; see `train`.
        backbone: The model, without adapters.
        data: Text to train and to validate on.
        recipe: How to train; its rates are multiples of its own, its length is the longest.
        checkpoint: File beside which each training has its own.
        say: Called with a line at each evaluation.

    Returns:
        The curve by length at the rate that was chosen, with the step that was kept; and the
        recipe that leads there.
    """
    first = _values(heads, backbone)

    def run(rate: float, length: float) -> _Run:
        if recipe.joint:
            lora.detach(backbone.model)
        _put(heads, backbone, first)
        asked = replace(
            recipe,
            learning_rate=recipe.learning_rate * rate,
            length=length,
            evaluations=max(1, round(recipe.evaluations * length)),
            rates=(),
        )
        say(f"  {recipe.name}: rate {asked.learning_rate:.2g}, {length:g} of the steps")
        file = checkpoint.with_name(f"{checkpoint.stem}-{rate:g}-{length:g}{checkpoint.suffix}")
        history = train(heads, backbone, data, asked, file, say)
        return _Run(asked, history, _values(heads, backbone))

    shortest, *longer = LENGTHS
    tried = [min((run(rate, shortest) for rate in recipe.rates), key=lambda run: run.nats)]
    rate = tried[0].recipe.learning_rate / recipe.learning_rate
    for length in longer:
        tried.append(run(rate, length))
        if not tried[-1].nats < tried[-2].nats:
            break
    best = min(tried, key=lambda run: run.nats)
    _put(heads, backbone, best.values)
    rows = [*tried[0].history.at_start(), *(row for run in tried for row in run.history.at_end())]
    worse = best is not tried[-1]
    return History(tuple(rows), best.history.best_steps, worse), best.recipe


def _named(heads: Trainable | None, backbone: Backbone) -> Mapping[str, Tensor]:
    own: dict[str, Tensor] = {} if heads is None else dict(heads.named_parameters())
    return own | dict(lora.parameters(backbone.model))


def _values(heads: Trainable | None, backbone: Backbone) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in _named(heads, backbone).items()}


@torch.no_grad()
def _put(heads: Trainable | None, backbone: Backbone, values: Mapping[str, Tensor]) -> None:
    named = _named(heads, backbone)
    for name, value in values.items():
        named[name].copy_(value)
