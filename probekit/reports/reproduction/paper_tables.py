"""The paper's own numbers as tables, all its models, whatever was measured."""

from probekit.paper import numbers
from probekit.paper.means import Mean
from probekit.reports.components.numbers import between, compact, fixed, known
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Cell, Table, absent, word
from probekit.reports.reproduction.figures import TASKS

TOKENS = {1: "next", 2: "second"}
HOW = {"FIG": "digitised from the figure", "READ-P": "as printed"}


def number(row: Row, name: str, digits: int, reason: str) -> Cell:
    """Return the cell of a number of a row, or the reason why there is none."""
    value = known(row.get(name))
    return absent(reason) if value is None else Cell(fixed(value, digits))


def papers_table(figure: str) -> Table:
    """Return the paper's own numbers: all its models, whatever was measured."""
    return {"figure-1": _paper_1, "figure-2": _paper_2, "table-1": _paper_table}[figure]()


def _paper_1() -> Table:
    head = ["Model"]
    for task in TASKS.values():
        head += [f"{task}: next", "second", "tokens summed over"]
    rows = []
    for model in numbers.models():
        cells = [word(model.name)]
        for task in numbers.TASKS:
            for share in model.shares(task):
                cells.append(_share(share))
            cells.append(Cell(compact(model.figure_4[task])))
        rows.append(cells)
    by_eye = ", ".join(model.name for model in numbers.models() if model.by_eye)
    fewer = ", ".join(
        f"{model.name} {model.n_open_ended}" for model in numbers.models() if model.n_open_ended
    )
    caption = f"{_caption('figure_1', 'figure_4')} (open-ended: {fewer})"
    return Table(f"{caption}; open-ended next read by eye: {by_eye}", head, rows)


def _share(share: Mean) -> Cell:
    return Cell(fixed(share.value, 3), between(share.low, share.high, 3))


def _caption(*names: str) -> str:
    heads = [numbers.source_of(name) for name in names]
    sources = "; ".join(f"{head['source']} ({HOW[head['label']]})" for head in heads)
    n = next((head["n_positions"] for head in heads if "n_positions" in head), None)
    return f"The paper, {sources}" + (f"; binomial intervals of {n:,} positions" if n else "")


def _paper_2() -> Table:
    head = ("Model", "KL at the last backbone layer (nats)", "First depth below the limit")
    rows = [
        [
            word(model.name),
            number(model.figure_2, "last_layer_nats", 1, "not recorded"),
            number(model.figure_2, "first_depth", 2, "never"),
        ]
        for model in numbers.models()
        if model.figure_2 is not None
    ]
    return Table(_caption("figure_2"), head, rows)


def _paper_table() -> Table:
    keys = numbers.source_of("table_1")["models"]
    n = numbers.source_of("table_1")["n_positions"]
    rows = []
    for strategy in numbers.strategies():
        cells = [word(strategy.name)]
        for value in (value for key in keys for value in strategy.top5[key]):
            share = Mean.wilson(value, n)
            cells.append(_share(share))
        rows.append(cells)
    head = ["Strategy", *(f"{key}: {token}" for key in keys for token in TOKENS.values())]
    return Table(_caption("table_1"), head, rows)
