"""The figures of a comparison for print, each with its numbers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from probekit.reports.comparison.curves import curve_metrics, depth_panels
from probekit.reports.comparison.figures import (
    domain_panel,
    labels,
    offset_panels,
    size_groups,
    sized,
)
from probekit.reports.comparison.quantities import quantity
from probekit.reports.comparison.rows import ComparisonRows, index
from probekit.reports.components.colours import offset_colours, run_colours
from probekit.reports.components.numbers import Metric
from probekit.reports.components.rows import ceiling
from probekit.reports.publication.comparison_panels import (
    depth_figure,
    domains_figure,
    offsets_figure,
)
from probekit.reports.publication.export import PRINT_INK, Drawing, drawable

if TYPE_CHECKING:
    from probekit.reports.comparison.drawing import Line, SizePanel

Rows = Iterator[dict[str, object]]


def comparison_drawings(document: Mapping[str, Any]) -> Iterator[Drawing]:
    """Yield every figure of a comparison; none is drawn before it is asked for."""
    comparison = index(document)
    if sized(comparison):
        inks = (PRINT_INK, *offset_colours(max(comparison.offsets, default=1))[0])
        for group in size_groups(comparison):
            for name in group.by_domain:
                yield from _by_domain(comparison, name, inks)
            for names in group.by_offset:
                yield from _by_offset(comparison, names, inks)
    inks = (PRINT_INK, *run_colours(max(len(comparison.runs), 1))[0])
    for metric in curve_metrics(comparison):
        for number, domain in enumerate(comparison.domains):
            yield from _by_depth(comparison, metric, (number, domain), inks)


def _by_domain(comparison: ComparisonRows, name: str, inks: Sequence[str]) -> Iterator[Drawing]:
    panel = domain_panel(comparison, quantity(name))
    if panel is not None:
        domains = [comparison.domains[trace.style] for trace in panel.traces]
        rows = [
            row
            for domain, trace in zip(domains, panel.traces, strict=True)
            for row in _points(comparison, trace.points, {"domain": domain, "offset": 1}, name)
        ]
        draw = partial(domains_figure, panel, domains, _numbered(comparison))
        yield Drawing(f"scale-{_plain(name)}", draw, rows, inks)


def _by_offset(
    comparison: ComparisonRows, names: tuple[str, str], inks: Sequence[str]
) -> Iterator[Drawing]:
    panels = offset_panels(comparison, names)
    rows = [
        row for domain, panel in panels.items() for row in _series(comparison, names, domain, panel)
    ]
    if panels:
        draw = partial(offsets_figure, panels, comparison.offsets, _numbered(comparison))
        yield Drawing(f"scale-{_plain(names[0])}", draw, rows, inks)


def _series(
    comparison: ComparisonRows, names: tuple[str, str], domain: str, panel: "SizePanel"
) -> Rows:
    for trace in panel.traces:
        name = names[1] if trace.kind == "ceiling" else names[0]
        yield from _points(comparison, trace.points, {"domain": domain, "offset": trace.ink}, name)


def _points(
    comparison: ComparisonRows,
    points: Sequence[tuple[int, float, float, float]],
    place: Mapping[str, Any],
    name: str,
) -> Rows:
    """Yield the points of a series of a quantity, one row a run."""
    runs, unit = sized(comparison), quantity(name).suffix.strip()
    for number, value, low, high in points:
        run = runs[number]
        row = comparison.headline((run, place["domain"], place["offset"]), name)
        yield {
            "run": run,
            "n_parameters": comparison.model(run)["n_parameters"],
            **place,
            "positions": row.get("positions", ""),
            "quantity": name,
            "unit": unit,
            "value": value,
            "low": low,
            "high": high,
        }


def _numbered(comparison: ComparisonRows) -> dict[str, str]:
    """Return what runs are called against parameters, and what numbers stand for, else nothing."""
    names, called = _short(comparison), dict(zip(comparison.runs, labels(comparison), strict=True))
    numbered = all(called[run] == str(n) for n, run in enumerate(comparison.runs, 1))
    return {called[run]: names[run] if numbered else "" for run in sized(comparison)}


def _short(comparison: ComparisonRows) -> dict[str, str]:
    return dict(zip(comparison.runs, drawable(comparison.runs), strict=True))


def _plain(name: str) -> str:
    return name.replace("_", "-")


def _by_depth(
    comparison: ComparisonRows, metric: Metric, where: tuple[int, str], inks: Sequence[str]
) -> Iterator[Drawing]:
    number, domain = where
    panels = depth_panels(comparison, metric, domain)
    rows = [
        row
        for offset, panel in panels.items()
        for line in panel.lines
        for row in _line(comparison, metric, (comparison.runs[line.run], domain, offset), line)
    ]
    if panels:
        draw = partial(depth_figure, panels, list(_short(comparison).values()), _probe(comparison))
        yield Drawing(f"depth-{_plain(metric.name)}-{number}", draw, rows, inks)


def _probe(comparison: ComparisonRows) -> str:
    """Return what the curves are of, in words."""
    names = {comparison.probe(run) or "" for run in comparison.runs} - {""}
    return f"{drawable(sorted(names))[0]} probe" if len(names) == 1 else "probe"


def _line(
    comparison: ComparisonRows, metric: Metric, place: tuple[str, str, int], line: "Line"
) -> Rows:
    """Yield the points of a run's curve, then its ceiling."""
    run, domain, offset = place
    about: dict[str, object] = {
        "run": run,
        "n_parameters": comparison.model(run).get("n_parameters"),
        "domain": domain,
        "offset": offset,
        "positions": comparison.positions,
        "metric": metric.name,
        "unit": metric.suffix.strip(),
    }
    probe = comparison.probe(run)
    layers = {row["depth"]: row["layer"] for row in comparison.curve(place, probe)}
    for depth, *numbers in zip(line.depths, line.values, line.low, line.high, strict=True):
        if not math.isnan(numbers[0]):
            at = {"kind": "probe", "readout": probe, "layer": layers[depth], "depth": depth}
            yield about | at | dict(zip(_NUMBERS, numbers, strict=True))
    if not math.isnan(line.ceiling):
        row = comparison.ceiling(place)
        shown = metric.with_ends(row)
        at = {"kind": "ceiling", "readout": ceiling(offset), "layer": "", "depth": ""}
        yield about | at | dict(zip(_NUMBERS, shown, strict=True))


_NUMBERS = ("value", "low", "high")
