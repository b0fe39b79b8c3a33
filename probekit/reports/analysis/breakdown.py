"""Where what is read comes from, by class of the target, and how sure the readouts are."""

from collections.abc import Iterator, Sequence
from functools import partial

from probekit.readout import MODEL
from probekit.reports.analysis.rows import RunRows
from probekit.reports.components.axes import one_panel
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.line_figures import draw_reliability
from probekit.reports.components.numbers import fixed, known
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Cell, Table, mark, plain, valued, word

ENTROPY = "entropy"
_KINDS = {
    "piece": "Place in a word",
    "repeated": "Repeats",
    "frequency": "Frequency in training",
    "next": "Certainty of the next token",
    ENTROPY: "Next-token entropy, low to high",
}
_UNKNOWN = "no position of the class, or none with a ceiling"
_SMALL = "the room is too small for a share"


def class_tables(run: RunRows) -> list[Table]:
    """Return what is read by class of the target, all domains together.

    Two tables an offset: classes of tokens, and tenths of the positions by entropy.
    """
    rows = [row for row in run.results.get("classes") or () if row["domain"] == run.domains[0]]
    offsets = sorted({row["offset"] for row in rows}.intersection(run.few_offsets))
    head = (
        "Class", "Kind", "Share of positions (%)", "Top-1 (%)", "Read beyond the floor (bits)",
        "Share of all that is read (%)", "Room to the ceiling (bits)", "Recovered (%)",
    )  # fmt: skip
    return [
        Table(f"t+{offset} by {what}, {run.domains[0]}", head, [_class(row) for row in of_table])
        for offset in offsets
        for what, of_table in _parts([row for row in rows if row["offset"] == offset])
    ]


def _parts(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    yield "class of the target", [row for row in rows if row["kind"] != ENTROPY]
    yield "entropy of the next token", [row for row in rows if row["kind"] == ENTROPY]


def _class(row: Row) -> list[Cell]:
    return [
        word(row["class"]),
        word(_KINDS.get(row["kind"], row["kind"])),
        Cell(fixed(100 * row["share_of_positions"], 0)),
        valued(row, "top1", 1, _UNKNOWN, 100.0),
        valued(row, "read_bits", 2, _UNKNOWN),
        valued(row, "share", 0, _UNKNOWN, 100.0),
        valued(row, "room_bits", 2, _UNKNOWN),
        valued(row, "recovered", 0, _UNKNOWN if row["room_bits"] is None else _SMALL, 100.0),
    ]


def calibration_table(run: RunRows) -> Table:
    """Return how sure each readout is beside how often it is right."""
    head = (
        "Offset", "Readout", "Calibration error (points)", "Best temperature",
        "Gain by a temperature (nats)", "Positions",
    )  # fmt: skip
    rows = [
        [
            mark(row["offset"]),
            word(_named(row)),
            valued(row, "calibration_error", 1, "not recorded", 100.0),
            valued(row, "temperature", 2, "not recorded"),
            valued(row, "temperature_gain_nats", 3, "not recorded"),
            plain(row, "n_positions", "not recorded"),
        ]
        for row in sorted(
            run.results.get("calibration") or (), key=lambda row: (row["offset"], row["readout"])
        )
    ]
    return Table("Calibration, all domains together", head, rows)


def reliability_figure(run: RunRows) -> PageFigure | None:
    """Return accuracy against confidence of the model and of what reads t+2, None if unknown."""
    rows = [row for row in run.results.get("calibration") or () if row["offset"] <= 2]
    if not rows:
        return None
    series = [[(b["confidence"], b["top1"]) for b in row["bins"]] for row in rows]
    names = tuple(f"{_named(row)}, t+{row['offset']}" for row in rows)
    worst = max(rows, key=lambda row: float(row["calibration_error"]))
    error = fixed(100 * worst["calibration_error"], 1)
    message = (
        f"The widest gap between confidence and accuracy is that of {_named(worst)} at "
        f"t+{worst['offset']}: {error} points on average."
    )
    draw = partial(draw_reliability, series=series)
    return PageFigure("reliability", message, partial(one_panel, draw), series=names)


def _named(row: Row) -> str:
    at = "" if known(row["layer"]) is None else f", layer {row['layer']}"
    return "the model" if row["readout"] == MODEL else f"{row['readout']}{at}"
