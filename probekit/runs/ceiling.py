"""The ceiling of an analysis: the model, marginalized, by itself or with an adapted output."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from probekit.checks import Check
from probekit.data.targets import Targets, draw_positions
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization, Record
from probekit.marginalization.sampled_nats import NatsSampler
from probekit.runs.setup import Setup
from probekit.runs.streams import Streams, Tracked
from probekit.scoring.rates import ALL
from probekit.scoring.score import score
from probekit.settings import RunSettings
from probekit.shapes import Mask

PLACE = ["block", "position", "offset"]
SUMMED = ["nats", "joint_nats", "hit"]


@dataclass(frozen=True)
class Ceiling:
    """What marginalization gave.

    Attributes:
        name: Name of the readout.
        table: Rows of `scoring.score.score`.
        rows: Rows of `marginal` in results.json.
        checks: Of the branch engine, against one by one.
    """

    name: str
    table: pd.DataFrame
    rows: list[dict[str, Any]]
    checks: list[Check]


def wanted(settings: RunSettings) -> bool:
    """Whether there is a ceiling: at offset 1 it is the model itself."""
    return settings.marginal != "off" and settings.offsets > 1


def scored_positions(setup: Setup, settings: RunSettings) -> dict[str, Mask]:
    """Return the test positions that are scored: all, and those that are marginalized."""
    test, most = setup.blocks["test"], settings.marginal_positions
    drawn = draw_positions(test, setup.domains, settings.offsets, most, settings.seed)
    return {"all": test.valid(1), "marginal": drawn}


def marginalization(setup: Setup, settings: RunSettings, name: str) -> Marginalization:
    """Return the model, marginalized as asked for, as a readout."""
    truncation = Truncation(settings.marginal, settings.nucleus, settings.max_branches)
    return Marginalization(setup.branches(), truncation, name)


def marginalize_drawn(
    name: str, settings: RunSettings, streams: Streams, targets: Targets, drawn: Mask
) -> Ceiling:
    """Marginalize the model at the drawn test positions.

    Ranks are those of the distribution over the paths kept. Its cross-entropy would be biased by
    what is left out: that comes from two halves of as many paths, drawn for the targets.

    Args:
        name: Name of the readout.
        settings: How paths are kept.
        streams: Residual streams.
        targets: Targets of the test blocks.
        drawn: Where to marginalize, shape (block, pos).
    """
    setup = streams.setup
    readout = marginalization(setup, settings, name)
    # Block by block, so that the bar moves: the engine reads one block at a time anyway.
    stream = Tracked(setup.stream("test", (), streams.site, batch_size=1), name)
    documents = setup.blocks["test"].documents
    table = score([readout], stream, targets, {"marginal": drawn}, documents)
    bos, n_paths = setup.loaded.tokenizer.bos_token_id, max(1, settings.max_branches // 2)
    nats = NatsSampler(readout.engine, bos, n_paths, settings.seed).nats(stream, targets, drawn)
    positions = _described(readout.records, targets, documents).merge(nats, on=PLACE)
    by_document = positions.groupby(["offset", "document"], as_index=False)[SUMMED].sum()
    table = table.merge(by_document, on=["offset", "document"])
    rows = _rows(name, settings.marginal, setup.domains, table, positions)
    checks = [readout.check] if readout.check is not None else []
    return Ceiling(name, _unbiased(table), list(rows), checks)


def _described(records: Sequence[Record], targets: Targets, documents: Tensor) -> pd.DataFrame:
    """Return what marginalization kept at each position, and whether its mode is the text."""
    table = pd.DataFrame([vars(record) for record in records])
    table["document"] = documents[table["block"].tolist(), table["position"].tolist()].tolist()
    table["log_mass"] = np.log(table["retained_mass"])
    table["hit"] = [
        all(
            token == int(targets.ids[k][record.block, record.position])
            for k, token in enumerate(record.mode, start=2)
        )
        for record in records
    ]
    return table


def _unbiased(table: pd.DataFrame) -> pd.DataFrame:
    """Return scores of the ceiling with its unbiased cross-entropies and its joint mode."""
    deep = table["offset"] > 2  # up to there a tie may count a share of a hit
    return table.assign(
        nats_sum=table["nats"],
        joint_nats_sum=table["joint_nats"],
        joint_sum=table["joint_sum"].where(~deep, table["hit"].astype(float)),
    ).drop(columns=SUMMED)


def _rows(
    name: str, route: str, domains: Sequence[str], table: pd.DataFrame, positions: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `marginal`, by domain and offset.

    Args:
        name: Name of the readout.
        route: How paths were kept.
        domains: Domain of each document number.
        table: Scores by document, truncated, with the sums over positions.
        positions: What was measured at each position.
    """
    names = list(dict.fromkeys(domains[number] for number in table["document"].unique()))
    for domain in [ALL, *names] if len(names) > 1 else names:
        inside = [n for n, of in enumerate(domains) if domain in (ALL, of)]
        for offset in sorted(set(positions["offset"])):
            of_offset = positions[
                positions["document"].isin(inside) & (positions["offset"] == offset)
            ]
            scored = table[table["document"].isin(inside) & (table["offset"] == offset)]
            n, mass = len(of_offset), of_offset["retained_mass"]
            # The paths kept have less than all of the probability: truncated, it is a bound.
            at_most = (scored["nats_sum"].sum() - of_offset["log_mass"].sum()) / n
            yield {
                "readout": name,
                "offset": offset,
                "domain": domain,
                "route": route,
                "n_positions": n,
                "branches_mean": float(of_offset["branches"].mean()),
                "branches_max": int(of_offset["branches"].max()),
                "retained_mass": float(mass.mean()),
                "tv_bound_mean": float(1 - mass.mean()),
                "tv_bound_max": float(1 - mass.min()),
                "nats_error": float(np.sqrt(of_offset["variance"].sum()) / n),
                "nats_at_most": float(at_most),
            }
