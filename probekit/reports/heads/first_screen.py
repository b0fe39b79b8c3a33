"""What stands first: what each strategy reads, between linear probe and model, and its cost."""

import math
from collections.abc import Mapping

from probekit.readout import LINEAR
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.numbers import between, fixed, known
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Cell, Table, absent, valued, word
from probekit.reports.heads.figures import strategy_figures
from probekit.reports.heads.panels import OFFSET, scores_at
from probekit.reports.heads.tables import BASELINE, domains, in_figures


def answer_figure(document: Row) -> PageFigure | None:
    """Return the strategies' bits at the offset that the verdict is about, if there are any."""
    figures = strategy_figures(document)
    there = (each for each in figures if (each.offset, each.group) == (OFFSET, "bits"))
    return next(there, None)


def answer_table(document: Row) -> Table:
    """Return what each strategy reads of the second token and costs the next one, in bits."""
    domain = domains(document["scores"])[0]
    differences = {
        tuple(row[name] for name in ("positions", "strategy", "against", "offset")): row
        for row in document["differences"]
        if row["domain"] == domain
    }
    left_out = {row["strategy"] for row in document["training"] if row.get("left_out")}
    rows = scores_at(document, domain, OFFSET)
    names = [row["strategy"] for row in rows]
    cells = [
        [
            word(called),
            valued(row, "bits", 2, "not recorded"),
            _bits(differences.get(("marginal", row["strategy"], LINEAR, OFFSET)), -1)
            if row["strategy"] != LINEAR
            else absent("it is what others are held against"),
            _bits(differences.get(("all", row["strategy"], BASELINE, 1)), 1)
            if row["strategy"] != BASELINE
            else absent("it is what others are held against"),
        ]
        for called, row in zip(in_figures(names), rows, strict=True)
    ]
    head = (
        "Strategy", f"Read of t+{OFFSET}, bits beyond the unigram", "More than the linear probe",
        "Cost to the next token",
    )  # fmt: skip
    for name, line in zip(names, cells, strict=True):
        if name in left_out:
            line[0] = Cell(line[0].text, "takes part in no order", numeric=False)
    return Table(f"{domain}: strategies at t+{OFFSET}", head, cells)


def _bits(row: Mapping[str, object] | None, sign: int) -> Cell:
    """Return a paired difference of cross-entropies in bits, turned round by its sign."""
    nats = None if row is None else known(row["nats"])
    if row is None or nats is None:
        return absent("it does not predict that token")
    scale = sign / math.log(2)
    low, high = (row["nats_low"], row["nats_high"])[::sign]
    return Cell(fixed(nats * scale, 2), between(low, high, 2, scale))
