"""Figures 1 and 2 of the paper, measured: rows with the paper's numbers beside them.

Source: Mehra, Alonso Garcia and Mauch (2025), arXiv 2502.09419v1.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from probekit.data.documents import Source
from probekit.data.prompted.pair_tokens import Sample
from probekit.errors import ModelError
from probekit.models.loading import Loaded
from probekit.paper import numbers
from probekit.paper.means import Mean
from probekit.paper.numbers import PaperModel, Task
from probekit.paper.protocol import (
    EXTENDED,
    NEXT,
    PAPER,
    SECOND,
    BranchStatistics,
    Protocol,
    Subject,
    accuracy,
    divergence,
    score_model,
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One model on one text.

    Attributes:
        loaded: The model.
        subject: The same, as the protocol runs it.
        source: The text.
        task: What kind of text.
        samples: What was drawn of it.
    """

    loaded: Loaded
    subject: Subject
    source: Source
    task: Task
    samples: Sequence[Sample]

    @property
    def paper(self) -> PaperModel | None:
        """The paper's row of this model, if it has one."""
        return numbers.match(self.loaded.repository or self.loaded.name)

    def columns(self) -> Row:
        """Return the columns that say which model and text a row is of."""
        known = self.paper
        return {
            "model": self.loaded.name,
            "paper_model": known.name if known else None,
            "n_parameters": self.loaded.n_parameters,
            "text": self.source.domain,
            "task": self.task,
        }


def figure_1(setting: Setting, protocol: Protocol) -> list[Row]:
    """Return top-5 of the next and the second token: a row for each set of positions."""
    table, kept = score_model(setting.subject, setting.samples, protocol)
    rows = []
    for name in (PAPER, EXTENDED) if protocol.extended else (PAPER,):
        for offset, readout in ((NEXT, "model"), (SECOND, "marginal")):
            found = accuracy(table, readout, offset, name, protocol.seed)
            row = setting.columns() | {"positions": name, "offset": offset}
            row |= share_columns("top5", found.share)
            row |= {"interval": found.kind, "n_samples": found.samples}
            row |= _branches(kept[name] if offset == SECOND else None)
            rows.append(row | _paper_figure_1(setting.paper, setting.task, offset))
    return rows


def share_columns(name: str, share: Mean) -> Row:
    """Return a share, its interval and its positions as the columns of a row."""
    return {
        name: share.value, f"{name}_low": share.low, f"{name}_high": share.high,
        "n_positions": share.n,
    }  # fmt: skip


def _branches(kept: BranchStatistics | None) -> Row:
    names = ("branches_mean", "mass_mean", "mass_min", "max_branches")
    return asdict(kept) if kept else dict.fromkeys(names)


def _paper_figure_1(known: PaperModel | None, task: Task, offset: int) -> Row:
    names = ("paper_top5", "paper_top5_low", "paper_top5_high", "paper_n", "paper_branches")
    if known is None:
        return dict.fromkeys(names)
    share = known.shares(task)[offset - 1]
    branches = known.figure_4[task] if offset == SECOND else None
    values = (share.value, share.low, share.high, share.n, branches)
    return dict(zip(names, values, strict=True))


def figure_2(setting: Setting, protocol: Protocol) -> list[Row]:
    """Return KL(lens || final) in nats of each backbone layer, one row a layer.

    Raises:
        ModelError: If the model has a single block, and so no backbone.
    """
    if setting.subject.anatomy.n_layers < 2:
        raise ModelError(f"{setting.loaded.name} has a single block: there is no layer before it")
    known = setting.paper.figure_2 if setting.paper else None
    found = divergence(setting.subject, setting.samples, protocol.seed)
    limit = numbers.source_of("figure_2")["threshold_nats"]
    first = next((depth for _, depth, kl in found if kl.value < limit), None)
    rows = []
    for layer, depth, kl in found:
        row = setting.columns() | {"layer": layer, "depth": depth} | share_columns("kl_nats", kl)
        row |= {"n_samples": len(setting.samples), "last": layer == found[-1][0]}
        row |= {"first_depth": first, "paper_kl_nats": None, "paper_first_depth": None}
        if known:
            row["paper_kl_nats"] = known["last_layer_nats"]
            row["paper_first_depth"] = known.get("first_depth")
        rows.append(row)
    return rows
