"""The page of a repeated figure or table: measured, and the paper's numbers beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from probekit import paper
from probekit.reports.cells import Cell, Table, absent, word
from probekit.reports.colours import offset_colours
from probekit.reports.heads_tables import NAMES
from probekit.reports.numbers import compact, fixed, known
from probekit.reports.paper_files import Drawing, exported
from probekit.reports.reproduction_figures import TASKS, depth_figure, size_figure
from probekit.reports.reproduction_paper import TOKENS, number, papers_table
from probekit.reports.svg import inline
from probekit.reports.templates import assets, environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
TITLES = {
    "figure-1": "Figure 1: top-5 accuracy of the next and the second token",
    "figure-2": "Figure 2: how far the logit lens is from the model's output, by depth",
    "table-1": "Table 1: strategies of training heads",
}
SETS = ("last 20", "extended")
NOT_ITS = "the paper does not have this model"
INKS = ("#1d2126", *offset_colours(2)[0])


def render(document: Row) -> str:
    """Return the page, one file that loads nothing; all text of the run is escaped."""
    light, dark = offset_colours(2)
    return (
        environment()
        .get_template("reproduction.html.j2")
        .render(
            **assets(("style.css",), ()),
            title=TITLES[document["figure"]],
            figure=document["figure"],
            sentences=sentences(document),
            measured=measured(document),
            papers=papers_table(document["figure"]),
            choices=document["choices"],
            pictures=pictures(document),
            colours=list(zip(light, dark, strict=True)),
            command=document["command"],
            texts=document["texts"],
            versions=document["versions"],
        )
    )


def files(document: Row) -> dict[str, bytes]:
    """Return the figure as SVG, PDF and PNG, by the names of their files."""
    draw = _drawing(document["figure"], document["rows"])
    if draw is None:
        return {}
    found = exported([Drawing("figure", draw, document["rows"], INKS)])
    return {name: content for name, content in found.items() if not name.endswith(".csv")}


def _drawing(figure: str, rows: Sequence[Row]) -> "Callable[[], Figure] | None":
    """Return what draws rows of a figure; None for a table."""
    kind = {"figure-1": size_figure, "figure-2": depth_figure}.get(figure)
    return partial(kind, rows) if kind else None


@dataclass(frozen=True)
class Picture:
    """A figure of the page: what it shows, in words, and the inline SVG."""

    message: str
    svg: str


def pictures(document: Row) -> list[Picture]:
    """Return the figures of the page, a task each, so that a narrow page can show them."""
    rows = document["rows"]
    parts: dict[str, Sequence[Row]] = {}
    if document["figure"] == "figure-1":
        for task in dict.fromkeys(row["task"] for row in rows):
            message = f"Top-5 accuracy by number of parameters, {TASKS[task]}"
            parts[message] = [row for row in rows if row["task"] == task]
    elif document["figure"] == "figure-2":
        parts["KL(lens || final) by depth of the backbone"] = rows
    drawn = {message: _drawing(document["figure"], own) for message, own in parts.items()}
    return [
        Picture(message, inline(draw, f"figure-{number}-"))
        for number, (message, draw) in enumerate(drawn.items())
        if draw is not None
    ]


def sentences(document: Row) -> list[str]:
    """Return what must be known to read the numbers, in words."""
    found = [WHAT[document["figure"]]]
    if document["strangers"]:
        names = ", ".join(document["strangers"])
        found.append(
            f"The paper does not have {names}: its numbers below are of other models, for "
            "reference only, and nothing here confirms or contradicts them."
        )
    named = dict.fromkeys(
        (row["model"], row["paper_model"]) for row in document["rows"] if row["paper_model"]
    )
    if named:
        pairs = ", ".join(f"{model} as the paper's {name}" for model, name in named)
        found.append(f"Taken by its name: {pairs}.")
    if document["figure"] == "figure-1" and all(
        row["task"] == "open_ended" for row in document["rows"]
    ):
        found.append(
            "Translation was not measured: it needs pairs, which are not built in. Give them with "
            "--text PAIRS.jsonl (fields source and target; the paper's are IWSLT 2017 de-en)."
        )
    return found


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


def measured(document: Row) -> Table:
    """Return the table of what was measured, the paper's numbers beside it."""
    build = {"figure-1": _figure_1, "figure-2": _figure_2, "table-1": _table_1}
    return build[document["figure"]](document["rows"])


