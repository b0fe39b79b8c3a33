"""The page over several runs: every part of a comparison, put into one template."""

from collections.abc import Mapping, Sequence
from typing import Any

from probekit.reports.comparison.curves import (
    BANDED,
    MOST_LAYERS,
    answering,
    curve_figures,
    curve_metrics,
    is_thinned,
)
from probekit.reports.comparison.drawing import SHORT, short_count
from probekit.reports.comparison.figures import labels, ladders, size_figures, size_groups
from probekit.reports.comparison.rows import ComparisonRows, index
from probekit.reports.comparison.tables import (
    answer_table,
    branching_table,
    configuration_table,
    difference_table,
    headline_table,
    marginal_table,
    model_table,
    text_table,
)
from probekit.reports.components.colours import DASHES, offset_colours, run_colours
from probekit.reports.components.facts import RUN_FACTS, facts
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.templates import rendered
from probekit.scoring.rates import ROUGH_NATS


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
    comparison = index(document)
    values = {**_said(comparison), **_figures(comparison), **_tables(comparison)}
    styles = ("style.css", "comparison.css")
    return rendered("comparison.html.j2", values, styles, ("comparison.js",))


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
    comparison = index(document)
    return size_figures(comparison), curve_figures(comparison)


def _said(comparison: ComparisonRows) -> dict[str, Any]:
    """Return what the comparison and its runs say, and how the runs were made."""
    document = comparison.document
    return {
        "comparison": comparison,
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


def _figures(comparison: ComparisonRows) -> dict[str, Any]:
    """Return the figures, their switches and the colours."""
    sizes, answer = size_figures(comparison), next(iter(answering(comparison)), None)
    above = answer.name if answer else None
    curves = [figure for figure in curve_figures(comparison) if figure.name != above]
    drawn = {figure.group for figure in curves}
    metrics = [metric for metric in curve_metrics(comparison) if metric.name in drawn]
    shown = {figure.group for figure in sizes}
    domains = list(dict.fromkeys(figure.domain for figure in curves))
    return {
        "groups": [group for group in size_groups(comparison) if group.name in shown],
        "group_options": [(g.name, g.title) for g in size_groups(comparison) if g.name in shown],
        "ceilinged": _ceilinged(comparison),
        "sizes": sizes,
        "answer": answer,
        "metrics": metrics,
        "metric_options": [(metric.name, metric.title) for metric in metrics],
        "offset_options": [(offset, f"t+{offset}") for offset in comparison.offsets],
        "curves": curves,
        "curve_domains": [(comparison.domains.index(domain), domain) for domain in domains],
        "curve_offsets": sorted({figure.offset for figure in curves if figure.offset}),
        "probes": sorted({comparison.probe(run) or "" for run in comparison.runs} - {""}),
        "thinned": is_thinned(comparison),
        "ladders": [[comparison.runs[run] for run in ladder] for ladder in ladders(comparison)],
        "unsized": [run for run in comparison.runs if not comparison.size(run)],
        "key_runs": _key(comparison),
        "numbered": labels(comparison) == _numbers(comparison),
        "keyed_by_number": max(map(len, labels(comparison))) > SHORT
        or labels(comparison) == _numbers(comparison),
        "most_layers": MOST_LAYERS,
        "banded": BANDED,
        "offset_schemes": _schemes(offset_colours(max(comparison.offsets, default=1))),
        "run_schemes": _schemes(run_colours(max(len(comparison.runs), 1))),
    }


def _numbers(comparison: ComparisonRows) -> list[str]:
    return [str(number) for number, _ in enumerate(comparison.runs, 1)]


def _ceilinged(comparison: ComparisonRows) -> dict[str, bool]:
    """Return the groups of which any run has a ceiling, and whether it is on other positions."""
    pairs = {
        group.name: (name, ceiling)
        for group in size_groups(comparison)
        for name, ceiling in group.by_offset
        if ceiling in comparison.quantities()
    }
    return {
        name: len(comparison.positions_of(a) | comparison.positions_of(b)) > 1
        for name, (a, b) in pairs.items()
    }


def _schemes(colours: tuple[Sequence[str], Sequence[str]]) -> list[tuple[str, str]]:
    return list(zip(*colours, strict=True))


def _key(comparison: ComparisonRows) -> list[dict[str, Any]]:
    """Return what stands for each run in figures: number, name, line style, size."""
    return [
        {
            "number": number,
            "name": run,
            "style": (number - 1) % len(DASHES),
            "size": short_count(comparison.size(run) or 0.0)
            if comparison.size(run)
            else "size unknown",
        }
        for number, run in enumerate(comparison.runs, 1)
    ]


def _tables(comparison: ComparisonRows) -> dict[str, Any]:
    """Return the tables, and how many rows were left out of two of them."""
    headlines, few_headlines = headline_table(comparison)
    differences, few_differences = difference_table(comparison)
    texts = [(run["name"], text) for run in comparison.document["runs"] for text in run["text"]]
    return {
        "found": answer_table(comparison),
        "headlines": headlines,
        "few_headlines": few_headlines,
        "differences": differences,
        "few_differences": few_differences,
        "marginal": marginal_table(comparison),
        "branching": branching_table(comparison),
        "configuration": configuration_table(comparison),
        "models": model_table(comparison),
        "texts": text_table(texts),
        "rough_nats": ROUGH_NATS,
        "unpaired": any(not row["paired"] for row in comparison.document["differences"]),
    }
