"""The page: every part of the report, put into one template."""

from collections.abc import Iterable, Mapping
from typing import Any

from probekit.reports.analysis.breakdown import (
    calibration_table,
    class_tables,
    reliability_figure,
)
from probekit.reports.analysis.contrasts import (
    causal_figure,
    causal_table,
    control_table,
    families_run,
    family_tables,
    sequence_tables,
)
from probekit.reports.analysis.curves import (
    SHARE,
    curve_figures,
    curve_metrics,
    depth_curve,
    depth_is_as_in_paper,
)
from probekit.reports.analysis.first_screen import depth_figure, offset_table, waterfalls
from probekit.reports.analysis.horizon import horizon_figure
from probekit.reports.analysis.layer_maps import build_maps
from probekit.reports.analysis.learning import codelength_table, learning_figure
from probekit.reports.analysis.not_run import not_run
from probekit.reports.analysis.nucleus_size import branching_table, entropy_by_position, nucleus
from probekit.reports.analysis.page_budget import LEAST_INSPECTED, MOST_PAGE, scored_metrics
from probekit.reports.analysis.rows import MODEL_TARGET, RunRows, index
from probekit.reports.analysis.sites import site_figures, site_table
from probekit.reports.analysis.specialization import next_token_table, specialization_table
from probekit.reports.analysis.tables import (
    check_table,
    comparison_tables,
    marginal_table,
    readout_tables,
    text_table,
    transplant_tables,
)
from probekit.reports.components.colours import map_steps, offset_colours
from probekit.reports.components.facts import how_it_was_made
from probekit.reports.components.numbers import Metric, fixed
from probekit.reports.components.templates import rendered
from probekit.reports.inspector.inspector import Inspector, build_inspector
from probekit.scoring.rates import ROUGH_NATS


def render(results: Mapping[str, Any], passages: Mapping[str, Any] | None = None) -> str:
    """Turn the results of a run into one self-contained HTML page.

    The page loads nothing, needs no script to be read, and is the same bytes for the same
    results. Nothing of the run is trusted: all of it is escaped.

    Args:
        results: The content of results.json, schema probekit.results/4.
        passages: The content of passages.json, schema probekit.passages/1; None for a run
            without them.

    Returns:
        The page, to be written as UTF-8.

    Raises:
        RunError: If a schema is not the one that this version reads.
    """
    run = index(results)
    maps = build_maps(run)
    parts = {**_measured(run), **_said(results), **_shown(run)}
    parts |= {**_contrasted(run), "maps": maps}
    inspector = build_inspector(run, passages, maps.readouts)
    page = _page(parts, inspector)
    over = len(page.encode()) - MOST_PAGE
    if inspector and over > 0:
        room = max(LEAST_INSPECTED, len(inspector.data.encode()) - over)
        page = _page(parts, build_inspector(run, passages, maps.readouts, room))
    return page


def _page(parts: Mapping[str, Any], inspector: Inspector | None) -> str:
    values = {**parts, "inspector": inspector}
    return rendered("page.html.j2", values, _STYLES, _SCRIPTS)


def _shown(run: RunRows) -> dict[str, Any]:
    """Return figures, maps and tables."""
    readouts, shortened = readout_tables(run)
    return {
        "run": run,
        "metrics": scored_metrics(run),
        "rough_nats": ROUGH_NATS,
        "of_model": run.target == MODEL_TARGET,
        "curve_metrics": curve_metrics(run),
        "offset_options": [(offset, f"t+{offset}") for offset in run.few_offsets],
        "without_share": _without_share(run),
        "horizon": horizon_figure(run),
        "any_estimate": any(run.is_estimate(k, d) for k in run.offsets for d in run.domains),
        "numbered": enumerate,
        "choices": _choices,
        "found": offset_table(run),
        "answer": depth_figure(run),
        "waterfalls": waterfalls(run),
        "figures": curve_figures(run),
        "depth": depth_curve(run),
        "depth_is_as_in_paper": depth_is_as_in_paper(run),
        "specialization": specialization_table(run),
        "next_token": next_token_table(run),
        "marginal": marginal_table(run),
        "nucleus": nucleus(run),
        "branching": branching_table(run),
        "entropy": entropy_by_position(run),
        "learning": learning_figure(run),
        "comparisons": comparison_tables(run),
        "readouts": readouts,
        "shortened": shortened,
        "light_dark": list(zip(*offset_colours(max(run.offsets, default=1)), strict=True)),
        "steps": list(zip(*map_steps(), strict=True)),
    }


