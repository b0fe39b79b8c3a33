"""How long an analysis will take, part by part, from products that are measured first."""

import math
import time
from collections.abc import Mapping

import torch

from probekit.causal import effects
from probekit.marginalization.continuations import MOST_CONTINUED
from probekit.pipelines import further
from probekit.pipelines.analysis import causality, fits, learning
from probekit.pipelines.analysis.inspection import inspect_passages
from probekit.pipelines.analysis.scores import sites
from probekit.readout import JACOBIAN_LENS, MASK_TOKEN, RANDOM
from probekit.runs import ceiling, plan
from probekit.runs.setup import Setup
from probekit.runs.streams import SITE_OF_MODEL
from probekit.settings import Settings

# What a position takes over branches and levels, in tokens of a block: the most probable paths and
# those that are drawn for its targets, less what both have in common; with an adapted output, what
# is new of these; in a passage, the most probable paths alone.
BRANCH_TOKENS, ADAPTED_TOKENS, KEPT_TOKENS = 2.9, 2.2, 1.8
# A score over a loss with its gradient: no gradient, and ranks besides.
LOSS_SHARE = 0.6
# Blocks behind a layer, as a share of all, on average.
BLOCKS_BEHIND = 0.5
# The ceiling once more, with the output adapted to the text.
ADAPTED = "adapted output"
# From so many minutes on, the line says what would make it shorter.
LONG_MINUTES = 5
# What would take a part to about half its time.
HALVES = {
    "probes": "fewer --layers or --max-tokens",
    "controls": "--controls none",
    "scores": "fewer --layers or --max-tokens",
    "learning": "half the --max-tokens",
    "further sites": "fewer of --site, --layers or --max-tokens",
    "causal": "--causal best, or half the --max-tokens",
    "Jacobian lens": "--layers from the middle on",
    "mask tokens": "half the --offsets or --max-tokens",
    "transplants": "half the --marginal-positions",
    "passages": "--marginal off, or half the --max-branches",
    "marginalization": "half the --marginal-positions",
}


@torch.no_grad()
def seconds(setup: Setup, settings: Settings) -> dict[str, float]:
    """Return the seconds that each part of an analysis is expected to take.

    Args:
        setup: Model, text and layers.
        settings: What is measured.
    """
    planned = list(fits.planned(settings, setup.layers, setup.plan.another))
    anatomy = setup.anatomy
    tokens = {split: float(blocks.token_ids.numel()) for split, blocks in setup.blocks.items()}
    cell = plan.cell_seconds(anatomy, tokens["train"], tokens["validation"])
    loss = LOSS_SHARE * plan.seconds_each(anatomy, anatomy.vocab_size)
    token = _token_seconds(setup)
    n_cells = {fit: len(fit.layers) * len(fit.offsets) for fit in planned}
    own, *others = planned
    few = (settings.offsets - 1) * 2 * sum(1 / part for part in learning.PARTS[:-1])
    drawn = sum(fit.name == RANDOM for fit in planned) * sum(tokens.values()) * token
    # A lens has one distribution for all offsets; of the next token the model itself has one.
    lenses = 1 + (JACOBIAN_LENS in settings.readout)
    queried = (settings.offsets - 1) * (MASK_TOKEN in settings.readout)
    read = len(setup.layers) * (lenses + queried) + sum(n_cells.values())
    found = {
        "probes": cell * n_cells[own],
        "controls": cell * sum(n_cells[fit] for fit in others) + drawn,
        "scores": loss * read * (tokens["test"] + tokens["validation"]),
        "learning": cell * few,
    }
    if elsewhere := sites.planned(settings, setup.layers).values():
        scored = loss * (tokens["test"] + tokens["validation"])
        cells = sum(len(fit.layers) * len(fit.offsets) for fit in elsewhere)
        found["further sites"] = (cell + scored) * cells
    found |= further.seconds(settings, setup, token)
    return found | _causal(setup, settings, token) | _marginalization(setup, settings, token)


def _causal(setup: Setup, settings: Settings, token: float) -> dict[str, float]:
    if settings.causal == "none":
        return {}
    n_positions = int(causality.drawn_positions(setup, settings.offsets, settings.seed).sum())
    layers = len(setup.layers) - 1 if settings.causal == "all" else 1
    tokens = effects.PARTS * n_positions + setup.blocks["test"].token_ids.numel()
    return {"causal": BLOCKS_BEHIND * token * layers * tokens * sum(range(2, settings.offsets + 1))}


def _marginalization(setup: Setup, settings: Settings, token: float) -> dict[str, float]:
    if not ceiling.wanted(settings):
        return {}
    n_positions = int(ceiling.scored_positions(setup, settings)["marginal"].sum())
    each = token * settings.max_branches * (settings.marginalized - 1)
    # Beside the paths, what follows each of the likeliest tokens alone.
    continued = token * min(MOST_CONTINUED, setup.anatomy.vocab_size)
    found = {"marginalization": continued + each * n_positions * BRANCH_TOKENS}
    if setup.anatomy.softcap is None and settings.sites[0] == SITE_OF_MODEL:
        # Only where the probe of the last layer turns out to beat the output by much.
        found[ADAPTED] = each * n_positions * ADAPTED_TOKENS
    shown = inspect_passages.most_tokens(setup, settings)
    return found | {"passages": each * shown * KEPT_TOKENS}


def _token_seconds(setup: Setup) -> float:
    """Return the seconds of a token in a forward pass of one block, its logits included."""
    row = setup.blocks["train"].token_ids[:1].to(setup.loaded.model.device)

    def forward() -> float:
        logits = setup.loaded.model(row, use_cache=False).logits
        return float(logits.float().log_softmax(-1)[0, 0, 0])

    forward()
    start = time.perf_counter()
    forward()
    return (time.perf_counter() - start) / row.numel()


def line(parts: Mapping[str, float]) -> str:
    """Say how long it will take, and where it is long, what would halve the longest part.

    An adapted output is not counted: whether one is needed is known when the probes are fitted.

    >>> line({"probes": 20.0, "scores": 25.0})
    'About 1 minute: probes 0.3, scores 0.4.'
    >>> line({"probes": 240.0, "marginalization": 900.0})[:46]
    'About 19 minutes: probes 4, marginalization 15'
    """
    sure = {name: value for name, value in parts.items() if name != ADAPTED}
    minutes = max(1, round(sum(sure.values()) / 60))
    told = ", ".join(f"{name} {_minutes(value)}" for name, value in sure.items())
    if ADAPTED in parts:
        told += f"; {_minutes(parts[ADAPTED])} more if the text is not what the model expects"
    longest = max(sure, key=sure.__getitem__)
    way = f"; {HALVES[longest]} would halve the {longest}" if minutes > LONG_MINUTES else ""
    return f"About {minutes} minute{'s' * (minutes > 1)}: {told}{way}."


def _minutes(value: float) -> str:
    return f"{value / 60:.1f}" if value < 120 else str(math.ceil(value / 60))
