"""The tables of the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probekit.reports.numbers import (
    DASH,
    METRICS,
    Cell,
    Metric,
    absent,
    compact,
    known,
    score_cell,
    valued,
)
from probekit.reports.rows import OUTPUT_SITE, Row, Run, branched, ceiling

NO_CEILING = "marginalization did not run"
NOT_HERE = "not computed for this model or site"
NO_ROOM = "ceiling not clearly above the skip-bigram"
FEW_ROWS = 400  # above it, the table of readouts keeps the layers that matter


@dataclass(frozen=True)
class Table:
    """A table: head, rows of cells, and the reasons for what is missing."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    key: str = ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why cells are empty, each reason once."""
        found = (cell.missing for row in self.rows for cell in row if cell.missing)
        return tuple(dict.fromkeys(found))


def word(text: object, tone: str = "") -> Cell:
    """Return a cell of words."""
    return Cell(compact(text), numeric=False, tone=tone)


def mark(offset: int) -> Cell:
    """Return the cell that names an offset in its colour."""
    return Cell(f"t+{offset}", offset=offset, numeric=False)


def specialization_table(run: Run) -> Table:
    """Return best layer, what later layers forget, and how much of the ceiling is recovered."""
    head = (
        "Offset", "Domain", "Best layer", "Depth", "Forgotten later (bits)",
        "Recovered", "Recovered, adapted ceiling", "In words",
    )  # fmt: skip
    rows = [_special(run, k, domain) for k in run.offsets for domain in run.domains]
    return Table(f"What later layers forget ({run.describe(run.probe or 'no probe')})", head, rows)


def _special(run: Run, offset: int, domain: str) -> list[Cell]:
    row = run.special(offset, domain)
    why, adapted = _unrecovered(run, offset, domain)
    return [
        mark(offset),
        word(domain),
        _plain(row, "best_layer", "not computed"),
        valued(row, "best_depth", 2, "not computed"),
        valued(row, "forgotten_bits", 3, "not computed"),
        valued(row, "recovered", 2, why),
        valued(row, "recovered_adapted", 2, adapted),
        _verdict(row.get("verdict")),
    ]


def _unrecovered(run: Run, offset: int, domain: str) -> tuple[str, str]:
    """Return why a recovered share may be missing, against the ceiling and the adapted one."""
    if offset == 1:
        return ("defined from t+2 on",) * 2
    if not run.has("marginal"):
        return (NO_CEILING,) * 2
    if not run.special(offset, domain):
        return ("not computed",) * 2
    return NO_ROOM, _unadapted(run, domain)


def _unadapted(run: Run, domain: str) -> str:
    if run.has("marginal-adapted"):
        return NO_ROOM
    if run.results["model"].get("softcap") is not None or run.site != OUTPUT_SITE:
        return NOT_HERE
    gain = known(run.special(1, domain).get("adaptation_nats"))
    return "adaptation is not known" if gain is None else "adaptation is small: not needed"


def _verdict(text: object) -> Cell:
    if not text:
        return Cell(DASH, missing="not computed", numeric=False)
    return word(text, "doubt" if "cannot tell" in str(text) else "")


def next_token_table(run: Run) -> Table:
    """Return what only offset 1 has: where the lens saturates, and what adaptation gains."""
    head = ("Domain", "Lens reaches 95 % of final top-1 at layer", "Adaptation (nats)")
    rows = []
    for domain in run.domains:
        row = run.special(1, domain)
        saturation = _plain(row, "saturation_layer", "never reached or not computed")
        why = "not computed" if run.site == OUTPUT_SITE else NOT_HERE
        gain = valued(row, "adaptation_nats", 3, why)
        rows.append([word(domain), saturation, gain])
    return Table("At the next token", head, rows)


def marginal_table(run: Run) -> Table:
    """Return how the ceiling was computed and how far it can be off."""
    head = (
        "Offset", "Domain", "Output layer", "Route", "Branches, mean", "Branches, most",
        "Retained mass", "Error bound, mean", "Error bound, most", "Positions", "Reads as",
    )  # fmt: skip
    given = [row for row in run.results.get("marginal") or () if row["domain"] in run.domains]
    given.sort(key=lambda row: (branched(row) != "marginal", row["offset"]))
    rows = [_certificate(run, row) for row in given]
    return Table("Marginalization: the ceiling and its certificate", head, rows)


def _certificate(run: Run, row: Row) -> list[Cell]:
    loose = run.is_estimate(row["offset"], row["domain"], branched(row))
    return [
        mark(row["offset"]),
        word(row["domain"]),
        word("the model's" if branched(row) == "marginal" else "adapted"),
        word(row["route"]),
        valued(row, "branches_mean", 1, "not recorded"),
        _plain(row, "branches_max", "not recorded"),
        *(valued(row, name, 3, "not recorded") for name in _MASS),
        _plain(row, "n_positions", "not recorded"),
        word("estimate", "doubt") if loose else word("ceiling", "good"),
    ]


_MASS = ("retained_mass", "tv_bound_mean", "tv_bound_max")


def comparison_tables(run: Run) -> list[Table]:
    """Return floors, probe and ceiling side by side, on the same positions, for every metric."""
    if not run.positions():
        return []
    return [_comparison(run, metric, run.positions()[0]) for metric in METRICS.values()]


def _comparison(run: Run, metric: Metric, positions: str) -> Table:
    rows = []
    adapted = run.has("marginal-adapted")
    for offset in run.offsets:
        for domain in run.domains:
            cells = _compared(run, metric, offset, (domain, positions))
            rows.append([mark(offset), word(domain), *(cells if adapted else cells[:-1])])
    head = ["Offset", "Domain", "Unigram", "Skip-bigram", f"{run.probe}, layer 0"]
    head += [f"{run.probe}, best layer", f"{run.probe}, layer {run.n_layers}", "Ceiling"]
    head += ["Ceiling, adapted"] if adapted else []
    return Table(f"{metric.label}; probe: {run.describe(run.probe or '')}", head, rows, metric.name)


