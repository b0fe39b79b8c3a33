"""Would more text help: loss against training positions, and the codelength of the targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from probekit.reports.analysis.contrasts import FEW_ROWS
from probekit.reports.analysis.rows import RunRows
from probekit.reports.components.axes import dress, one_panel
from probekit.reports.components.colours import DASHES
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.numbers import compact, fixed, known
from probekit.reports.components.rows import Row
from probekit.reports.components.svg import MARK, ink
from probekit.reports.components.tables import Cell, Table, mark, plain, valued, word

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CODE_HEAD = (
    "Offset", "Layer", "Probe", "Targets", "Unigram code, bits a target",
    "Online code, bits a target", "Compression to the unigram code", "Compression to equal shares",
)  # fmt: skip
ROLES = {"best": "best probe", "floor": "floor"}


@dataclass(frozen=True)
class LearningLine:
    """The loss of one readout by how much text it was fitted to.

    Attributes:
        offset: Whose colour it has.
        role: "best" or "floor".
        places: Training positions, ascending.
        nats: Cross-entropy on test text.
    """

    offset: int
    role: str
    places: Sequence[float]
    nats: Sequence[float]


def draw_learning(axes: "Axes", lines: Sequence[LearningLine]) -> None:
    """Draw losses by training positions on a logarithmic axis: a floor dashed, the best solid."""
    from matplotlib.ticker import NullLocator

    dress(axes, "Training positions", "Cross-entropy on test text (nats)")
    axes.set_xscale("log")
    for line in lines:
        style = DASHES[line.role == "floor"]
        drawn = axes.plot(line.places, line.nats, color=ink(line.offset), linewidth=1.6)[0]
        drawn.set(linestyle=style, marker="o", markersize=3)
        drawn.set_gid(f"{MARK}o o{line.offset} {line.role}")
    places = sorted({place for line in lines[:1] for place in line.places})
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(places, [f"{place:,.0f}" for place in places])


def learning_figure(run: RunRows) -> PageFigure | None:
    """Return the losses by training positions, None if nothing was fitted to parts of the text."""
    lines = learning_lines(run)
    if not lines:
        return None
    return PageFigure(
        "learning",
        " ".join(_message(line) for line in lines if line.role == "best"),
        partial(one_panel, partial(draw_learning, lines=lines)),
        series=tuple(ROLES.values()),
        table=_table(run),
    )


def learning_lines(run: RunRows) -> list[LearningLine]:
    """Return a line an offset and role, on all test positions of the first domain."""
    rows = _rows(run)
    lines = []
    for offset in dict.fromkeys(row["offset"] for row in rows):
        for role in ROLES:
            own = [row for row in rows if (row["offset"], row["role"]) == (offset, role)]
            own.sort(key=lambda row: row["n_train"])
            places, nats = ([float(row[name]) for row in own] for name in ("n_train", "nats"))
            lines.append(LearningLine(offset, role, places, nats))
    return lines


def _rows(run: RunRows) -> list[Row]:
    # Runs of earlier versions have no such part.
    rows: Sequence[Row] = run.results.get("learning") or ()
    first = [row for row in rows if row["domain"] == rows[0]["domain"]]
    few = [row for row in first if row["offset"] in run.few_offsets]
    return [row for row in few if row["positions"] == "all"]


def _message(line: LearningLine) -> str:
    return (
        f"t+{line.offset}: {fixed(line.nats[0], 3)} nats after {compact(line.places[0])} training "
        f"positions, {fixed(line.nats[-1], 3)} after {compact(line.places[-1])}."
    )


def _table(run: RunRows) -> Table:
    head = (
        "Offset", "Readout", "Training positions", "Positions by value of the map",
        "Nats on training text", "Nats on test text", "Gain over half of it",
        "Twice the text, extrapolated", "Bits beyond the floor", "Gain of these over half of it",
    )  # fmt: skip
    none = "the floor itself"
    rows = [
        [
            mark(row["offset"]),
            word(_named(row)),
            plain(row, "n_train", "not recorded"),
            Cell(fixed(row["positions_per_value"], 2)),
            Cell(fixed(row["train_nats"], 3)),
            valued(row, "nats", 3, "not scored"),
            valued(row, "gain_nats", 3, "the smallest part"),
            valued(row, "doubled_nats", 3, "two gains are needed"),
            valued(row, "read_bits", 3, none),
            valued(
                row, "read_gain_bits", 3, none if row["role"] == "floor" else "the smallest part"
            ),
        ]
        for row in _rows(run)
    ]
    return Table("Floor and best probe, fitted to nested parts of the training text", head, rows)


def _named(row: Row) -> str:
    layer = "" if row["layer"] is None else f", layer {row['layer']}"
    return f"{ROLES[row['role']]} ({row['readout']}{layer})"


def codelength_table(run: RunRows) -> tuple[Table, bool]:
    """Return the online codelength of each probe, and whether layers were left out."""
    given = sorted(
        run.results.get("codelength") or (), key=lambda row: (row["offset"], row["layer"])
    )
    every = len(given) <= FEW_ROWS
    domain = next(iter(run.domains), "")
    kept = [row for row in given if every or row["layer"] in run.key_layers(row["offset"], domain)]
    return Table("Online codelength", _CODE_HEAD, [_code(row) for row in kept]), not every


def _code(row: Row) -> list[Cell]:
    n, unigram = known(row.get("n")), known(row.get("unigram_bits"))
    plainly = None if not n or unigram is None else unigram / n
    return [
        mark(row["offset"]),
        Cell(str(row["layer"])),
        word(row["readout"]),
        plain(row, "n", "not recorded"),
        valued({"bits": plainly}, "bits", 3, "not recorded"),
        valued(row, "bits_per_target", 3, "not recorded"),
        valued(row, "compression_to_unigram", 2, "not recorded"),
        valued(row, "compression", 2, "not recorded"),
    ]
