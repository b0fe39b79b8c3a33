"""The page over several runs: every part of a comparison, put into one template."""

from collections.abc import Mapping, Sequence
from typing import Any

from probekit.reports.comparison.curves import (
    BANDED,
    MOST_LAYERS,
    curve_figures,
    curve_metrics,
    is_thinned,
)
from probekit.reports.comparison.drawing import short_count
from probekit.reports.comparison.figures import labels, ladders, size_figures, size_groups
from probekit.reports.comparison.rows import Compared, compared
from probekit.reports.comparison.tables import (
    branching_table,
    configuration_table,
    difference_table,
    glance_table,
    headline_table,
    marginal_table,
    model_table,
    text_table,
)
from probekit.reports.components.colours import DASHES, offset_colours, run_colours
from probekit.reports.components.facts import RUN_FACTS, facts
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.templates import assets, environment
from probekit.scoring.rates import WIDE_BOUND


def render_comparison(document: Mapping[str, Any]) -> str:
    """Turn a comparison of runs into one self-contained HTML page.

    The page loads nothing, needs no script to be read, and is the same bytes for the same
    comparison. Nothing of the runs is trusted: all of it is escaped.

    Args:
        document: A comparison, schema probekit.comparison/1.

    Returns:
        The page, to be written as UTF-8.

    Raises:
        RunError: If the schema is not the one that this version reads.
    """
    found = compared(document)
    return (
        environment()
        .get_template("comparison.html.j2")
        .render(
            **assets(("style.css", "comparison.css"), ("comparison.js",)),
            **_said(found),
            **_figures(found),
            **_tables(found),
        )
    )


def comparison_figures(
    document: Mapping[str, Any],
) -> tuple[Sequence[PageFigure], Sequence[PageFigure]]:
    """Return the figures of a comparison: against parameters, and over relative depth.

    Args:
        document: A comparison, schema probekit.comparison/1.

    Returns:
        Those whose colours are of offsets, then those whose colours are of runs.

    Raises:
        RunError: If the schema is not the one that this version reads.
    """
    found = compared(document)
    return size_figures(found), curve_figures(found)


def _said(found: Compared) -> dict[str, Any]:
    """Return what the comparison and its runs say, and how the runs were made."""
    document = found.document
    return {
        "found": found,
        "runs": document["runs"],
        "same": document["same"],
        "verdict": document["verdict"],
        "warnings": document["warnings"],
        "own_warnings": [run for run in document["runs"] if run["warnings"]],
        "circumstances": [_circumstances(run) for run in document["runs"]],
    }


def _circumstances(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    made = run["run"]
    versions = made.get("versions") or {}
    return facts(made, RUN_FACTS) + facts(versions, [(name, name) for name in _VERSIONS])


_VERSIONS = ("probekit", "torch")


def _figures(found: Compared) -> dict[str, Any]:
    """Return the figures, their switches and the colours."""
    sizes, curves = size_figures(found), curve_figures(found)
    metrics = curve_metrics(found) if curves else ()
    shown = {figure.group for figure in sizes}
    domains = list(dict.fromkeys(figure.domain for figure in curves))
    return {
        "groups": [group for group in size_groups(found) if group.name in shown],
        "group_options": [(g.name, g.title) for g in size_groups(found) if g.name in shown],
        "ceilinged": _ceilinged(found),
        "sizes": sizes,
        "metrics": metrics,
        "metric_options": [(metric.name, metric.title) for metric in metrics],
        "offset_options": [(offset, f"t+{offset}") for offset in found.offsets],
        "curves": curves,
        "curve_domains": [(found.domains.index(domain), domain) for domain in domains],
        "curve_offsets": sorted({figure.offset for figure in curves if figure.offset}),
        "probes": sorted({found.probe(run) or "" for run in found.runs} - {""}),
        "thinned": is_thinned(found),
        "ladders": [[found.runs[run] for run in ladder] for ladder in ladders(found)],
        "unsized": [run for run in found.runs if not found.size(run)],
        "key_runs": _key(found),
        "numbered": labels(found) != list(found.runs),
        "most_layers": MOST_LAYERS,
        "banded": BANDED,
        "offset_schemes": _schemes(offset_colours(max(found.offsets, default=1))),
        "run_schemes": _schemes(run_colours(max(len(found.runs), 1))),
    }


def _ceilinged(found: Compared) -> dict[str, bool]:
    """Return the groups of which any run has a ceiling, and whether it is on other positions."""
    pairs = {
        group.name: (name, ceiling)
        for group in size_groups(found)
        for name, ceiling in group.by_offset
        if ceiling in found.quantities()
    }
    return {name: len(found.places(a) | found.places(b)) > 1 for name, (a, b) in pairs.items()}


def _schemes(colours: tuple[Sequence[str], Sequence[str]]) -> list[tuple[str, str]]:
    return list(zip(*colours, strict=True))


def _key(found: Compared) -> list[dict[str, Any]]:
    """Return what stands for each run in figures: number, name, line style, size."""
    return [
        {
            "number": number,
            "name": run,
            "style": (number - 1) % len(DASHES),
            "size": short_count(found.size(run) or 0.0) if found.size(run) else "size unknown",
        }
        for number, run in enumerate(found.runs, 1)
    ]


def _tables(found: Compared) -> dict[str, Any]:
    """Return the tables, and how many rows were left out of two of them."""
    headlines, few_headlines = headline_table(found)
    differences, few_differences = difference_table(found)
    texts = [(run["name"], text) for run in found.document["runs"] for text in run["text"]]
    return {
        "glance": glance_table(found),
        "headlines": headlines,
        "few_headlines": few_headlines,
        "differences": differences,
        "few_differences": few_differences,
        "marginal": marginal_table(found),
        "branching": branching_table(found),
        "configuration": configuration_table(found),
        "models": model_table(found),
        "texts": text_table(texts),
        "wide_bound": WIDE_BOUND,
        "unpaired": any(not row["paired"] for row in found.document["differences"]),
    }
