"""The tables of a comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

from probekit.readout import MARGINAL_ADAPTED
from probekit.reports.comparison.quantities import quantity
from probekit.reports.comparison.rows import ComparisonRows, CurveKey
from probekit.reports.components.numbers import compact, fixed, known
from probekit.reports.components.rows import Row, ceiling_of
from probekit.reports.components.tables import Cell, Table, absent, mark, plain, valued, word
from probekit.scoring.rates import ALL, ROUGH_NATS

MOST_HEADLINES = 600  # rows of the table, at about 1 kB each
MOST_DIFFERENCES = 1200  # rows of the table, at about 300 bytes each
_UNSAID = "not recorded"
# Of the first table: the other offsets are in the tables below it, and of more runs a cell holds a
# share and its interval alone, so that rows stay low.
_MOST_OFFSETS, _TOLD_IN_FULL = 3, 5


def answer_table(comparison: ComparisonRows) -> Table:
    """Return what is asked for first, one row a run, of the first domain.

    It is the next token, then what the best layer reads of what the model knows, by offset; of
    several tokenizers the next token in bits per byte alone.
    """
    domain = next(iter(comparison.domains), ALL)
    names = ("next_token_bpb", "best_probe_bpb") if comparison.mixed else ("next_token_top1",)
    read = {
        (row["run"], row["offset"]): row
        for row in comparison.document["offsets"]
        if domain == comparison.first_domain(row["run"])
    }
    ahead = [offset for offset in comparison.offsets if offset > 1][:_MOST_OFFSETS]
    ahead = ahead if read else []
    in_full = len(comparison.runs) <= _TOLD_IN_FULL
    head = [
        "Run", *(quantity(name).label for name in names),
        *(f"t+{offset}: read of what the model knows" for offset in ahead),
    ]  # fmt: skip
    rows = [
        [
            Cell(run, _size(comparison, run), numeric=False),
            *(_headline(comparison, (run, domain, 1), name) for name in names),
            *(_read(read.get((run, offset)), in_full) for offset in ahead),
        ]
        for run in comparison.runs
    ]
    return Table(f"{domain}: the runs at a glance", head, rows)


def _size(comparison: ComparisonRows, run: str) -> str:
    size = comparison.size(run)
    return f"{compact(int(size))} parameters" if size else "size unknown"


def _read(row: Row | None, in_full: bool) -> Cell:
    """Return the share of what the model knows that is read, beside it how much that is."""
    if row is None:
        return absent("not measured there")
    share, _, ends = row["share"].partition(" [")
    beyond = f"beyond {row['floor']}"
    if not share:
        return Cell(row["read"], f"{beyond}; the model knows: {row['known']}", numeric=False)
    beside = [f"[{ends}"] if ends else []
    beside += [f"{row['read']} of {row['known']} {beyond}; layer {row['best']}"] if in_full else []
    return Cell(share, "; ".join(beside), numeric=False)


def headline_table(comparison: ComparisonRows) -> tuple[Table, int]:
    """Return every headline number, one row a run, domain and offset, and how many were left out.

    Where they are too many, rows of the first domain go first.
    """
    places = [
        (run, domain, offset)
        for domain in comparison.domains
        for offset in comparison.offsets
        for run in comparison.runs
        if (run, domain, offset) in comparison.headlines
    ]
    names = comparison.quantities()
    rows = [
        [word(p[0]), word(p[1]), mark(p[2]), *(_headline(comparison, p, name) for name in names)]
        for p in places[:MOST_HEADLINES]
    ]
    head = ["Run", "Domain", "Offset", *(quantity(name).label for name in names)]
    return Table("Headline numbers", head, rows), max(0, len(places) - MOST_HEADLINES)


def _headline(comparison: ComparisonRows, key: CurveKey, name: str) -> Cell:
    row, shown = comparison.headline(key, name), quantity(name)
    value = known(row.get("value"))
    if value is None:
        return absent("not measured there")
    return Cell(fixed(value * shown.scale, shown.digits), shown.interval(row))


def difference_table(comparison: ComparisonRows) -> tuple[Table, int]:
    """Return the differences between runs, their sign in words, and how many were left out."""
    given = [
        row for row in comparison.document["differences"] if row["domain"] in comparison.domains
    ]
    given.sort(key=lambda row: comparison.domains.index(row["domain"]))
    rows = [_difference(row) for row in given[:MOST_DIFFERENCES]]
    head = (
        "Run", "Against", "Domain", "Offset", "Quantity", "Difference", "Says", "Pairing",
    )  # fmt: skip
    return Table("Differences between runs", head, rows), max(0, len(given) - MOST_DIFFERENCES)


def _difference(row: Row) -> list[Cell]:
    shown, value = quantity(row["quantity"]), known(row.get("value"))
    there = Cell("") if value is None else Cell(_signed(value * shown.scale, shown.digits))
    return [
        word(row["run"]),
        word(row["reference"]),
        word(row["domain"]),
        mark(row["offset"]),
        word(shown.label),
        absent("not measured there") if value is None else Cell(there.text, shown.interval(row)),
        word(*shown.sign(row)),
        word("paired" if row["paired"] else "unpaired"),
    ]


def _signed(value: float, digits: int) -> str:
    text = fixed(value, digits)
    return f"+{text}" if value > 0 and text.strip("0.,") else text


def marginal_table(comparison: ComparisonRows) -> Table:
    """Return what marginalization spent and what it covers, by run, domain and offset."""
    given = comparison.document["marginal"]
    rows = [
        [
            word(row["run"]),
            word(row["domain"]),
            mark(row["offset"]),
            word("adapted" if ceiling_of(row) == MARGINAL_ADAPTED else "the model's"),
            valued(row, "retained_mass", 3, _UNSAID),
            valued(row, "branches_mean", 1, _UNSAID),
            valued(row, "nats_error", 3, _UNSAID),
            plain(row, "n_positions", _UNSAID),
            _certainty(row),
        ]
        for row in sorted(given, key=lambda row: _order(comparison, row))
        if row["domain"] in comparison.domains
    ]
    head = (
        "Run", "Domain", "Offset", "Output layer", "Retained mass, mean", "Branches, mean",
        "Standard error (nats)", "Positions", "Ceiling or estimate",
    )  # fmt: skip
    return Table("Marginalization", head, rows)


def _certainty(row: Row) -> Cell:
    error = known(row.get("nats_error"))
    if error is None:
        return absent(_UNSAID)
    return word("estimate", "doubt") if error > ROUGH_NATS else word("ceiling", "good")


def branching_table(comparison: ComparisonRows) -> Table:
    """Return how many tokens the next one might be, by run and domain, over whole blocks."""
    whole: dict[tuple[str, str], Row] = {}
    for row in comparison.document["branching"]:
        key = (row["run"], row["domain"])
        if row["domain"] in comparison.domains and _width(row) > _width(whole.get(key, {})):
            whole[key] = row
    rows = [
        [
            word(run),
            word(domain),
            valued(row, "tokens_mean", 1, _UNSAID),
            plain(row, "tokens_median", _UNSAID),
            valued(row, "entropy_nats", 2, _UNSAID),
            plain(row, "nucleus", _UNSAID),
            plain(row, "n_positions", _UNSAID),
            plain(row, "n_documents", _UNSAID),
        ]
        for (run, domain), row in sorted(
            whole.items(),
            key=lambda item: (
                comparison.domains.index(item[0][1]),
                comparison.runs.index(item[0][0]),
            ),
        )
    ]
    head = (
        "Run", "Domain", "Tokens in the nucleus, mean", "Median", "Entropy (nats)",
        "Nucleus", "Positions", "Documents",
    )  # fmt: skip
    return Table("Tokens that the next one might be", head, rows)


def _width(row: Row) -> int:
    return int(row["positions_to"]) - int(row["positions_from"]) if row else -1


def _order(comparison: ComparisonRows, row: Row) -> tuple[int, int, int, str]:
    domain = comparison.domains.index(row["domain"]) if row["domain"] in comparison.domains else -1
    return domain, row["offset"], comparison.runs.index(row["run"]), ceiling_of(row)


_SHAPES = (
    ("Architecture", "architecture"), ("Parameters", "n_parameters"), ("Blocks", "n_layers"),
    ("Width", "d_model"), ("Vocabulary", "vocab_size"), ("Repository", "repository"),
    ("Revision", "revision"), ("Fingerprint", "fingerprint"),
)  # fmt: skip


def model_table(comparison: ComparisonRows) -> Table:
    """Return name, folder and shape of each run's model."""
    rows = [
        [
            word(run["name"]),
            word(run["folder"]),
            *(_count(run["model"], name) for _, name in _SHAPES),
        ]
        for run in comparison.document["runs"]
    ]
    head = ("Run", "Folder", *(label for label, _ in _SHAPES))
    return Table("Models", head, rows)


def _count(given: Mapping[str, Any], name: str) -> Cell:
    value = given.get(name)
    if value is None:
        return absent(_UNSAID)
    return Cell(compact(value), numeric=known(value) is not None)


def configuration_table(comparison: ComparisonRows) -> Table:
    """Return what differs in configuration, one column a run."""
    rows = [
        [word(row["key"]), *(_setting(row["values"], run) for run in comparison.runs)]
        for row in comparison.document["configuration"]
    ]
    return Table("What differs in configuration", ("Key", *comparison.runs), rows)


def _setting(values: Mapping[str, Any], run: str) -> Cell:
    return absent("not set in that run") if run not in values else word(values[run])


def text_table(texts: Sequence[tuple[str, Row]]) -> Table:
    """Return the text of each run: source, hash and test documents."""
    rows = [
        [
            word(run),
            word(text["domain"]),
            word(text["source"]),
            word(text["sha256"]),
            *(plain(text.get(what) or {}, "test", _UNSAID) for what in ("documents", "tokens")),
        ]
        for run, text in texts
    ]
    head = ("Run", "Domain", "Source", "SHA-256", "Documents, test", "Tokens, test")
    return Table("Text", head, rows)
