"""The page of a repeated figure or table: measured, and the paper's numbers beside it."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from probekit.paper import numbers
from probekit.reports.components.colours import offset_colours
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.numbers import fixed, known
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Table
from probekit.reports.components.templates import rendered
from probekit.reports.publication.export import Drawing, exported
from probekit.reports.reproduction.figures import TASKS, depth_figure, size_figure
from probekit.reports.reproduction.paper_tables import papers_table
from probekit.reports.reproduction.tables import SETS, measured, trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    "figure-1": "Figure 1: top-5 accuracy of the next and the second token",
    "figure-2": "Figure 2: how far the logit lens is from the model's output, by depth",
    "table-1": "Table 1: strategies of training heads",
}
# Heads trained on so many times less than the paper's are warned of.
FEW = 10


def render_reproduction(document: Row) -> str:
    """Return the page, one file that loads nothing; all text of the run is escaped."""
    light, dark = offset_colours(2)
    values = {
        "title": TITLES[document["figure"]],
        "figure": document["figure"],
        "sentences": sentences(document),
        "measured": measured(document),
        "trained": trained(document),
        "papers": papers_table(document["figure"]),
        "choices": document["choices"],
        "pictures": page_figures(document),
        "colours": list(zip(light, dark, strict=True)),
        "command": document["command"],
        "texts": document["texts"],
        "versions": document["versions"],
    }
    return rendered("reproduction.html.j2", values)


def figure_files(document: Row) -> dict[str, bytes]:
    """Return the figure as SVG, PDF and PNG, by the names of their files."""
    draw = _drawing(document["figure"], document["rows"])
    if draw is None:
        return {}
    inks = ("#1d2126", *offset_colours(2)[0])
    files = exported([Drawing("figure", draw, document["rows"], inks)])
    return {name: content for name, content in files.items() if not name.endswith(".csv")}


def _drawing(figure: str, rows: Sequence[Row]) -> "Callable[[], Figure] | None":
    """Return what draws rows of a figure; None for a table."""
    kind = {"figure-1": size_figure, "figure-2": depth_figure}.get(figure)
    return partial(kind, rows) if kind else None


def page_figures(document: Row) -> list[PageFigure]:
    """Return the figures of the page, a task each, so that a narrow page can show them."""
    rows = document["rows"]
    parts: dict[str, Sequence[Row]] = {}
    if document["figure"] == "figure-1":
        for task in dict.fromkeys(row["task"] for row in rows):
            message = f"Top-5 accuracy by number of parameters, {TASKS[task]}"
            parts[message] = [row for row in rows if row["task"] == task]
    elif document["figure"] == "figure-2":
        parts["KL(lens || final) by depth of the backbone"] = rows
    drawn = {message: _drawing(document["figure"], part) for message, part in parts.items()}
    return [
        PageFigure(f"figure-{number}", message, draw)
        for number, (message, draw) in enumerate(drawn.items())
        if draw is not None
    ]


def sentences(document: Row) -> list[str]:
    """Return what must be known to read the numbers, in words."""
    parts = [WHAT[document["figure"]]]
    if document["strangers"]:
        names = ", ".join(document["strangers"])
        parts.append(
            f"The paper does not have {names}: its numbers are of other models, for reference "
            "only, and nothing here confirms or contradicts them."
        )
    named = dict.fromkeys(
        (row["model"], row["paper_model"]) for row in document["rows"] if row["paper_model"]
    )
    if named:
        pairs = ", ".join(f"{model} as the paper's {name}" for model, name in named)
        parts.append(f"Taken by its name: {pairs}.")
    if document["figure"] == "figure-1" and all(
        row["task"] == "open_ended" for row in document["rows"]
    ):
        parts.append(
            "Translation was not measured: it needs pairs, which are not built in. Give them with "
            "--text PAIRS.jsonl (fields source and target; the paper's are IWSLT 2017 de-en)."
        )
    if document["figure"] == "table-1":
        parts += [*_order(document["rows"]), *_apart(document["rows"])]
    return [*parts, *_missing(document)]


def _order(rows: Sequence[Row]) -> Iterator[str]:
    """Say whether heads only, joint and the baseline are in the paper's order, second token."""
    last, extended = SETS
    positions = extended if any(row["positions"] == extended for row in rows) else last
    for row in rows:
        if (row["strategy"], row["offset"], row["positions"]) == ("joint", 2, positions):
            below, above = (
                _interval(row, name, sign)
                for name, sign in (("above_heads_only", 1), ("above_baseline", -1))
            )
            if below is None or above is None:
                continue
            there = below[1] > 0 and above[1] > 0
            yield (
                f"{row['model']} on {row['text']}, second token ({positions}): joint is above "
                f"heads only by {_ends(below)}, the baseline above joint by {_ends(above)}. The "
                f"paper's order is {'there' if there else 'not clear here'}."
            )


