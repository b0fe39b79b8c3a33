"""The tables of the report."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from probekit.data.dataset import taken
from probekit.data.overlap import LENGTH
from probekit.readout import CONTROL, MARGINAL, MARGINAL_ADAPTED, SKIP_BIGRAM, UNIGRAM
from probekit.reports.analysis.page_budget import scored_metrics
from probekit.reports.analysis.rows import RunRows
from probekit.reports.components.numbers import DASH, METRICS, Metric, compact
from probekit.reports.components.rows import Row, ceiling, ceiling_of
from probekit.reports.components.tables import (
    Cell,
    Table,
    absent,
    mark,
    plain,
    score_cell,
    valued,
    word,
)

NOTHING = "nothing is transplanted"
NO_CEILING = "marginalization did not run"
BEYOND, SEED = "Bits given the token", "Seed"
FEW_ROWS = 400  # above it, the table of readouts keeps the layers that matter


def marginal_table(run: RunRows) -> Table:
    """Return how the ceiling was computed and how far it can be off."""
    head = (
        "Offset", "Domain", "Output layer", "Route", "Branches, mean", "Branches, most",
        "Retained mass", "Standard error (nats)", "At most (nats)", "Positions", "Reads as",
    )  # fmt: skip
    given = [row for row in run.results.get("marginal") or () if row["domain"] in run.domains]
    given.sort(key=lambda row: (ceiling_of(row) != MARGINAL, row["offset"]))
    rows = [_certificate(run, row) for row in given]
    return Table("Marginalization: how far the ceiling can be off", head, rows)


def _certificate(run: RunRows, row: Row) -> list[Cell]:
    loose = run.is_estimate(row["offset"], row["domain"], ceiling_of(row))
    return [
        mark(row["offset"]),
        word(row["domain"]),
        word("the model's" if ceiling_of(row) == MARGINAL else "adapted"),
        word(row["route"]),
        valued(row, "branches_mean", 1, "not recorded"),
        plain(row, "branches_max", "not recorded"),
        *(valued(row, name, 3, "not recorded") for name in _MASS),
        plain(row, "n_positions", "not recorded"),
        word("estimate", "doubt") if loose else word("ceiling", "good"),
    ]


_MASS = ("retained_mass", "nats_error", "nats_at_most")


def comparison_tables(run: RunRows) -> list[Table]:
    """Return floors, probe and ceiling side by side, on the same positions, for every metric."""
    if not run.positions():
        return []
    return [_comparison(run, metric, run.positions()[0]) for metric in scored_metrics(run)]


def _comparison(run: RunRows, metric: Metric, positions: str) -> Table:
    rows = []
    for offset in run.few_offsets:
        for domain in run.domains:
            cells = _compared(run, metric, offset, (domain, positions))
            rows.append([mark(offset), word(domain), *cells])
    head = ["Offset", "Domain", "Unigram", "Skip-bigram", f"{run.probe}, layer 0"]
    head += [f"{run.probe}, best layer", f"{run.probe}, layer {run.n_layers}", "Ceiling"]
    head += ["Ceiling, adapted"] if run.has(MARGINAL_ADAPTED) else []
    head += [f"{name}, best layer" for name in run.further()]
    return Table(f"{metric.label}; probe: {run.describe(run.probe or '')}", head, rows, metric.name)


def _compared(run: RunRows, metric: Metric, offset: int, where: tuple[str, str]) -> list[Cell]:
    best = run.special(offset, where[0]).get("best_layer")
    probe = run.probe or ""
    top = ceiling(offset)
    columns = [
        (UNIGRAM, None, "not scored here"),
        (SKIP_BIGRAM, None, "not scored here"),
        (probe, 0, "not scored here"),
        (probe, best, "no best layer"),
        (probe, run.n_layers, "not scored here"),
        (top, None, NO_CEILING if offset > 1 else "not scored here"),
    ]
    if run.has(MARGINAL_ADAPTED):
        why = "not needed at t+1" if offset == 1 else NO_CEILING
        columns.append((MARGINAL_ADAPTED, None, why))
    for name in run.further():
        columns.append((name, run.best_layer(name, offset, where[0]), "not scored here"))
    return [
        score_cell(run.score(name, layer, offset, where), metric, why)
        for name, layer, why in columns
    ]


def transplant_tables(run: RunRows) -> list[Table]:
    """Return what the tokens fed say alone, and transplants by layer; one table a domain."""
    head = ["Layer"]
    for k in run.few_offsets:
        fed = "token-fed, " if k > 1 else ""
        head += [f"t+{k}, {fed}right (%)", f"t+{k}, gained (points)", f"t+{k}, gained (bits)"]
    tables = []
    rows = run.results.get("transplants") or ()
    for domain in run.domains if rows else ():
        found = {(r["layer"], r["offset"]): r for r in rows if r["domain"] == domain}
        layers = sorted({layer for layer, _ in found})
        lines = [[word("none")], [word("none, but the token")], *([Cell(str(n))] for n in layers)]
        for k in run.few_offsets:
            for line, name in zip(lines, ("top1_alone", "top1_token"), strict=False):
                line += [_points(found[layers[0], k], name), *2 * [absent(NOTHING)]]
            for line, layer in zip(lines[2:], layers, strict=True):
                bits = valued(found[layer, k], "bits_gained", 2, "not scored")
                line += [*(_points(found[layer, k], n) for n in ("top1", "top1_gained")), bits]
        tables.append(Table(domain, head, lines))
    return tables


def _points(row: Row, name: str) -> Cell:
    return valued(row, name, 1, "not scored", 100.0)


_COLUMNS: Mapping[str, Callable[[Row], Cell]] = {
    "Readout": lambda row: word(row["readout"]),
    "Offset": lambda row: mark(row["offset"]),
    "Layer": lambda row: plain(row, "layer", "reads no layer"),
    "Sees": lambda row: word("blind" if row["blind"] else "token-fed", _fed(row)),
    "Target": lambda row: word(row["target"]),
    "Positions": lambda row: word(row["positions"]),
    "Top-1 (%)": lambda row: score_cell(row, METRICS["top1"], "not scored"),
    "Top-5 (%)": lambda row: score_cell(row, METRICS["top5"], "not scored"),
    "Bits": lambda row: score_cell(row, METRICS["bits"], _without_bits(row)),
    BEYOND: lambda row: score_cell(row, METRICS["bits_given_token"], _without_bits(row)),
    "Nats": lambda row: score_cell(row, METRICS["nats"], "not scored"),
    "Bits per byte": lambda row: valued(row, "bpb", 3, "bytes not known"),
    "Parameters": lambda row: plain(row, "n_parameters", "not recorded"),
    "Converged": lambda row: _converged(row.get("converged")),
    "n": lambda row: plain(row, "n_positions", "not recorded"),
    "Documents": lambda row: plain(row, "n_documents", "not recorded"),
    SEED: lambda row: plain(row, "seed", "not recorded"),
}


def readout_tables(run: RunRows) -> tuple[list[Table], bool]:
    """Return every readout on test text, one table a domain, and whether layers were left out.

    Where all would be too many, readouts of layers keep layer 0, the best layer and the last,
    further families their best alone, and further seeds go, and some of many offsets. Those
    scored on both sets of positions are shown on all.
    """
    rows = _shown_rows(run.results["scores"], run.domains)
    every = len(rows) <= FEW_ROWS
    kept = [row for row in rows if every or _matters(run, row)]
    head = _head(run, kept)
    tables = []
    for domain in run.domains:
        domain_rows = [row for row in kept if row["domain"] == domain]
        cells = [[_COLUMNS[name](row) for name in head] for row in domain_rows]
        tables.append(Table(domain, head, cells))
    return tables, not every


def _head(run: RunRows, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns of the table, without those that would say nothing."""
    dull = set() if run.measured("bits_given_token") else {BEYOND}
    dull |= set() if len({row.get("seed") for row in rows}) > 1 else {SEED}
    return tuple(name for name in _COLUMNS if name not in dull)


