"""Further places in a block beside the run's own: linear probes there, on the same positions.

Their rows have a list of their own in results.json: whoever reads `scores` finds one row a cell.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from probekit.pipelines.analysis import ceilings, fits
from probekit.pipelines.analysis.fits import Fit, Inputs
from probekit.pipelines.analysis.scores.scorer import ORDER, PLACES, Scorer
from probekit.probes.probe import Probes
from probekit.readout import LINEAR
from probekit.runs.stages import Stages
from probekit.runs.streams import Streams
from probekit.scoring import contrasts
from probekit.scoring.rates import DocumentSums
from probekit.settings import Settings, Site
from probekit.shapes import Mask


@dataclass(frozen=True)
class Sites:
    """What was measured at further places in a block; empty where none was asked for.

    Attributes:
        rows: Rows of results.json, by the list that they are of.
        warnings: Of probes that are not known to be near their minimum.
    """

    rows: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    warnings: Sequence[dict[str, str]] = ()


def planned(settings: Settings, layers: Sequence[int]) -> dict[Site, Fit]:
    """Return the linear probes of each further site: no block is before layer 0."""
    above, offsets = tuple(at for at in layers if at > 0), tuple(range(1, settings.offsets + 1))
    return {site: Fit(site, "linear", settings.seed, above, offsets) for site in settings.sites[1:]}


def measured(
    inputs: Inputs,
    settings: Settings,
    positions: Mapping[str, Mask],
    scores: pd.DataFrame,
    stages: Stages,
) -> Sites:
    """Fit and score linear probes at each further site, one site after another.

    Args:
        inputs: What is read at the run's own site, and the targets.
        settings: What was asked.
        positions: Sets of test positions by name, each of shape (block, pos).
        scores: What was scored at the run's own site.
        stages: What is finished already.
    """
    setup = inputs.streams.setup
    fitted = planned(settings, setup.layers)
    if not fitted:
        return Sites()
    own = tuple(sorted({*stages.ranks.share(setup.layers), setup.anatomy.n_layers} - {0}))
    tables, probes = [scores], {}
    for site, fit in fitted.items():
        there = Inputs(Streams(setup, own, site), inputs.targets)
        scored = partial(Scorer(there, positions, stages, settings).of_fits, [fit])
        table = stages.shared_table(f"scores at {site}", scored, ORDER)
        tables.append(table.drop(columns="turn"))
        probes[site] = fits.recall(fit, setup.anatomy, setup, stages)
    sums = ceilings.sums(setup, settings, pd.concat(tables, ignore_index=True), [])
    rows = {
        "sites": list(contrasts.sites(sums, {settings.sites[0]: LINEAR, **{s: s for s in fitted}})),
        "site_scores": list(_scores(sums, settings, probes)),
    }
    named = ((f"linear at {site}", of_site.probes) for site, of_site in probes.items())
    return Sites(rows, list(fits.unconverged(named)))


def _scores(
    sums: DocumentSums, settings: Settings, probes: Mapping[Site, Probes]
) -> Iterator[dict[str, Any]]:
    """Yield rows as `scores` has them, of the further sites; bits count from the run's floors."""
    unknown = dict.fromkeys(("kl_nats", "share", "share_low", "share_high"))
    for domain in sums.groups:
        validation = sums.rates(domain, "validation", "all")
        floors = {k: validation.token_floor(k) for k in range(1, settings.offsets + 1)}
        for split, positions in PLACES:
            place = {"domain": domain, "split": split, "positions": positions}
            for row in sums.rates(domain, split, positions).rows(floors):
                if (site := row["readout"]) in probes:
                    probe = probes[site].probes[row["layer"], row["offset"]]
                    about = {"readout": LINEAR, "site": site, "target": settings.target}
                    learnt = {"n_parameters": probe.n_parameters, "converged": probe.converged}
                    yield row | place | {"seed": settings.seed} | about | learnt | unknown
