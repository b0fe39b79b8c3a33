"""How many tokens the next one might be: a table by domain, and the entropy by position."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from probekit.readout import MARGINAL
from probekit.reports.analysis.rows import RunRows
from probekit.reports.analysis.tables import NO_CEILING
from probekit.reports.components.axes import one_panel
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.line_figures import Point, draw_positions
from probekit.reports.components.numbers import compact, fixed, known
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Cell, Table, absent, plain, valued, word
from probekit.scoring.rates import ALL

NEXT = 2  # the offset whose branches are single next tokens


def nucleus(run: RunRows) -> str:
    """Return the share of the next token's probability that was counted, empty if none was."""
    return next((compact(known(row["nucleus"])) for row in _rows(run)), "")


def branching_table(run: RunRows) -> Table:
    """Return tokens in the nucleus and entropy by domain, beside the branches that were kept."""
    head = (
        "Domain", f"Tokens in the {nucleus(run)} nucleus, mean", "Median", "Entropy (nats)",
        "Most branches allowed", "Branches kept at t+2, mean", "Mass kept at t+2", "Positions",
        "Documents",
    )  # fmt: skip
    rows = [[word(domain), *_cells(run, whole)] for domain, whole, _ in _domains(run)]
    return Table("Tokens that the next one might be, at every test position", head, rows)


def _cells(run: RunRows, row: Row) -> list[Cell]:
    kept = run.branching(NEXT, row["domain"], MARGINAL)
    settings = run.results["run"].get("settings") or {}
    return [
        valued(row, "tokens_mean", 1, "not recorded"),
        plain(row, "tokens_median", "not recorded"),
        valued(row, "entropy_nats", 2, "not recorded"),
        plain(settings, "max_branches", "not recorded") if kept else absent(NO_CEILING),
        valued(kept, "branches_mean", 1, NO_CEILING),
        valued(kept, "retained_mass", 3, NO_CEILING),
        plain(row, "n_positions", "not recorded"),
        plain(row, "n_documents", "not recorded"),
    ]


def entropy_by_position(run: RunRows) -> PageFigure | None:
    """Return the next token's entropy by position in the block, None if it was not measured."""
    parts = by_position(run)
    if not parts:
        return None
    points = [[point(row) for row in rows] for rows in parts.values()]
    return PageFigure(
        "entropy",
        " ".join(_message(domain, rows) for domain, rows in parts.items()),
        partial(one_panel, partial(draw_positions, series=points)),
        series=tuple(parts),
        table=_by_position(parts),
    )


def by_position(run: RunRows) -> dict[str, Sequence[Row]]:
    """Return the rows of parts of the block by domain, those of all domains only if alone.

    All of them together would be their mean, drawn over them.
    """
    measured = _domains(run)
    several = len(measured) > 1
    return {name: rows for name, _, rows in measured if rows and not (several and name == ALL)}


def _by_position(parts: dict[str, Sequence[Row]]) -> Table:
    spans = sorted({_span(row) for rows in parts.values() for row in rows})
    by_span = {(_span(row), domain): row for domain, rows in parts.items() for row in rows}
    cells = [
        [
            Cell(_positions(*span), numeric=False),
            *(
                valued(by_span.get((span, domain), {}), name, digits, "no position there")
                for name, digits in (("tokens_mean", 1), ("entropy_nats", 2))
                for domain in parts
            ),
        ]
        for span in spans
    ]
    head = ["Positions", *(f"Tokens, {d}" for d in parts), *(f"Nats, {d}" for d in parts)]
    return Table("Tokens in the nucleus and entropy by position in the block", head, cells)


def _message(domain: str, rows: Sequence[Row]) -> str:
    (start, first), (end, last) = ((row["entropy_nats"], _span(row)) for row in (rows[0], rows[-1]))
    return (
        f"{domain}: the entropy of the next token is {fixed(start, 2)} nats on average at "
        f"positions {_positions(*first)} of the block and {fixed(end, 2)} at {_positions(*last)}."
    )


def _rows(run: RunRows) -> Sequence[Row]:
    # Runs of earlier versions have no such part.
    return [row for row in run.results.get("branching") or () if row["domain"] in run.domains]


def _domains(run: RunRows) -> list[tuple[str, Row, Sequence[Row]]]:
    """Return each domain with the row of the whole block and those of its parts, in order."""
    measured: list[tuple[str, Row, Sequence[Row]]] = []
    for domain in run.domains:
        rows = [row for row in _rows(run) if row["domain"] == domain]
        if rows:
            whole = max(rows, key=lambda row: _span(row)[1] - _span(row)[0])
            parts = sorted((row for row in rows if row is not whole), key=_span)
            measured.append((domain, whole, parts))
    return measured


def _span(row: Row) -> tuple[int, int]:
    return int(row["positions_from"]), int(row["positions_to"])


def _positions(first: Any, last: Any) -> str:
    return f"{first} to {last}"


def point(row: Row) -> Point:
    """Return the middle of a row's positions, the entropy there and its interval's ends."""
    ends = (known(row[f"entropy_nats_{end}"]) for end in ("low", "high"))
    low, high = (float("nan") if end is None else end for end in ends)
    return sum(_span(row)) / 2, float(row["entropy_nats"]), low, high
