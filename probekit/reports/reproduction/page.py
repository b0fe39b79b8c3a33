"""The page of a repeated figure or table: measured, and the paper's numbers beside it."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from probekit.reports.components.colours import offset_colours
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Table
from probekit.reports.components.templates import rendered
from probekit.reports.publication.export import Drawing, exported
from probekit.reports.reproduction.figures import TASKS, depth_figure, size_figure
from probekit.reports.reproduction.paper_tables import papers_table
from probekit.reports.reproduction.sentences import reading, verdict, warnings
from probekit.reports.reproduction.tables import measured, trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    "figure-1": "Figure 1: top-5 accuracy of the next and the second token",
    "figure-2": "Figure 2: how far the logit lens is from the model's output, by depth",
    "table-1": "Table 1: strategies of training heads",
}


def render_reproduction(document: Row) -> str:
    """Return the page, one file that loads nothing; all text of the run is escaped."""
    light, dark = offset_colours(2)
    values = {
        "title": TITLES[document["figure"]],
        "figure": document["figure"],
        "verdict": verdict(document),
        "reading": reading(document),
        "warnings": warnings(document),
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
    files = exported(reproduction_drawings(document))
    return {name: content for name, content in files.items() if not name.endswith(".csv")}


def reproduction_drawings(document: Row) -> Iterator[Drawing]:
    """Yield the figure for print; a table has none."""
    draw = _drawing(document["figure"], document["rows"])
    if draw is not None:
        yield Drawing("figure", draw, document["rows"], ("#1d2126", *offset_colours(2)[0]))


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


def markdown(document: Row) -> str:
    """Return the tables, what they mean and what was decided, as Markdown."""
    parts = [f"# {TITLES[document['figure']]}", *verdict(document), *reading(document)]
    parts += [f"Warning: {each['message']}" for each in warnings(document)]
    tables = (measured(document), trained(document), papers_table(document["figure"]))
    for table in (table for table in tables if table):
        lines = [f"| {' | '.join(line)} |" for line in _texts(table)]
        lines.insert(1, "|" + " --- |" * len(table.head))
        parts += [f"**{table.caption}**", "\n".join(lines), *_reasons(table)]
    chosen = [f"- {left} {taken}" for left, taken in document["choices"]]
    parts += ["## What the paper leaves open", "\n".join(chosen), f"`{document['command']}`"]
    return "\n\n".join(parts) + "\n"


def terminal_lines(document: Row) -> list[str]:
    """Return verdict, measured table and what was decided, for a terminal."""
    table = measured(document)
    texts = _texts(table)
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    table_lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in texts
    ]
    chosen = [f"  {left} {taken}" for left, taken in document["choices"]]
    below = [*_reasons(table), *reading(document)]
    below += [f"warning: {each['message']}" for each in warnings(document)]
    said = [*verdict(document), "", *table_lines, "", *below]
    return [*said, "", "What the paper leaves open:", *chosen]


def _texts(table: Table) -> list[list[str]]:
    rows = [
        [f"{cell.text} [{cell.interval}]" if cell.interval else cell.text for cell in row]
        for row in table.rows
    ]
    return [list(table.head), *([text.replace("|", "\\|") for text in row] for row in rows)]


def _reasons(table: Table) -> list[str]:
    return [f"\N{EN DASH}: {'; '.join(table.reasons)}."] if table.reasons else []
