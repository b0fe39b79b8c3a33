"""Tables of a study of heads: every number of heads.json that a reader compares."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from probekit.readout import LINEAR
from probekit.reports.components.numbers import METRICS, compact
from probekit.reports.components.rows import Row, require_schema
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

SCHEMA = "probekit.heads/1"
BASELINE, BASE = "finetune", "base"
NAMES = {
    BASELINE: "finetuned model, marginalized (baseline)",
    BASE: "model as it came, marginalized",
    LINEAR: "linear probe of the layer read",
    "heads-only": "heads only, frozen model",
    "joint": "joint with LoRA",
    "joint-warmup": "joint, head warm-up",
    "joint-diff": "joint, differential rate",
    "joint-warmup-diff": "joint, warm-up, differential rate",
    "joint-diff-whs": "joint, differential rate, weighted layers",
    "joint-diff-whs-rms": "joint, differential rate, weighted layers of RMS 1",
    "heads-on-finetuned": "heads only, on the finetuned model",
    "heads-from-probes": "heads only, from linear probes",
    "joint-from-probes": "joint with LoRA, from linear probes",
    "head:own": "heads that came with the model",
    "head:native": "the model's own layers, token-fed",
}
# What verdict and figures call what is no strategy of training heads.
SHORT = {BASELINE: "baseline", BASE: "model as it came", LINEAR: "linear probe"}
READOUTS = {"head": "block head", LINEAR: "linear probe"}
POINTS = 100.0


def require_study(document: Row) -> Row:
    """Return a study of heads, if it is of the schema that is read here.

    Raises:
        RunError: If it is not.
    """
    way_out = "read it with the version of probekit that wrote it, or run `probekit heads` again"
    require_schema(document, SCHEMA, "a study of heads must be", way_out)
    return document


def domains(rows: Sequence[Row]) -> list[str]:
    """Return the domains of rows, in order."""
    return list(dict.fromkeys(row["domain"] for row in rows))


def in_words(strategy: str) -> str:
    """Return a strategy in words."""
    return NAMES.get(strategy, strategy)


def in_figures(strategies: Sequence[str]) -> list[str]:
    """Return what strategies are called in figures: as in the verdict; unknown ones by number.

    >>> in_figures(["finetune", "joint", "<b>"])
    ['baseline', 'joint', '3']
    """
    return [
        SHORT.get(name, name) if name in NAMES else str(place)
        for place, name in enumerate(strategies, 1)
    ]


def strategy_tables(document: Row) -> list[Table]:
    """Return the scores of strategies at the marginalized positions, a table a domain."""
    head = (
        "Strategy", "Offset", "Sees", "Top-1 (%)", "Top-5 (%)", "Bits over the unigram",
        "Cross-entropy (nats)", "Positions", "Documents",
    )  # fmt: skip
    return _marginalized(document, "strategies at the marginalized positions", head, _scores)


def difference_tables(document: Row) -> list[Table]:
    """Return how strategies differ from the references, paired, a table a domain."""
    head = (
        "Strategy", "Offset", "Sees", "Top-5 against the baseline (points)",
        "Nats against the baseline", "Top-5 against the linear probe (points)",
        "Nats against the linear probe", "Gap closed, top-5 (%)", "Gap closed, nats (%)",
    )  # fmt: skip
    return _marginalized(document, "differences, paired", head, partial(_differences, document))


def _marginalized(
    document: Row, caption: str, head: Sequence[str], cells: Callable[[Row], list[Cell]]
) -> list[Table]:
    """Return a table a domain of the rows at the marginalized positions, offset by offset."""
    tables = []
    for domain in domains(document["scores"]):
        key = (domain, "marginal")
        rows = [r for r in document["scores"] if (r["domain"], r["positions"]) == key]
        rows.sort(key=lambda row: int(row["offset"]))
        lines = [[*_about(row), *cells(row)] for row in rows]
        tables.append(Table(f"{domain}: {caption}", head, lines))
    return tables


def _about(row: Row) -> list[Cell]:
    seen = word("blind") if row["blind"] else word("token-fed", "doubt")
    return [word(in_words(row["strategy"])), mark(row["offset"]), seen]


def _scores(row: Row) -> list[Cell]:
    scores = [score_cell(row, METRICS[name], "not recorded") for name in _SHOWN]
    return [*scores, *(Cell(compact(row[name])) for name in ("n_positions", "n_documents"))]


def _differences(document: Row, row: Row) -> list[Cell]:
    apart = [
        _apart(document, row, against, metric, row["strategy"] == against)
        for against in (BASELINE, LINEAR)
        for metric in ("top5", "nats")
    ]
    return [*apart, *(_gap(document, row, metric) for metric in ("top5", "nats"))]


_SHOWN = ("top1", "top5", "bits", "nats")


def _apart(document: Row, row: Row, against: str, metric: str, itself: bool) -> Cell:
    if itself:
        return absent("it is the reference itself")
    difference = _difference(document, row, against)
    if difference is None:
        return absent("the reference was not scored at this offset")
    scale, digits = (POINTS, 1) if metric == "top5" else (1.0, 3)
    return valued(difference, metric, digits, "not recorded", scale)


def _difference(document: Row, row: Row, against: str) -> Row | None:
    keys = ("domain", "positions", "strategy", "offset")
    return next(
        (
            difference
            for difference in document["differences"]
            if difference["against"] == against and all(difference[key] == row[key] for key in keys)
        ),
        None,
    )


def _gap(document: Row, row: Row, metric: str) -> Cell:
    keys = ("domain", "strategy", "offset")
    gaps = [
        gap
        for gap in document["gaps"]
        if gap["metric"] == metric and all(gap[key] == row[key] for key in keys)
    ]
    if not gaps:
        return absent("for trained strategies from t+2 on")
    return valued(gaps[0], "share", 0, gaps[0]["reason"] or "not recorded", POINTS)


def cost_tables(document: Row) -> list[Table]:
    """Return what each strategy costs the next token, on all test positions."""
    head = (
        "Strategy", "Cross-entropy (nats)", "Top-5 (%)", "Nats more than the finetuned model",
        "Top-5 against finetuned (points)", "Nats more than the model as it came",
        "Top-5 against as it came (points)", "Positions",
    )  # fmt: skip
    tables = []
    for domain in domains(document["scores"]):
        rows = [
            row
            for row in document["scores"]
            if (row["domain"], row["positions"], row["offset"]) == (domain, "all", 1)
        ]
        cells = [
            [
                word(in_words(row["strategy"])),
                score_cell(row, METRICS["nats"], "not recorded"),
                score_cell(row, METRICS["top5"], "not recorded"),
                *(
                    _apart(document, row, against, metric, row["strategy"] == against)
                    for against in (BASELINE, BASE)
                    for metric in ("nats", "top5")
                ),
                Cell(compact(row["n_positions"])),
            ]
            for row in rows
        ]
        tables.append(Table(f"{domain}: the next token, all test positions", head, cells))
    return tables


def training_table(document: Row) -> Table:
    """Return what was trained, how, and which step was kept."""
    head = (
        "Strategy", "Model", "Layers read", "Parameters", "Rate of the model", "Rate of the heads",
        "Step kept", "Longer was no better", "Seconds", "Takes part in orders",
    )  # fmt: skip
    rows = [
        [
            word(in_words(row["strategy"])),
            word(_model(row)),
            word(_read(row)),
            plain(row, "n_parameters", "not recorded"),
            plain(row, "learning_rate", "not recorded") if row["joint"] else absent("frozen"),
            _head_rate(row),
            word(_kept(row["best_steps"])),
            word("yes" if row["stopped_early"] else "no"),
            valued(row, "seconds", 1, "not recorded"),
            _takes_part(row),
        ]
        for row in document["training"]
    ]
    return Table("What was trained", head, rows)


def _takes_part(row: Row) -> Cell:
    if row["strategy"] == BASELINE:
        return absent("it has no heads")
    reason = row.get("left_out")
    return word(f"no: {reason}", "doubt") if reason else word("yes")


def _kept(steps: Mapping[str, int]) -> str:
    """Return the step whose weights were kept, or that of each offset where they differ."""
    if len(set(steps.values())) == 1:
        return compact(next(iter(steps.values())))
    return ", ".join(f"t+{offset} {compact(step)}" for offset, step in steps.items())


def _head_rate(row: Row) -> Cell:
    if row["strategy"] == BASELINE:
        return absent("it has no heads")
    return Cell(compact(row["learning_rate"] * row["head_rate_factor"]))


def _model(row: Row) -> str:
    if row["joint"]:
        return "LoRA"
    return "frozen, finetuned" if row["finetuned"] else "frozen"


def _read(row: Row) -> str:
    if row["strategy"] == BASELINE:
        return "none"
    if not row["mix"]:
        return "one"
    return "all, of RMS 1, weighted" if row["normalise"] else "all, weighted"


def sweep_tables(document: Row) -> list[Table]:
    """Return heads and linear probes by the layer that they read, a table a domain."""
    head = (
        "Layer read", "Head (nats)", "Linear probe (nats)", "Probe minus head (nats)",
        "Head, top-1 (%)", "Linear probe, top-1 (%)", "Head, bits", "Linear probe, bits",
    )  # fmt: skip
    tables = []
    for domain in domains(document["sweep"]):
        rows = [row for row in document["sweep"] if row["domain"] == domain]
        by_readout = {
            name: {r["layer"]: r for r in rows if r["readout"] == name} for name in READOUTS
        }
        cells = []
        for layer in sorted({row["layer"] for row in rows}):
            head_row, probe_row = (by_readout[name].get(layer, {}) for name in READOUTS)
            both = (head_row, probe_row)
            nats = [score_cell(row, METRICS["nats"], "not recorded") for row in both]
            rest = [
                score_cell(r, METRICS[m], "not recorded") for m in ("top1", "bits") for r in both
            ]
            apart = valued(probe_row, "nats_minus_head", 3, "not recorded")
            cells.append([Cell(str(layer), numeric=False), *nats, apart, *rest])
        tables.append(Table(f"{domain}: offset 2 by the layer that is read", head, cells))
    return tables