def _figure_1(rows: Sequence[Row]) -> Table:
    head = (
        "Model", "Text", "Task", "Token", "Last 20 of each sample", "n", "Extended", "n",
        "Samples", "The paper", "Tokens summed over", "The paper, tokens", "Mass kept, least",
    )  # fmt: skip
    keys = dict.fromkeys((row["model"], row["text"], row["offset"]) for row in rows)
    cells = []
    for key in keys:
        own = [row for row in rows if (row["model"], row["text"], row["offset"]) == key]
        by_set = {row["positions"]: row for row in own}
        first, more = by_set[SETS[0]], by_set.get(SETS[1])
        cells.append(
            [
                word(first["model"]),
                word(first["text"]),
                word(TASKS[first["task"]]),
                word(TOKENS[first["offset"]]),
                _share(first, "top5"),
                Cell(compact(first["n_positions"])),
                _share(more, "top5", "not asked for"),
                Cell(compact(more["n_positions"])) if more else absent("not asked for"),
                Cell(compact((more or first)["n_samples"])),
                _share(first, "paper_top5", NOT_ITS),
                number(first, "branches_mean", 0, "the next token needs none"),
                number(first, "paper_branches", 0, NOT_ITS),
                number(first, "mass_min", 3, "the next token needs none"),
            ]
        )
    caption = "Measured: shares with 95 % intervals (last 20: Wilson; extended: over samples)"
    return Table(caption, head, cells)


def _share(row: Row | None, name: str, reason: str = "not recorded") -> Cell:
    value = known(row.get(name)) if row else None
    if row is None or value is None:
        return absent(reason)
    return Cell(
        fixed(value, 3), f"{fixed(row[f'{name}_low'], 3)} to {fixed(row[f'{name}_high'], 3)}"
    )


def _figure_2(rows: Sequence[Row]) -> Table:
    limit = paper.head("figure_2")["threshold_nats"]
    head = (
        "Model", "Text", "KL at the last backbone layer (nats)", "The paper",
        f"First depth with KL < {limit}", "The paper", "Layer", "Positions", "Samples",
    )  # fmt: skip
    cells = []
    for row in (row for row in rows if row["last"]):
        theirs = known(row["paper_kl_nats"])
        reason = "never" if theirs is not None else NOT_ITS
        cells.append(
            [
                word(row["model"]),
                word(row["text"]),
                _share(row, "kl_nats"),
                number(row, "paper_kl_nats", 1, NOT_ITS),
                number(row, "first_depth", 2, "never"),
                number(row, "paper_first_depth", 2, reason),
                Cell(compact(row["layer"])),
                Cell(compact(row["n_positions"])),
                Cell(compact(row["n_samples"])),
            ]
        )
    return Table("Measured, with 95 % intervals from resampled samples", head, cells)


def _table_1(rows: Sequence[Row]) -> Table:
    names = {name: f"{said} (ours)" for name, said in NAMES.items()}
    names |= {strategy.key: strategy.name for strategy in paper.strategies()}
    several = any("positions" in row for row in rows)
    apart = any(known(row.get("above_baseline")) is not None for row in rows)
    head = [
        "Model", "Strategy", "Token", *(["Positions"] if several else []), "Measured", "n",
        *(["Less the baseline"] if apart else []), "The paper",
    ]  # fmt: skip
    cells = [
        [
            word(row["model"]),
            word(names.get(row["strategy"], row["strategy"])),
            word(TOKENS[row["offset"]]),
            *([word(row.get("positions"))] if several else []),
            _share(row, "top5"),
            Cell(compact(row["n_positions"])),
            *([_share(row, "above_baseline", "it is the baseline")] if apart else []),
            _share(row, "paper_top5", "the paper does not have this row"),
        ]
        for row in rows
    ]
    caption = "Measured: top-5 with 95 % intervals (last 20: Wilson; extended and differences: "
    return Table(f"{caption}over samples)", head, cells)


def markdown(document: Row) -> str:
    """Return the tables, what they mean and what was decided, as Markdown."""
    parts = [f"# {TITLES[document['figure']]}", *sentences(document)]
    for table in (measured(document), papers_table(document["figure"])):
        lines = [f"| {' | '.join(line)} |" for line in _texts(table)]
        lines.insert(1, "|" + " --- |" * len(table.head))
        parts += [f"**{table.caption}**", "\n".join(lines), *_reasons(table)]
    chosen = [f"- {left} {taken}" for left, taken in document["choices"]]
    parts += ["## What the paper leaves open", "\n".join(chosen), f"`{document['command']}`"]
    return "\n\n".join(parts) + "\n"


def lines(document: Row) -> list[str]:
    """Return the measured table and what was decided, for a terminal."""
    texts = _texts(measured(document))
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    found = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in texts
    ]
    chosen = [f"  {left} {taken}" for left, taken in document["choices"]]
    return [*found, "", *sentences(document), "", "What the paper leaves open:", *chosen]


def _texts(table: Table) -> list[list[str]]:
    rows = [
        [f"{cell.text} [{cell.interval}]" if cell.interval else cell.text for cell in row]
        for row in table.rows
    ]
    return [list(table.head), *([text.replace("|", "\\|") for text in row] for row in rows)]


def _reasons(table: Table) -> list[str]:
    return [f"\N{EN DASH}: {'; '.join(table.reasons)}."] if table.reasons else []
