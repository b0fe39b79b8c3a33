"""The ceiling of an analysis: the model, marginalized, by itself or with an adapted output."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from probekit.checks import Check
from probekit.data.targets import Targets, draw_positions
from probekit.marginalization.importance import GROUPS
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization, Record
from probekit.marginalization.sampled_nats import NatsSampler
from probekit.runs.setup import Setup
from probekit.runs.streams import SITE_OF_MODEL, Tracked
from probekit.scoring.positions import score_positions
from probekit.scoring.rates import ALL
from probekit.settings import MARGINALIZED, RunSettings
from probekit.shapes import Mask

PLACE = ["block", "position", "offset"]


@dataclass(frozen=True)
class Ceiling:
    """What marginalization gave.

    Attributes:
        name: Name of the readout.
        table: Rows of `scoring.score.score`.
        positions: What was measured at each position and offset.
        rows: Rows of `marginal` in results.json.
        checks: Of the branch engine, against one by one.
    """

    name: str
    table: pd.DataFrame
    positions: pd.DataFrame
    rows: list[dict[str, Any]]
    checks: list[Check]

    @classmethod
    def of(
        cls, positions: pd.DataFrame, route: str, domains: Sequence[str], checks: list[Check]
    ) -> "Ceiling":
        """Sum up what was measured at each position.

        Args:
            positions: As `positions` returns them.
            route: How paths were kept.
            domains: Domain of each document number.
            checks: Of the branch engine.
        """
        name, rows = str(positions["readout"].iloc[0]), _rows(positions, route, domains)
        return cls(name, _by_document(positions), positions, list(rows), checks)


def wanted(settings: RunSettings) -> bool:
    """Whether there is a ceiling: at offset 1 it is the model itself."""
    return settings.marginalized > 1


def scored_positions(setup: Setup, settings: RunSettings) -> dict[str, Mask]:
    """Return the test positions that are scored: all, and those that are marginalized."""
    test, most = setup.blocks["test"], settings.marginal_positions or MARGINALIZED
    drawn = draw_positions(test, setup.domains, settings.offsets, most, settings.seed)
    return {"all": test.valid(1), "marginal": drawn}


def marginalization(setup: Setup, settings: RunSettings, name: str) -> Marginalization:
    """Return the model, marginalized as asked for, as a readout."""
    truncation = Truncation(settings.marginal, settings.nucleus, settings.max_branches)
    return Marginalization(setup.branches(), truncation, name, settings.marginalized)


def marginalize_drawn(
    name: str, settings: RunSettings, setup: Setup, targets: Targets, drawn: Mask
) -> Ceiling:
    """Marginalize the model at the drawn test positions, as `positions` does."""
    table, checks = positions(name, settings, setup, targets, drawn, drawn)
    return Ceiling.of(table, settings.marginal, setup.domains, checks)


def positions(
    name: str, settings: RunSettings, setup: Setup, targets: Targets, drawn: Mask, own: Mask
) -> tuple[pd.DataFrame, list[Check]]:
    """Marginalize the model at some of the drawn test positions.

    Ranks are those of the distribution over the paths kept. Its cross-entropy would be biased by
    what is left out: that comes from these paths, and from others that are drawn for the targets.

    Args:
        name: Name of the readout.
        settings: How paths are kept.
        setup: Model and text.
        targets: Targets of the test blocks.
        drawn: All drawn positions, shape (block, pos).
        own: Those of some of their blocks, at which to marginalize: each is the same whichever
            these are.

    Returns:
        What was measured at each position and offset, and the checks of the branch engine; a
        table without columns if no position is to be marginalized.
    """
    if not own.any():
        return pd.DataFrame(), []
    readout = marginalization(setup, settings, name)
    # Block by block, so that the bar moves: the engine reads one block at a time anyway.
    stream = Tracked(setup.stream("test", (), SITE_OF_MODEL, batch_size=1), name)
    documents = setup.blocks["test"].documents
    table = score_positions([readout], stream, targets, own, documents)
    table = table.rename(columns={"nats": "truncated_nats"})
    bos = setup.loaded.tokenizer.bos_token_id
    n_paths = max(1, settings.max_branches // (2 * GROUPS))
    sampler = NatsSampler(readout.engine, bos, readout.truncation, n_paths, settings.seed)
    table = table.merge(_kept(readout.records, targets), on=PLACE)
    table = table.merge(sampler.nats(stream, targets, drawn, own), on=PLACE)
    return table, [readout.check] if readout.check is not None else []


def _kept(records: Sequence[Record], targets: Targets) -> pd.DataFrame:
    """Return what marginalization kept at each position, and whether its mode is the text."""
    table = pd.DataFrame([vars(record) for record in records])
    hits = [
        all(
            token == int(targets.ids[k][record.block, record.position])
            for k, token in enumerate(record.mode, start=2)
        )
        for record in records
    ]
    return table.drop(columns="mode").assign(mode_hit=np.array(hits, dtype=float))


def _by_document(positions: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `scoring.score.score` of the ceiling, from its positions."""
    # At t+2 the mode is the marginal's, where a tie counts a share of a hit.
    joint = positions["top1"].where(positions["offset"] == 2, positions["mode_hit"])
    columns = ["nats", "top1", "top5", "joint", "joint_nats"]
    sums = positions.assign(n=1, joint=joint).groupby(
        ["readout", "layer", "offset", "document"], dropna=False, as_index=False
    )
    table = sums[["n", *columns]].sum().rename(columns={name: f"{name}_sum" for name in columns})
    return table.assign(blind=True, positions="marginal")


def _rows(positions: pd.DataFrame, route: str, domains: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of `marginal`, by domain and offset.

    Args:
        positions: What was measured at each position.
        route: How paths were kept.
        domains: Domain of each document number.
    """
    domain_of = positions["document"].map(dict(enumerate(domains)))
    names = list(dict.fromkeys(domain_of))
    for domain in [ALL, *names] if len(names) > 1 else names:
        of_domain = positions if domain == ALL else positions[domain_of == domain]
        for offset in sorted(set(of_domain["offset"])):
            rows = of_domain[of_domain["offset"] == offset]
            mass = rows["retained_mass"]
            yield {
                "readout": str(rows["readout"].iloc[0]),
                "offset": offset,
                "domain": domain,
                "route": route,
                "n_positions": len(rows),
                "branches_mean": float(rows["branches"].mean()),
                "branches_max": int(rows["branches"].max()),
                "retained_mass": float(mass.mean()),
                "tv_bound_mean": float(1 - mass.mean()),
                "tv_bound_max": float(1 - mass.min()),
                "nats_error": float(np.sqrt(rows["variance"].sum()) / len(rows)),
                # The paths kept have less than all of the probability: by themselves, a bound.
                "nats_at_most": float((rows["truncated_nats"] - np.log(mass)).mean()),
            }
