"""Tables of readouts set against each other: controls, families, several tokens.

And what it costs the model that what is read is taken out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from probekit.readout import CONCAT, LINEAR, MARGINAL, MARGINAL_ADAPTED, SKIP_BIGRAM
from probekit.reports.analysis.rows import RunRows
from probekit.reports.components.axes import one_panel, span_of
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.line_figures import Curve, LayerPanel, draw_curves
from probekit.reports.components.numbers import fixed, known
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Cell, Table, mark, plain, valued, word

OF_ALL = "targets changed places across all texts together"
NO_ROOM = "there was no room for a second model"
FEW_ROWS = 30  # above it, a table of layers keeps those that matter
_WIDE_LEFT = (0.19, 0.91, 0.975, 0.135)  # edges of axes whose ticks have four digits


@dataclass(frozen=True)
class _Column:
    """A number of a row: its column, what heads it, and how it is shown."""

    name: str
    head: str
    scale: float = 1.0
    digits: int = 3
    refitted: bool = True  # by other seeds
    reason: str = "not computed"

    def cell(self, row: Row, others: Sequence[Row] = ()) -> Cell:
        """Return the cell with its interval and what other seeds gave."""
        cell = valued(row, self.name, self.digits, self.reason, self.scale)
        return replace(cell, seeds=self._seeds(others)) if self.refitted else cell

    def _seeds(self, others: Sequence[Row]) -> str:
        scored = [(known(row.get(self.name)), row["seed"]) for row in others]
        values = [value * self.scale for value, _ in scored if value is not None]
        if not values:
            return ""
        low, high = (fixed(end(values), self.digits) for end in (min, max))
        return f"other seeds {low} to {high}" if len(values) > 1 else f"other seed {low}"


_CONTROLS = (
    _Column("contextual_bits", "In the context (bits)", reason=OF_ALL),
    _Column("overfit_bits", "Overfitting (bits)", reason=f"{OF_ALL}, or layer 0 was not read"),
    _Column("random_bits", "Untrained blocks' probe (bits)", reason=NO_ROOM, refitted=False),
    _Column("bits_over_random", "Bits over untrained blocks", reason=NO_ROOM, refitted=False),
)
_FAMILIES = (
    _Column("top1", "Top-1 (%)", 100.0, 1),
    _Column("nats", "Cross-entropy (nats)"),
    _Column("bits_over_linear", "Bits over linear"),
)
_CAUSAL = (
    _Column("probe_nats", "The probe loses (bits)", 1 / math.log(2)),
    _Column("nats", "The model loses (nats)"),
    _Column("random_nats", "Random, as many (nats)"),
    _Column("alike_nats", "Random, as much variance (nats)"),
    _Column("other_nats", "Another offset's (nats)", reason="there is no other offset"),
    _Column("beyond_nats", "Beyond random (nats)"),
)
_TOP1 = _Column("top1", "Unconditional: right at t+k (%)", 100.0, 1)
_JOINT = _Column("joint", "Joint: right at all of t+2 … t+k (%)", 100.0, 1)
_GIVEN = _Column(
    "conditional", "Conditional: right at t+k given right before (%)", 100.0, 1,
    reason="never right at all offsets before",
)  # fmt: skip
_ACCEPTED = _Column("accepted", "In a row: of t+2 … t+k, on average", 1.0, 2)
_NATS = _Column("joint_nats", "All of t+2 … t+k together (nats)")
_TC = _Column(
    "total_correlation", "Total correlation (nats)", reason="predicts each token by itself"
)


def control_table(run: RunRows) -> tuple[Table, bool]:
    """Return probe, permuted targets and untrained blocks, and whether layers were left out."""
    by_cell = [(row, rest) for row, rest in _by_seed(run, "controls", "layer")]
    every = len(by_cell) <= FEW_ROWS
    kept = [
        (row, rest)
        for row, rest in by_cell
        if every or row["layer"] in run.key_layers(row["offset"], row["domain"])
    ]
    rows = [
        [
            mark(row["offset"]),
            word(row["domain"]),
            Cell(str(row["layer"])),
            *(column.cell(row, rest) for column in _CONTROLS),
        ]
        for row, rest in kept
    ]
    head = ("Offset", "Domain", "Layer", *_heads(_CONTROLS))
    return Table(f"Controls of {run.describe(LINEAR)}{_of_seeds(by_cell)}", head, rows), not every


def family_tables(run: RunRows) -> list[Table]:
    """Return the best probe of each family, one table a domain; none where only linear ran."""
    by_cell = list(_by_seed(run, "families", "readout"))
    if {row["readout"] for row, _ in by_cell} <= {LINEAR}:
        return []
    head = ("Offset", "Family", "Parameters", "Best layer", *_heads(_FAMILIES))
    tables = []
    for domain in run.domains:
        of_domain = [(row, rest) for row, rest in by_cell if row["domain"] == domain]
        rows = [_family(run, row, rest) for row, rest in of_domain]
        tables.append(
            Table(f"{domain}: the best layer of each family{_of_seeds(of_domain)}", head, rows)
        )
    return tables


def _family(run: RunRows, row: Row, others: Sequence[Row]) -> list[Cell]:
    scored = run.score(row["readout"], row["layer"], row["offset"], (row["domain"], "all"))
    return [
        mark(row["offset"]),
        word(row["readout"]),
        plain(scored, "n_parameters", "not recorded"),
        Cell("all" if row["layer"] is None else str(row["layer"])),
        *(column.cell(row, others) for column in _FAMILIES[:2]),
        Cell("reference") if row["readout"] == LINEAR else _FAMILIES[2].cell(row, others),
    ]


def families_run(run: RunRows) -> tuple[str, ...]:
    """Return the probe families that were compared."""
    return tuple(dict.fromkeys(row["readout"] for row in run.results.get("families") or ()))


def sequence_tables(run: RunRows) -> list[Table]:
    """Return how often several tokens are right together, one table a domain.

    Best layers, floor and ceiling; none where nothing was measured.
    """
    names = ("readout", "layer", "offset", "domain")
    given = {tuple(row[name] for name in names): row for row in run.results.get("sequences") or ()}
    head = ("Offset", "Readout", *_heads((_TOP1, _JOINT, _GIVEN, _ACCEPTED, _NATS, _TC)))
    tables = []
    for domain in run.domains:
        keys = (
            (readout, layer, offset, domain)
            for offset in run.few_offsets
            for readout, layer in _drafters(run, offset, domain).items()
        )
        rows = [_sequence(given[key]) for key in keys if key in given]
        tables += [Table(f"{domain}: right about several tokens", head, rows)] if rows else []
    return tables


def _drafters(run: RunRows, offset: int, domain: str) -> Mapping[str, int | None]:
    """Return the readouts that are compared, and the layer that each is read at."""
    best = {run.probe or "": run.special(offset, domain).get("best_layer")}
    for row, _ in _by_seed(run, "families", "readout"):
        if (row["offset"], row["domain"]) == (offset, domain):
            best.setdefault(row["readout"], row["layer"])
    return best | dict.fromkeys((SKIP_BIGRAM, MARGINAL, MARGINAL_ADAPTED))


def _sequence(row: Row) -> list[Cell]:
    return [
        mark(row["offset"]),
        word(_placed(row)),
        _TOP1.cell(row),
        _JOINT.cell(row),
        _GIVEN.cell(row),
        _ACCEPTED.cell(row),
        _NATS.cell(row),
        _TC.cell(row),
    ]


def causal_table(run: RunRows) -> tuple[Table, bool]:
    """Return what it costs that what is read is taken out, and whether rows were left out."""
    given = [row for row in run.results.get("causal") or () if row["domain"] in run.domains]
    own = [row for row in given if row["scored_offset"] in (1, row["offset"])]
    every = len(own) <= FEW_ROWS
    kept = [row for row in own if every or (row["best"] and row["domain"] == run.domains[0])]
    head = ("Offset", "Domain", "Layer", "Directions", "Scored", *_heads(_CAUSAL), "Verdict")
    return Table("What is read, taken out", head, [_causal(row) for row in kept]), not every


def causal_figure(run: RunRows) -> PageFigure | None:
    """Return what it costs in its turn beyond random parts, by layer; None for the best alone."""
    first = [
        row
        for row in run.results.get("causal") or ()
        if row["domain"] == run.domains[0] and row["scored_offset"] == row["offset"]
    ]
    if all(row["best"] for row in first):
        return None
    curves = []
    for offset in sorted({row["offset"] for row in first}):
        own = sorted(
            (row for row in first if row["offset"] == offset), key=lambda row: int(row["layer"])
        )
        value, low, high = (
            [math.nan if row[name] is None else float(row[name]) for row in own]
            for name in ("beyond_nats", "beyond_nats_low", "beyond_nats_high")
        )
        curves.append(Curve("probe", offset, [row["layer"] for row in own], value, low, high))
    ends = [
        end for curve in curves for line in (curve.values, curve.low, curve.high) for end in line
    ]
    panel = LayerPanel("Beyond random (nats)", curves, (), span_of([0.0, *ends], room=0.05))
    return PageFigure(
        "causal",
        _where_used(first),
        partial(one_panel, partial(draw_curves, panel=panel), edges=_WIDE_LEFT),
        domain=run.domains[0],
    )


def _where_used(rows: Sequence[Row]) -> str:
    """Say where what is read is used, and how often that cannot be told."""
    own = [row for row in rows if row["verdict"] != "nothing of its own"]
    if not own:
        return "No layer reads anything of a later token that it does not read of t+1."
    unknown = [row for row in own if row["verdict"] == "cannot tell"]
    if unknown == own:
        few = all(row["beyond_nats_low"] is None for row in own)
        why = "documents are too few for an interval" if few else "the intervals are too wide"
        return f"Cannot tell at any layer: {why}."
    layers: dict[int, list[int]] = {}
    for row in own:
        if row["verdict"] == "used":
            layers.setdefault(row["offset"], []).append(row["layer"])
    places = [
        f"t+{offset} at layer{'s' * (len(of) > 1)} {', '.join(map(str, of))}"
        for offset, of in layers.items()
    ]
    said = f"Used: {'; '.join(places)}." if places else "Found used at no layer."
    return (
        f"{said} Cannot tell at {len(unknown)} of {len(own)} layers and offsets."
        if unknown
        else said
    )


def _causal(row: Row) -> list[Cell]:
    return [
        mark(row["offset"]),
        word(row["domain"]),
        Cell(str(row["layer"])),
        plain(row, "rank", "not recorded"),
        word("t+1, now" if row["scored_offset"] == 1 else f"t+{row['offset']}, in its turn"),
        *(column.cell(row) for column in _CAUSAL),
        word(row["verdict"]),
    ]


def _heads(columns: Sequence[_Column]) -> tuple[str, ...]:
    return tuple(column.head for column in columns)


def _by_seed(run: RunRows, part: str, name: str) -> Iterable[tuple[Row, Sequence[Row]]]:
    """Yield the row of each cell with the run's own seed, and those with other seeds."""
    cells: dict[tuple[object, ...], list[Row]] = {}
    run_seed = run.results["run"].get("seed")
    for row in run.results.get(part) or ():
        if row["domain"] in run.domains:
            cells.setdefault((row["offset"], row["domain"], row[name]), []).append(row)
    for key in sorted(cells, key=lambda key: (key[0], run.domains.index(str(key[1])))):
        first, *others = sorted(cells[key], key=lambda row: row["seed"] != run_seed)
        yield first, others


def _of_seeds(by_cell: Sequence[tuple[Row, Sequence[Row]]]) -> str:
    """Say which seeds a table holds, if several."""
    others = sorted({row["seed"] for _, rest in by_cell for row in rest})
    if not others:
        return ""
    named = ", ".join(str(seed) for seed in others)
    rest = f"other seeds {named}, lowest to highest" if len(others) > 1 else f"other seed {named}"
    return f"; seed {by_cell[0][0]['seed']}, in italics {rest}"


def _placed(row: Row) -> str:
    """Return a readout and what it reads."""
    if row["layer"] is not None:
        return f"{row['readout']}, layer {row['layer']}"
    return f"{row['readout']}, all layers" if row["readout"] == CONCAT else str(row["readout"])
