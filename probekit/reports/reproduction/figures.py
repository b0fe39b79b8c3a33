"""Figures of a repeated experiment: accuracy by size, divergence by depth; the paper's hollow."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from probekit.paper import numbers
from probekit.reports.components.axes import mark_alone, rule
from probekit.reports.components.colours import DASHES
from probekit.reports.components.rows import Row
from probekit.reports.components.svg import INK, ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TASKS = {"open_ended": "open-ended", "translation": "translation"}
# Sizes as the names say, for the horizontal axis.
SIZES = {"m": 1e6, "b": 1e9}


def size_figure(rows: Sequence[Row]) -> "Figure":
    """Draw top-5 by number of parameters, a panel a task; hollow marks are the paper's."""
    tasks = [task for task in TASKS if any(row["task"] == task for row in rows)]
    figure, panels = _panels(len(tasks))
    for axes, task in zip(panels, tasks, strict=True):
        for offset, mark in ((1, "o"), (2, "s")):
            _paper_sizes(axes, task, offset, mark)
            measured = [row for row in rows if (row["task"], row["offset"]) == (task, offset)]
            _sizes(axes, measured, offset, mark)
        axes.set_xscale("log")
        axes.set_ylim(0, 1)
        axes.set_title(TASKS[task], fontsize="medium")
        axes.set_xlabel("Parameters")
        axes.set_ylabel("Top-5 accuracy")
    _legend(figure, panels[0])
    return figure


def _sizes(axes: "Axes", rows: Sequence[Row], offset: int, mark: str) -> None:
    """Draw the widest set of positions that was measured, a line a text."""
    best = "extended" if any(row["positions"] == "extended" for row in rows) else "last 20"
    shown = [row for row in rows if row["positions"] == best]
    for number, points in enumerate(_by_text(shown)):
        points = sorted(points, key=lambda row: row["n_parameters"])  # noqa: PLW2901
        values = [row["top5"] for row in points]
        ends = [
            [row["top5"] - row["top5_low"] for row in points],
            [row["top5_high"] - row["top5"] for row in points],
        ]
        sizes = [row["n_parameters"] for row in points]
        label = "next token" if offset == 1 else "second token"
        axes.errorbar(
            sizes, values, ends, color=ink(offset), marker=mark, markersize=4, linewidth=1.2,
            linestyle=DASHES[number % len(DASHES)], capsize=2, label=None if number else label,
        )  # fmt: skip


def _by_text(rows: Sequence[Row]) -> Iterator[list[Row]]:
    for name in dict.fromkeys(row["text"] for row in rows):
        yield [row for row in rows if row["text"] == name]


def _paper_sizes(axes: "Axes", task: str, offset: int, mark: str) -> None:
    sizes = [_size(model.key) for model in numbers.models()]
    values = [model.figure_1[task][offset - 1] for model in numbers.models()]  # type: ignore[index]
    label = "the paper" if offset == 1 else None
    axes.plot(
        sizes, values, mark, color=INK, markerfacecolor="none", markersize=4, alpha=0.55,
        markeredgewidth=0.8, label=label,
    )  # fmt: skip


def _size(key: str) -> float:
    """Return the parameters that a name states.

    >>> _size("pythia-1.4b"), _size("llama-3-70b")
    (1400000000.0, 70000000000.0)
    """
    stated = key.rsplit("-", 1)[1]
    return float(stated[:-1]) * SIZES[stated[-1]]


def depth_figure(rows: Sequence[Row]) -> "Figure":
    """Draw KL(lens || final) by depth, a line a model and text; hollow marks are the paper's."""
    figure, (axes,) = _panels(1)
    names = dict.fromkeys((row["model"], row["text"]) for row in rows)
    several = len({text for _, text in names}) > 1
    for number, name in enumerate(names):
        points = [row for row in rows if (row["model"], row["text"]) == name]
        depths = [row["depth"] for row in points]
        line = axes.plot(depths, [row["kl_nats"] for row in points], color=INK, linewidth=1.3)[0]
        line.set(linestyle=DASHES[number % len(DASHES)], alpha=1 - 0.15 * min(number, 4))
        line.set_label(", ".join(name) if several else name[0])
        mark_alone(line)
        low, high = ([row[f"kl_nats_{end}"] for row in points] for end in ("low", "high"))
        axes.fill_between(depths, low, high, color=INK, alpha=0.08, linewidth=0)
    known = [model.figure_2["last_layer_nats"] for model in numbers.models() if model.figure_2]
    axes.plot([1.0] * len(known), known, "o", color=ink(2), markerfacecolor="none",
              markersize=4, clip_on=False, label="the paper's models, last layer")  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Depth of the backbone, (l \N{MINUS SIGN} 1)/(L \N{MINUS SIGN} 2)")
    axes.set_ylabel("KL(lens || final) (nats)")
    _legend(figure, axes)
    return figure


def _panels(count: int) -> "tuple[Figure, Sequence[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * count, 3.8), layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    for axes in panels:
        rule(axes)
    return figure, panels


def _legend(figure: "Figure", axes: "Axes") -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