def _without_share(run: RunRows) -> list[str]:
    """Return the domains of which no share of what the model knows can be told, if any can."""
    shared = {key[3] for key, row in run.scores.items() if row.get(SHARE.name) is not None}
    return [domain for domain in run.domains if shared and domain not in shared]


def _contrasted(run: RunRows) -> dict[str, Any]:
    """Return what sets readouts against each other."""
    controls, few_controls = control_table(run)
    rows = run.results.get("controls") or ()
    draws = {row["random_draws"] for row in rows} or {0}
    codelength, few_codelength = codelength_table(run)
    causal, few_causal = causal_table(run)
    return {
        "controls": controls,
        "few_controls": few_controls,
        "kept": f"{fixed(max((100 * row['kept_share'] for row in rows), default=0.0), 1)} %",
        "draws": max(draws),
        "few_draws": min(draws) if len(draws) > 1 else None,
        "sites": site_figures(run),
        "site_table": site_table(run),
        "families": family_tables(run),
        "families_run": families_run(run),
        "sequences": sequence_tables(run),
        "codelength": codelength,
        "classes": class_tables(run),
        "calibration": calibration_table(run),
        "reliability": reliability_figure(run),
        "few_codelength": few_codelength,
        "causal": causal,
        "causal_figure": causal_figure(run),
        "few_causal": few_causal,
        "transplants": transplant_tables(run),
    }


def _choices(metrics: Iterable[Metric]) -> list[tuple[str, str]]:
    """Return (value, words) of the metrics of a switch."""
    return [(metric.name, metric.title) for metric in metrics]


def _said(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the run says of itself."""
    return {
        "verdict": results.get("verdict") or [],
        "warnings": results.get("warnings") or [],
        "checks": check_table(results.get("checks") or []),
        "texts": text_table(results.get("text") or []),
    }


def _measured(run: RunRows) -> dict[str, Any]:
    """Return how the run was made, and what was not part of it."""
    return {
        **how_it_was_made(run.results),
        "not_run": not_run(run),
        "probe_parameters": run.parameters(run.probe or ""),
        "convergence": _convergence(run),
        "query": _query(run),
    }


def _query(run: RunRows) -> str:
    """Return what finds the best probe's score at the horizon in `Run.scores`; empty without."""
    if run.probe is None or not run.results["offsets"]:
        return ""
    offset, domain = run.offsets[-1], run.domains[0]
    row = run.score(
        run.probe,
        run.special(offset, domain).get("best_layer"),
        offset,
        (domain, run.positions()[0]),
    )
    names = ("readout", "layer", "offset", "domain", "split", "positions", "seed")
    told = " and ".join(f"{name} == {row[name]!r}" for name in names if name in row)
    return f"run.scores.query({told!r})" if row else ""


def _convergence(run: RunRows) -> str:
    """Say how many fits of the probe converged."""
    rows = [row for key, row in run.scores.items() if key[0] == run.probe]
    fits = {(row["layer"], row["offset"]): row.get("converged") for row in rows}.values()
    judged = [fit for fit in fits if fit is not None]
    if not judged:
        return "Convergence was not recorded."
    return f"Converged: {sum(judged)} of {len(judged)} fits."


_STYLES = ("style.css", "inspector.css")
_SCRIPTS = ("script.js", "tokens.js", "inspector.js", "examples.js")
