"""The ceiling of an analysis: the model, marginalized, by itself or with an adapted output."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch

from probekit.branches import BranchEngine
from probekit.checks import Check
from probekit.marginal import Marginalization, summarize
from probekit.paths import Truncation
from probekit.preparation import Material
from probekit.progress import Tracked
from probekit.score import score
from probekit.settings import Settings
from probekit.shapes import Mask
from probekit.tally import ALL
from probekit.targets import Targets


@dataclass(frozen=True)
class Ceiling:
    """What marginalization gave.

    Attributes:
        sums: Rows of `probekit.score.score`.
        rows: Rows of `marginal` in results.json.
        checks: Of the branch engine, against one by one.
    """

    sums: pd.DataFrame
    rows: list[dict[str, Any]]
    checks: list[Check]


def measure(
    material: Material, settings: Settings, targets: Targets, drawn: Mask, name: str
) -> Ceiling:
    """Marginalize the model at the drawn test positions.

    Args:
        material: Model and text.
        settings: How paths are kept.
        targets: Targets of the test blocks.
        drawn: Where to marginalize, shape (block, pos).
        name: Name of the readout.
    """
    truncation = Truncation(settings.marginal, settings.nucleus, settings.max_branches)
    generator = torch.Generator().manual_seed(settings.seed)
    engine = BranchEngine(material.loaded.model)
    readout = Marginalization(engine, truncation, generator, name)
    # Block by block, so that the bar moves: the engine reads one block at a time anyway.
    stream = Tracked(material.stream("test", (), "resid_post", batch_size=1), name)
    documents = material.blocks["test"].documents
    sums = score([readout], stream, targets, {"marginal": drawn}, documents)
    checks = [readout.check] if readout.check is not None else []
    return Ceiling(sums, list(_rows(readout, material)), checks)


def _rows(readout: Marginalization, material: Material) -> Iterator[dict[str, Any]]:
    documents = material.blocks["test"].documents
    by_domain: dict[str, list[Any]] = {ALL: readout.records}
    for record in readout.records:
        owner = int(documents[record.block, record.position])
        by_domain.setdefault(material.domains[owner], []).append(record)
    if len(by_domain) == 2:  # one domain alone is all there is
        del by_domain[ALL]
    for domain, records in by_domain.items():
        for row in summarize(records, readout.truncation.route, domain):
            yield {"readout": readout.name, **asdict(row)}
