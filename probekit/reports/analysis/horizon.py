"""Bits against offset: how far ahead the best probe reads more than the current token tells."""

from collections.abc import Sequence
from functools import partial

from probekit.reports.analysis.rows import RunRows
from probekit.reports.components.axes import one_panel
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.line_figures import Point, draw_bits
from probekit.reports.components.numbers import fixed, known
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Table, mark, plain, valued, word

SERIES = ("best probe", "what the model knows")
_NAN = float("nan")


def horizon_figure(run: RunRows) -> PageFigure | None:
    """Return bits by offset of the first domain; None where no offset goes beyond the ceilings."""
    lines = horizon_lines(run)
    if not lines:
        return None
    rows = _rows(run)
    return PageFigure(
        "horizon",
        _message(rows),
        partial(one_panel, partial(draw_bits, series=lines)),
        domain=rows[0]["domain"],
        series=SERIES[: len(lines)],
        table=_table(run),
    )


def horizon_lines(run: RunRows) -> list[list[Point]]:
    """Return points of the best probe, then of the ceiling as far as it goes; none of neither."""
    read = [_point(row, "read_bits") for row in _rows(run)]
    specials = [run.special(row["offset"], row["domain"]) for row in _rows(run)]
    room = [_point(row, "room_bits") for row in specials if known(row.get("room_bits")) is not None]
    return [line for line in (read, room) if line]


def _rows(run: RunRows) -> list[Row]:
    # Runs of earlier versions have no such part.
    rows: Sequence[Row] = run.results.get("horizon") or ()
    return [row for row in rows if row["domain"] == rows[0]["domain"]]


def _point(row: Row, name: str) -> Point:
    value, low, high = (known(row.get(f"{name}{end}")) for end in ("", "_low", "_high"))
    ends = (_NAN if end is None else end for end in (value, low, high))
    return (float(row["offset"]), *ends)  # type: ignore[return-value]  # three of them


def _message(rows: Sequence[Row]) -> str:
    told = ", ".join(f"{fixed(row['read_bits'], 3)} at t+{row['offset']}" for row in rows)
    within = [row["offset"] for row in rows if row["within"]]
    if len(within) == len(rows):
        end = f"the horizon lies at t+{within[-1]} or beyond, the last offset measured"
    else:
        end = f"the horizon is t+{within[-1] if within else 1}"
    return f"Bits of the best probe beyond the current token: {told}; {end}."


def _table(run: RunRows) -> Table:
    head = ("Offset", "Domain", "Layer", "Read beyond the floor (bits)", "Within the horizon")
    cells = [
        [
            mark(row["offset"]),
            word(row["domain"]),
            plain(row, "layer", "not recorded"),
            valued(row, "read_bits", 3, "not scored"),
            word("yes", "good") if row["within"] else word("no"),
        ]
        for row in run.results["horizon"]
    ]
    return Table("What the best probe reads, on all test positions", head, cells)
