"""Tables of a measured draft: every number of draft.json that a reader compares."""

from collections.abc import Sequence

from probekit.reports.components.numbers import between, compact, fixed, known
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Cell, Table, absent, mark, valued, word
from probekit.reports.drafting.rows import called, domains, of_domain, shape

PERCENT = 100.0
_UNKNOWN = "no pass could draft all of it"
_UNFORETOLD = "no scores foretell trees and copies"


def answer_table(document: Row) -> Table:
    """Return acceptance, predicted and measured, and speed of the first text."""
    domain = domains(document)[0]
    head = ("What drafts", "Accepted a pass", "Predicted", "Tokens a pass", "Times as fast")
    lines = [_answer(row) for row in of_domain(document, domain)]
    return Table(f"{domain}: what drafting gains", head, lines)


def _answer(row: Row) -> list[Cell]:
    layers = ", ".join(map(str, dict.fromkeys(row["layers"])))
    read = f"{shape(row['widths'])}{f'; layer {layers}' if layers else ''}"
    return [
        Cell(compact(called(row)), read, numeric=False),
        valued(row, "accepted", 2, _UNKNOWN),
        valued(row, "predicted", 2, _UNFORETOLD),
        valued(row, "tokens_per_forward", 2, _UNKNOWN),
        _speed(row),
    ]


def _speed(row: Row) -> Cell:
    tone = "good" if row["speed_low"] > 1 else "bad" if row["speed_high"] < 1 else ""
    ends = between(row["speed_low"], row["speed_high"], 2, 1.0)
    return Cell(fixed(row["speed"], 2), ends, tone=tone)


def drafter_tables(document: Row) -> list[Table]:
    """Return what was measured of each drafter and shape, a table a text."""
    head = (
        "What drafts", "Shape", "Told t+1", "Accepted a pass", "Predicted, held-out text",
        "Predicted, own text", "Tokens a pass", "Times as fast", "Cost of a pass",
        "Of it the model's", "Breaks even at", "Times as fast, flat", "Equal texts", "Passes",
        "Values",
    )  # fmt: skip
    return [
        Table(f"{domain}: drafters", head, [_drafter(row) for row in of_domain(document, domain)])
        for domain in domains(document)
    ]


def _drafter(row: Row) -> list[Cell]:
    equal = row["equal_texts"]
    return [
        word(called(row)),
        word(shape(row["widths"])),
        word("yes" if row["told_newest"] else "no"),
        valued(row, "accepted", 3, _UNKNOWN),
        valued(row, "predicted", 3, _UNFORETOLD),
        valued(row, "predicted_own", 3, _UNFORETOLD),
        valued(row, "tokens_per_forward", 3, _UNKNOWN),
        _speed(row),
        _number(row, "pass_cost"),
        _number(row, "forward_cost"),
        _number(row, "break_even"),
        _number(row, "flat_speed"),
        absent("texts are sampled") if equal is None else word(f"{equal} of {row['n_prompts']}"),
        Cell(compact(row["n_passes"])),
        Cell(compact(row["n_parameters"])),
    ]


def _number(row: Row, name: str) -> Cell:
    value = known(row[name])
    return absent(_UNKNOWN) if value is None else Cell(fixed(value, 2))


def offset_tables(document: Row) -> list[Table]:
    """Return how often the draft at each offset is right, a table a text."""
    head = (
        "What drafts", "Shape", "Offset", "Accepted, given all before (%)", "Predicted (%)",
        "Right, whatever came before (%)",
    )  # fmt: skip
    return [
        Table(f"{domain}: acceptance by offset", head, _offsets(of_domain(document, domain)))
        for domain in domains(document)
    ]


def _offsets(rows: Sequence[Row]) -> list[list[Cell]]:
    return [
        [
            word(called(row)),
            word(shape(row["widths"])),
            mark(at["offset"]),
            valued(at, "conditional", 1, "no pass came so far", PERCENT),
            valued(at, "predicted", 1, _UNFORETOLD, PERCENT),
            valued(at, "unconditional", 1, "no pass came so far", PERCENT),
        ]
        for row in rows
        for at in row["offsets"]
    ]


def cost_table(document: Row) -> Table:
    """Return what a forward pass costs by its new tokens."""
    head = ("New tokens", "Milliseconds", "Multiples of a pass over one")
    rows = [
        [
            Cell(compact(row["tokens"])),
            Cell(fixed(1000 * row["seconds"], 2)),
            Cell(fixed(row["ratio"], 2)),
        ]
        for row in document["cost"]
    ]
    return Table("What a forward pass costs", head, rows)


def greedy_table(document: Row) -> Table:
    """Return how long greedy decoding took."""
    head = ("Text", "New tokens", "Milliseconds a token")
    rows = [
        [
            word(row["domain"]),
            Cell(compact(row["n_tokens"])),
            Cell(fixed(1000 * row["seconds_per_token"], 2)),
        ]
        for row in document["greedy"]
    ]
    return Table("Greedy decoding", head, rows)
