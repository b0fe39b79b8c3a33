"""The page of a study of heads: strategies, their cost, learning curves, the read-layer sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

from probekit.reports.analysis.tables import check_table, text_table
from probekit.reports.components.colours import offset_colours
from probekit.reports.components.facts import how_it_was_made
from probekit.reports.components.templates import rendered
from probekit.reports.heads.figures import (
    learning_figures,
    strategy_figures,
    sweep_figures,
)
from probekit.reports.heads.first_screen import answer_figure, answer_table
from probekit.reports.heads.panels import strategies_of
from probekit.reports.heads.tables import (
    cost_tables,
    difference_tables,
    domains,
    in_figures,
    in_words,
    require_study,
    strategy_tables,
    sweep_tables,
    training_table,
)


def render_heads(document: Mapping[str, Any]) -> str:
    """Turn a study of heads into one self-contained HTML page.

    The page loads nothing, needs no script, and is the same bytes for the same study. Nothing
    of the run is trusted: all of it is escaped.

    Args:
        document: The content of heads.json, schema probekit.heads/1.

    Returns:
        The page, to be written as UTF-8.

    Raises:
        RunError: If the schema is not the one that this version reads.
    """
    require_study(document)
    values = {**_said(document), **_made(document), **_shown(document)}
    return rendered("heads.html.j2", values)


def _said(document: Mapping[str, Any]) -> dict[str, Any]:
    offsets = sorted({row["offset"] for row in document["scores"]})
    names = strategies_of(document)
    left_out = {row["strategy"]: row.get("left_out") for row in document["training"]}
    return {
        "verdict": document["verdict"],
        "warnings": _by_kind(document["warnings"]),
        "offsets": offsets,
        "order": [
            (called, in_words(name), left_out.get(name))
            for name, called in zip(names, in_figures(names), strict=True)
        ],
        "probe": document.get("probe"),
        "n_seeds": document["run"]["settings"].get("seeds", 1),
        "drawn_domain": domains(document["scores"])[0],
        "trained_names": in_figures([row["strategy"] for row in document["training"]]),
        "offset_schemes": _pairs(max(offsets, default=1)),
        "series_schemes": _pairs(len(document["training"])),
    }


def _by_kind(warnings: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return each kind of warning once, with all that is said of it."""
    kinds: dict[str, list[str]] = {}
    for row in warnings:
        kinds.setdefault(row["code"], []).append(row["message"])
    return [{"code": code, "message": " ".join(told)} for code, told in kinds.items()]


def _pairs(count: int) -> list[tuple[str, str]]:
    return list(zip(*offset_colours(count), strict=True))


def _shown(document: Mapping[str, Any]) -> dict[str, Any]:
    answer = answer_figure(document)
    above = answer.name if answer else None
    return {
        "answer": answer,
        "found": answer_table(document),
        "strategies": [each for each in strategy_figures(document) if each.name != above],
        "learning": learning_figures(document),
        "sweep": sweep_figures(document),
        "sweep_domain": next(iter(domains(document["sweep"])), ""),
        "strategy_tables": strategy_tables(document),
        "difference_tables": difference_tables(document),
        "cost_tables": cost_tables(document),
        "training": training_table(document),
        "sweep_tables": sweep_tables(document),
        "texts": text_table(document["text"]),
        "checks": check_table(document["checks"]),
    }


def _made(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **how_it_was_made(document),
        "weights": [
            (name, ", ".join(file for file in files.values() if file))
            for name, files in document["weights"].items()
        ],
    }