def _compared(run: Run, metric: Metric, offset: int, where: tuple[str, str]) -> list[Cell]:
    best = run.special(offset, where[0]).get("best_layer")
    probe = run.probe or ""
    top = ceiling(offset)
    wanted = [
        ("unigram", None, "not scored here"),
        ("skip-bigram", None, "not scored here"),
        (probe, 0, "not scored here"),
        (probe, best, "no best layer"),
        (probe, run.n_layers, "not scored here"),
        (top, None, NO_CEILING if offset > 1 else "not scored here"),
        ("marginal-adapted", None, "not needed at t+1" if offset == 1 else NO_CEILING),
    ]
    return [
        score_cell(run.score(name, layer, offset, where), metric, why)
        for name, layer, why in wanted
    ]


_COLUMNS: Mapping[str, Callable[[Row], Cell]] = {
    "Readout": lambda row: word(row["readout"]),
    "Offset": lambda row: mark(row["offset"]),
    "Layer": lambda row: _plain(row, "layer", "reads no layer"),
    "Sees": lambda row: word("blind" if row["blind"] else "token-fed", _fed(row)),
    "Target": lambda row: word(row["target"]),
    "Positions": lambda row: word(row["positions"]),
    "Top-1 (%)": lambda row: score_cell(row, METRICS["top1"], "not scored"),
    "Top-5 (%)": lambda row: score_cell(row, METRICS["top5"], "not scored"),
    "Bits": lambda row: score_cell(row, METRICS["bits"], "not scored"),
    "Nats": lambda row: score_cell(row, METRICS["nats"], "not scored"),
    "Bits per byte": lambda row: valued(row, "bpb", 3, "bytes not known"),
    "Parameters": lambda row: _plain(row, "n_parameters", "not recorded"),
    "Converged": lambda row: _converged(row.get("converged")),
    "n": lambda row: _plain(row, "n_positions", "not recorded"),
    "Documents": lambda row: _plain(row, "n_documents", "not recorded"),
}


def readout_tables(run: Run) -> tuple[list[Table], bool]:
    """Return every readout on test text, one table a domain, and whether layers were left out.

    Readouts of layers keep layer 0, the best layer and the last where all would be too many;
    those scored on both sets of positions are shown on all.
    """
    rows = _shown_rows(run.results["scores"], run.domains)
    every = len(rows) <= FEW_ROWS
    kept = [row for row in rows if every or _matters(run, row)]
    tables = []
    for domain in run.domains:
        own = [row for row in kept if row["domain"] == domain]
        cells = [[column(row) for column in _COLUMNS.values()] for row in own]
        tables.append(Table(domain, tuple(_COLUMNS), cells))
    return tables, not every


def _shown_rows(rows: Sequence[Row], domains: Sequence[str]) -> list[Row]:
    tested = [row for row in rows if row["split"] == "test" and row["domain"] in domains]
    wide = {_cell_of(row) for row in tested if row["positions"] == "all"}
    return [row for row in tested if row["positions"] == "all" or _cell_of(row) not in wide]


def _cell_of(row: Row) -> tuple[Any, ...]:
    names = ("readout", "site", "layer", "offset", "target", "domain", "seed")
    return tuple(row.get(name) for name in names)


def _matters(run: Run, row: Row) -> bool:
    best = run.special(row["offset"], row["domain"]).get("best_layer")
    return row["layer"] is None or row["layer"] in {0, best, run.n_layers}


def _fed(row: Row) -> str:
    return "" if row["blind"] else "doubt"


def _converged(value: object) -> Cell:
    if value is None:
        return Cell(DASH, missing="nothing was fitted", numeric=False)
    return word("yes", "good") if value else word("no", "bad")


def _plain(row: Row, name: str, reason: str) -> Cell:
    value = row.get(name)
    return absent(reason) if known(value) is None else Cell(compact(value))


def check_table(checks: Sequence[Row]) -> Table:
    """Return what was checked: measured against allowed."""
    rows = [
        [
            word(check["name"]),
            word("passed", "good") if check["passed"] else word("failed", "bad"),
            Cell(compact(check["measured"])),
            Cell(compact(check["allowed"])),
            word(check["message"]),
        ]
        for check in checks
    ]
    return Table("Checks", ("Check", "Outcome", "Measured", "Allowed", "Meaning"), rows)


def text_table(texts: Sequence[Row]) -> Table:
    """Return documents and tokens of every domain and split."""
    head = ["Domain", "Source", "SHA-256"]
    head += [f"{what}, {split}" for what in ("Documents", "Tokens") for split in _SPLITS]
    rows = []
    for text in texts:
        counts = [
            _plain(text.get(what) or {}, split, "not recorded")
            for what in ("documents", "tokens")
            for split in _SPLITS
        ]
        rows.append([word(text["domain"]), word(text["source"]), word(text["sha256"]), *counts])
    return Table("Text", head, rows)


_SPLITS = ("train", "validation", "test")


def depth_table(domains: Sequence[str], rows: Sequence[tuple[int, str, Sequence[str]]]) -> Table:
    """Return the numbers of the lens' divergence."""
    cells = [[Cell(str(n)), Cell(depth), *map(Cell, texts)] for n, depth, texts in rows]
    return Table("KL divergence in nats", ["Layer", "Relative depth", *domains], cells)