def _interval(row: Row, name: str, sign: int) -> tuple[float, float, float] | None:
    if known(row.get(name)) is None:
        return None
    low, high = sorted(sign * row[name + end] for end in ("_low", "_high"))
    return sign * row[name], low, high


def _ends(interval: tuple[float, float, float]) -> str:
    value, low, high = (fixed(end, 3) for end in interval)
    return f"{value} [{low} to {high}]"


def _apart(rows: Sequence[Row]) -> Iterator[str]:
    """Say of which rows the paper's numbers are kept away."""
    ours = {row["model"] for row in rows if row["paper_model"]}
    beside = {row["model"] for row in rows if known(row["paper_top5"]) is not None}
    if ours - beside:
        yield (
            f"The paper's numbers are not set beside {', '.join(sorted(ours - beside))}: they are "
            "of translation, by block heads that read the layer before the last."
        )
    if any(row["task"] == "open_ended" for row in rows):
        yield (
            "The text is open-ended, that of the paper's table is translation (IWSLT 2017 de-en): "
            "give pairs with --text PAIRS.jsonl (fields source and target)."
        )


WHAT = {
    "figure-1": "Top-5 accuracy where the last 20 target tokens of each sample are predicted, fed "
    "with the reference: the next token by the model, the second by the model's own next-token "
    "distributions, the token between summed out.",
    "figure-2": "Mean KL(lens || final) in nats where target tokens are predicted: the logit lens "
    "at a layer of the backbone against the model's output. Low means that the next-token answer "
    "is readable there; it does not mean that what is needed for later tokens is gone.",
    "table-1": "Top-5 accuracy of trained heads where target tokens of test documents are "
    "predicted, fed with the reference: the last 20 of each sample, as in the paper, and all of "
    "them (extended).",
}


def _missing(document: Row) -> list[str]:
    """Return what the samples and the training are too few for."""
    n_asked, shortfalls = document["samples"], []
    for row in {_place(row): row for row in document["rows"]}.values():
        where = f"{row['model']} on {row['text']}"
        few = row["n_samples"]
        if row.get("positions") == SETS[0] and few < n_asked:
            shortfalls.append(f"{where}: {few} of the {n_asked} samples asked for were there.")
        if row.get("positions") == SETS[1] and few < 2:
            shortfalls.append(f"{where}: one sample has no interval; the one shown is empty.")
    head = numbers.source_of("table_1")
    for run in document["runs"]:
        if run["steps"] * run["step_blocks"] < head["n_steps"] * head["n_step_samples"] / FEW:
            shortfalls.append(
                f"{run['run']} was trained for {run['steps']:,} steps of {run['step_blocks']} "
                f"blocks, the paper's heads for {head['n_steps']:,} of {head['n_step_samples']}: "
                "give more text, or more --max-tokens, before levels are compared."
            )
    return shortfalls


def _place(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("run", "model", "text", "positions"))


def markdown(document: Row) -> str:
    """Return the tables, what they mean and what was decided, as Markdown."""
    parts = [f"# {TITLES[document['figure']]}", *sentences(document)]
    tables = (measured(document), trained(document), papers_table(document["figure"]))
    for table in (table for table in tables if table):
        lines = [f"| {' | '.join(line)} |" for line in _texts(table)]
        lines.insert(1, "|" + " --- |" * len(table.head))
        parts += [f"**{table.caption}**", "\n".join(lines), *_reasons(table)]
    chosen = [f"- {left} {taken}" for left, taken in document["choices"]]
    parts += ["## What the paper leaves open", "\n".join(chosen), f"`{document['command']}`"]
    return "\n\n".join(parts) + "\n"


def terminal_lines(document: Row) -> list[str]:
    """Return the measured table and what was decided, for a terminal."""
    table = measured(document)
    texts = _texts(table)
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    table_lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in texts
    ]
    chosen = [f"  {left} {taken}" for left, taken in document["choices"]]
    sentences_below = [*_reasons(table), *sentences(document)]
    return [*table_lines, "", *sentences_below, "", "What the paper leaves open:", *chosen]


def _texts(table: Table) -> list[list[str]]:
    rows = [
        [f"{cell.text} [{cell.interval}]" if cell.interval else cell.text for cell in row]
        for row in table.rows
    ]
    return [list(table.head), *([text.replace("|", "\\|") for text in row] for row in rows)]


def _reasons(table: Table) -> list[str]:
    return [f"\N{EN DASH}: {'; '.join(table.reasons)}."] if table.reasons else []
