"""Where in a block: bits by layer at each place that was read, and the best layer of each."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from probekit.reports.analysis.rows import RunRows
from probekit.reports.components.axes import SIZE, one_panel
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.line_figures import Point, draw_bits
from probekit.reports.components.numbers import METRICS
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Cell, Table, mark, valued, word

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BITS = METRICS["bits_given_token"]
# Further offsets read little: two digits would show their differences as none.
DIGITS = 3
OVER = "bits_over_first"
WIDE = (0.15, 0.91, 0.975, 0.135)  # room for the signs of a negative scale
WORDS = {
    "resid_post": "the residual stream after a block",
    "resid_mid": "the residual stream between attention and MLP",
    "attn_out": "the attention output",
    "mlp_out": "the MLP output",
}


def site_figures(run: RunRows) -> list[PageFigure]:
    """Return a figure an offset, of the first domain; none where one site was read."""
    return [
        PageFigure(
            f"sites{offset}",
            site_sentence(run.results["sites"], offset),
            partial(one_panel, partial(draw_sites, lines=lines), SIZE, WIDE),
            domain=run.domains[0],
            offset=offset,
            series=tuple(lines),
        )
        for offset, lines in site_lines(run).items()
    ]


def draw_sites(axes: "Axes", lines: Mapping[str, Sequence[Point]]) -> None:
    """Draw bits by layer, one line style a site."""
    draw_bits(axes, list(lines.values()), along="Layer")


def site_lines(run: RunRows) -> dict[int, dict[str, list[Point]]]:
    """Return by offset the line of each site, the run's own first, on all test positions."""
    by_cell: dict[tuple[int, str], list[Row]] = {}
    rows = [row for key, row in run.scores.items() if key[0] == run.probe and key[1] is not None]
    for row in (*rows, *run.results["site_scores"]) if run.results.get("sites") else ():
        place = row["domain"], row["split"], row["positions"]
        if place == (run.domains[0], "test", "all") and row["offset"] in run.few_offsets:
            by_cell.setdefault((row["offset"], row["site"]), []).append(row)
    lines: dict[int, dict[str, list[Point]]] = {}
    for (offset, site), of_cell in sorted(by_cell.items(), key=lambda item: item[0][0]):
        ordered = sorted(of_cell, key=lambda row: int(row["layer"]))
        points = [(float(row["layer"]), *BITS.with_ends(row)) for row in ordered]
        lines.setdefault(offset, {})[site] = points
    return lines


def site_sentence(rows: Sequence[Row], offset: int) -> str:
    """Say of the first domain whether the first site reads more of an offset than each other one.

    Args:
        rows: `sites` of results.json.
        offset: One of their offsets.
    """
    own, *others = (
        row for row in rows if (row["offset"], row["domain"]) == (offset, rows[0]["domain"])
    )
    return f"At t+{offset} {_placed(own)} {'; '.join(map(_than, others))}."


def _than(row: Row) -> str:
    """Say how much more than at another site the first reads."""
    there, low, high = (row[f"{OVER}{end}"] for end in ("", "_low", "_high"))
    if low is None:
        return f"cannot be told from {_placed(row)}: there are too few documents"
    if low > 0:
        return f"reads {_bits(there, low, high)} less than {_placed(row)}"
    more = _bits(-there, -high, -low)
    if high < 0:
        return f"reads {more} more than {_placed(row)}"
    return f"cannot be told from {_placed(row)} ({more} more)"


def _bits(*span: float) -> str:
    """Return bits and their interval, in three digits where they are small."""
    digits = 2 if max(map(abs, span)) > 0.1 else 3
    value, low, high = (f"{round(each, digits) + 0.0:.{digits}f}" for each in span)
    return f"{value} bits [{low}, {high}]"


def _placed(row: Row) -> str:
    return f"{WORDS[row['site']]} (layer {row['layer']})"


def site_table(run: RunRows) -> Table:
    """Return the best layer at each site and offset, of the first domain."""
    head = ("Offset", "Site", "Best layer", BITS.label, "More than the first site (bits)")
    rows: Sequence[Row] = run.results.get("sites") or ()
    cells = [
        [
            mark(row["offset"]),
            word(row["site"]),
            Cell(str(row["layer"])),
            valued(row, BITS.name, DIGITS, "not scored"),
            word("the first")
            if row["site"] == rows[0]["site"]
            else valued(row, OVER, DIGITS, "not scored"),
        ]
        for row in rows
        if row["domain"] == rows[0]["domain"]
    ]
    return Table("The best layer at each site", head, cells)
