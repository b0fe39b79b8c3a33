"""The ceiling of a run: the model marginalized, and with its output adapted to the text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial

import pandas as pd
import torch

from probekit import files
from probekit.checks import Check
from probekit.pipelines.analysis.fits import Fit, Inputs
from probekit.probes.probe import Probes, in_place_of_output
from probekit.readout import LINEAR, MARGINAL, MARGINAL_ADAPTED
from probekit.runs import ceiling
from probekit.runs.ceiling import Ceiling
from probekit.runs.setup import Setup
from probekit.runs.stages import Stages
from probekit.runs.streams import SITE_OF_MODEL
from probekit.scoring import specialization
from probekit.scoring.rates import MUCH_ADAPTATION_NATS, DocumentSums
from probekit.settings import Settings
from probekit.shapes import Mask


def marginalize_run(
    inputs: Inputs,
    settings: Settings,
    probes: Mapping[Fit, Probes],
    scores: pd.DataFrame,
    stages: Stages,
    drawn: Mask,
) -> list[Ceiling]:
    """Return the model marginalized; also with its output adapted, where that helps by much.

    Args:
        inputs: Streams and targets.
        settings: How paths are kept.
        probes: The probes of every fit, of which the (L, 1) probe may replace the output.
        scores: Of all readouts but the ceilings, to tell whether the output is to be adapted.
        stages: What is finished already.
        drawn: Where to marginalize, shape (block, pos).
    """
    if not ceiling.wanted(settings):
        return []
    setup = inputs.streams.setup
    marginalized = partial(_ceiling, inputs, settings, stages, drawn)
    ceilings = [marginalized(MARGINAL)]
    linear = next(probes[fit] for fit in probes if fit.name == LINEAR)
    if stages.ranks.same(partial(_adapts, setup, settings, linear, scores)):
        with in_place_of_output(setup.anatomy, linear.probes[setup.anatomy.n_layers, 1]):
            ceilings.append(marginalized(MARGINAL_ADAPTED))
    setup.branches().forget()
    return ceilings


def _adapts(setup: Setup, settings: Settings, linear: Probes, scores: pd.DataFrame) -> bool:
    """Whether the (L, 1) probe can stand in for the output layer, and beats it by much."""
    last = setup.anatomy.n_layers
    at_output = settings.sites[0] == SITE_OF_MODEL and setup.anatomy.softcap is None
    if (last, 1) not in linear.probes or not at_output:
        return False
    plain = sums(setup, settings, scores, [])
    rates = [plain.rates(domain, "test", "all") for domain in plain.groups]
    gains = [specialization.adaptation_nats(domain, last) for domain in rates]
    return any(gain is not None and gain[0] > MUCH_ADAPTATION_NATS for gain in gains)


def _ceiling(
    inputs: Inputs,
    settings: Settings,
    stages: Stages,
    drawn: Mask,
    name: str,
) -> Ceiling:
    setup, ranks = inputs.streams.setup, stages.ranks
    targets = inputs.targets["test"].only(range(1, settings.marginalized + 1))
    notes = stages.path(f"{name}-checks.json")

    def measured() -> pd.DataFrame:
        own = torch.zeros_like(drawn)
        blocks = ranks.share(drawn.any(dim=1).nonzero()[:, 0].tolist())
        own[blocks] = drawn[blocks]
        positions, checks = ceiling.positions(name, settings, setup, targets, drawn, own)
        # The checks first: the table says that the stage is finished.
        if ranks.first:
            said = files.as_json([asdict(check) for check in checks])
            files.write_checked(notes, lambda path: path.write_text(said, encoding="utf-8"))
        return positions

    order = ["block", "offset", "position"]
    positions = stages.shared_table(f"{name}-positions", measured, order, label=name)
    checks = [Check(**check) for check in json.loads(notes.read_text(encoding="utf-8"))]
    return Ceiling.of(positions, settings.marginal, setup.domains, checks)


def sums(
    setup: Setup, settings: Settings, scores: pd.DataFrame, ceilings: Sequence[Ceiling]
) -> DocumentSums:
    """Return all scores, those of the ceilings among them."""
    rows = [each.table.assign(split="test", seed=settings.seed) for each in ceilings]
    whole = pd.concat([scores, *rows], ignore_index=True)
    return DocumentSums(whole, setup.domains, setup.bytes_per_token, settings.seed)
