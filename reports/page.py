"""The page: every part of the report, put into one template."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from probekit.reports.branching import branching_table, entropy_by_position, nucleus
from probekit.reports.budget import scored
from probekit.reports.colours import map_steps, offset_colours
from probekit.reports.contrasts import (
    codelength_table,
    control_table,
    families_run,
    family_tables,
    sequence_tables,
)
from probekit.reports.curves import curve_figures, curve_metrics, depth_curve
from probekit.reports.escape import clean
from probekit.reports.maps import build_maps
from probekit.reports.not_run import not_run
from probekit.reports.numbers import Metric, compact, fixed, headline
from probekit.reports.rows import MODEL, Run, index
from probekit.reports.tables import (
    check_table,
    comparison_tables,
    depth_table,
    marginal_table,
    next_token_table,
    readout_tables,
    specialization_table,
    text_table,
)
from probekit.tally import WIDE_BOUND


def render(results: Mapping[str, Any]) -> str:
    """Turn the results of a run into one self-contained HTML page.

    The page loads nothing, needs no script to be read, and is the same bytes for the same
    results. Nothing of the run is trusted: all of it is escaped.

    Args:
        results: The content of results.json, schema probekit.results/1.

    Returns:
        The page, to be written as UTF-8.

    Raises:
        RunError: If the schema is not the one that this version reads.
    """
    run = index(results)
    return (
        _environment()
        .get_template("page.html.j2")
        .render(**_assets(), **_measured(run), **_said(results), **_shown(run), **_contrasted(run))
    )


def _shown(run: Run) -> dict[str, Any]:
    """Return figures, maps and tables."""
    readouts, shortened = readout_tables(run)
    depth = depth_curve(run)
    return {
        "run": run,
        "metrics": scored(run),
        "wide_bound": WIDE_BOUND,
        "of_model": run.target == MODEL,
        "curve_metrics": curve_metrics(run),
        "offset_options": [(offset, f"t+{offset}") for offset in run.offsets],
        "any_estimate": any(run.is_estimate(k, d) for k in run.offsets for d in run.domains),
        "numbered": enumerate,
        "choices": _choices,
        "figures": curve_figures(run),
        "maps": build_maps(run),
        "depth": depth,
        "depth_table": depth and depth_table(depth.domains, depth.rows),
        "specialization": specialization_table(run),
        "next_token": next_token_table(run),
        "marginal": marginal_table(run),
        "nucleus": nucleus(run),
        "branching": branching_table(run),
        "entropy": entropy_by_position(run),
        "comparisons": comparison_tables(run),
        "readouts": readouts,
        "shortened": shortened,
        "light_dark": list(zip(*offset_colours(max(run.offsets, default=1)), strict=True)),
        "steps": list(zip(*map_steps(), strict=True)),
    }


def _contrasted(run: Run) -> dict[str, Any]:
    """Return what sets readouts against each other."""
    controls, few_controls = control_table(run)
    codelength, few_codelength = codelength_table(run)
    return {
        "controls": controls,
        "few_controls": few_controls,
        "families": family_tables(run),
        "families_run": families_run(run),
        "sequences": sequence_tables(run),
        "codelength": codelength,
        "few_codelength": few_codelength,
    }


def _choices(metrics: Iterable[Metric]) -> list[tuple[str, str]]:
    """Return (value, words) of the metrics of a switch."""
    return [(metric.name, metric.title) for metric in metrics]


def _said(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the run says of itself."""
    return {
        "verdict": results.get("verdict") or [],
        "headlines": [headline(row) for row in results.get("headlines") or []],
        "warnings": results.get("warnings") or [],
        "checks": check_table(results.get("checks") or []),
        "texts": text_table(results.get("text") or []),
    }


def _measured(run: Run) -> dict[str, Any]:
    """Return how the run was made, and what was not part of it."""
    made, model = run.results["run"], run.results["model"]
    return {
        "model": model,
        "made": made,
        "facts": _facts(model, _MODEL_FACTS),
        "circumstances": _facts(made, _RUN_FACTS),
        "stages": [(k, fixed(float(v), 1)) for k, v in (made.get("stage_seconds") or {}).items()],
        "versions": [(k, compact(v)) for k, v in (made.get("versions") or {}).items()],
        "settings": [(k, _setting(v)) for k, v in (made.get("settings") or {}).items()],
        "not_run": not_run(run),
        "probe_parameters": run.parameters(run.probe or ""),
        "convergence": _convergence(run),
    }


def _facts(given: Mapping[str, Any], names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(label, _fact(given.get(name))) for label, name in names]


def _fact(value: object) -> str:
    return "none" if value is None else compact(value)


def _setting(value: object) -> str:
    return "not set" if value is None else str(value)


def _convergence(run: Run) -> str:
    """Say how many fits of the probe converged."""
    rows = [row for key, row in run.scores.items() if key[0] == run.probe]
    fits = {(row["layer"], row["offset"]): row.get("converged") for row in rows}.values()
    judged = [fit for fit in fits if fit is not None]
    if not judged:
        return "Convergence was not recorded."
    return f"Converged: {sum(judged)} of {len(judged)} fits."


_MODEL_FACTS = (
    ("Name", "name"),
    ("Repository", "repository"),
    ("Revision", "revision"),
    ("Architecture", "architecture"),
    ("Blocks", "n_layers"),
    ("Width", "d_model"),
    ("Vocabulary", "vocab_size"),
    ("Parameters", "n_parameters"),
    ("Soft cap of the logits", "softcap"),
    ("Fingerprint", "fingerprint"),
)
_RUN_FACTS = (
    ("Run", "id"),
    ("Created", "created"),
    ("Seconds", "seconds"),
    ("Seed", "seed"),
    ("Device", "device"),
    ("Data type", "dtype"),
    ("Attention", "attention"),
)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("probekit.reports", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup  # figures hold none of the run's text
    return environment


def _finalize(value: Any) -> Any:
    """Clean every text of the run on its way into the page."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _assets() -> Mapping[str, Any]:
    """Return style and script, and the script's hash for the content security policy."""
    here = files("probekit.reports")
    script = here.joinpath("script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {
        "style": Markup(here.joinpath("style.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": digest,
    }
