"""The ceiling of an analysis: the model, marginalized, by itself or with an adapted output."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from probekit.checks import Check
from probekit.data.targets import Targets, draw_positions
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization, summarize
from probekit.runs.setup import Setup
from probekit.runs.streams import Streams, Tracked
from probekit.scoring.rates import ALL
from probekit.scoring.score import score
from probekit.settings import RunSettings
from probekit.shapes import Mask


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
    name: str,
    settings: RunSettings,
    streams: Streams,
    targets: Targets,
    drawn: Mask,
) -> Ceiling:
    """Marginalize the model at the drawn test positions.

    Args:
        name: Name of the readout.
        settings: How paths are kept.
        streams: Residual streams, for what is compared.
        targets: Targets of the test blocks.
        drawn: Where to marginalize, shape (block, pos).
    """
    setup = streams.setup
    readout = marginalization(setup, settings, name)
    # Block by block, so that the bar moves: the engine reads one block at a time anyway.
    stream = Tracked(setup.stream("test", (), streams.site, batch_size=1), name)
    table = score([readout], stream, targets, {"marginal": drawn}, setup.blocks["test"].documents)
    checks = [readout.check] if readout.check is not None else []
    return Ceiling(name, table, list(_rows(readout, setup)), checks)


def _rows(readout: Marginalization, setup: Setup) -> Iterator[dict[str, Any]]:
    documents = setup.blocks["test"].documents
    by_domain: dict[str, list[Any]] = {ALL: readout.records}
    for record in readout.records:
        owner = int(documents[record.block, record.position])
        by_domain.setdefault(setup.domains[owner], []).append(record)
    if len(by_domain) == 2:  # one domain alone is all there is
        del by_domain[ALL]
    for domain, records in by_domain.items():
        for row in summarize(records, readout.truncation.route, domain):
            yield {"readout": readout.name, **asdict(row)}