def _without_bits(row: Row) -> str:
    return "its targets are not the text's" if row["target"] == CONTROL else "not scored"


def _shown_rows(rows: Sequence[Row], domains: Sequence[str]) -> list[Row]:
    tested = [row for row in rows if row["split"] == "test" and row["domain"] in domains]
    wide = {_cell_of(row) for row in tested if row["positions"] == "all"}
    return [row for row in tested if row["positions"] == "all" or _cell_of(row) not in wide]


def _cell_of(row: Row) -> tuple[Any, ...]:
    names = ("readout", "site", "layer", "offset", "target", "domain", "seed")
    return tuple(row.get(name) for name in names)


def _matters(run: RunRows, row: Row) -> bool:
    own = row.get("seed") == run.results["run"].get("seed")
    if not own or row["offset"] not in run.few_offsets:
        return False
    kept = run.key_layers(row["offset"], row["domain"])
    family = run.family(row["readout"], row["offset"], row["domain"])
    if family and row["readout"] != run.probe:
        kept = {family["layer"]}
    return row["layer"] is None or row["layer"] in kept


def _fed(row: Row) -> str:
    return "" if row["blind"] else "doubt"


def _converged(value: object) -> Cell:
    if value is None:
        return Cell(DASH, missing="nothing was fitted", numeric=False)
    return word("yes", "good") if value else word("no", "bad")


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
    head += ["Taken", f"Test {LENGTH}-grams that stand in training text"]
    rows = []
    for text in texts:
        counts = [
            plain(text.get(what) or {}, split, "not recorded")
            for what in ("documents", "tokens")
            for split in _SPLITS
        ]
        named = [word(text[name]) for name in ("domain", "source", "sha256")]
        rows.append([*named, *counts, *_taken(text)])
    return Table("Text", head, rows)


def _taken(text: Row) -> tuple[Cell, Cell]:
    """Return how much of the documents was taken, and how much of the test is in training."""
    if "copied" not in text:
        return absent("not recorded"), absent("not recorded")
    if text["copied"] is None:
        return word(taken(text)), absent(f"no test document has {LENGTH} tokens")
    return word(taken(text)), Cell(f"{text['copied']:.1%}")


_SPLITS = ("train", "validation", "test")
