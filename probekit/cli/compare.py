"""`probekit compare` and `probekit sweep`: several runs on one page."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from probekit.cli.export_figures import Figures, write_figures
from probekit.cli.flags import with_settings
from probekit.cli.printing import aligned, show
from probekit.errors import SettingsError
from probekit.runs.ranks import number_and_count
from probekit.settings import Settings, from_file

# Settings that all models of a sweep share.
SHARED = [field.name for field in dataclasses.fields(Settings) if field.name != "model"]

# Columns of the table that is printed: heading, quantity, offset, factor, digits. Runs of several
# tokenizers have those in bytes alone, others those alone that are not.
COLUMNS = (
    ("next token %", "next_token_top1", 1, 100, 1),
    ("bits/byte", "next_token_bpb", 1, 1, 3),
    ("probe bits/byte", "best_probe_bpb", 1, 1, 3),
    ("probe t+2 %", "best_probe_top1", 2, 100, 1),
    ("ceiling t+2 %", "ceiling_top1", 2, 100, 1),
    ("recovered t+2 %", "recovered", 2, 100, 1),
    ("nucleus tokens", "nucleus_tokens", 1, 1, 0),
)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders.")],
    output: Annotated[
        Path | None, typer.Option(help="The page; by default compare.html beside the runs.")
    ] = None,
    figures: Figures = False,
) -> None:
    """Compare finished runs: one page, differences with intervals."""
    from probekit.pipelines.comparison import compare

    comparison = compare.compare(runs)
    parents = [os.path.abspath(run.parent) for run in runs]  # noqa: PTH100 -- links are kept
    common, here = Path(os.path.commonpath(parents)), Path.cwd()
    common = common.relative_to(here) if common.is_relative_to(here) else common
    path = output or common / "compare.html"
    comparison.write(path)
    show(comparison.document, table(comparison.document))
    if figures:
        write_figures(comparison.document, path.parent / "figures")
    typer.echo(f"Comparison: {path}")


@with_settings(Settings, *SHARED)
def sweep(  # noqa: PLR0913, PLR0917 -- one a flag
    settings: dict[str, Any],
    family: Annotated[str | None, typer.Option(help="A ladder of `probekit models`.")] = None,
    models: Annotated[
        str | None, typer.Option(help="Models, by commas.", metavar="A,B,...")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run folders; by default runs/sweep-...")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace runs with other settings.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings in TOML; flags win.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plans and stop.")] = False,
    figures: Figures = False,
) -> None:
    """Analyze several models, skipping what is done, and compare them."""
    if (family is None) == (models is None):
        raise SettingsError("say either --family or --models, such as --family tiny")
    from probekit.pipelines.comparison import sweep

    settings = (from_file(config, Settings) if config else {}) | settings
    if family is not None:
        output = output or Path("runs") / f"sweep-{family}"
    names = sweep.ladder(family) if family is not None else _names(models or "")
    planned = sweep.plan_runs(names, settings, output)
    if dry_run:
        _end(sweep.dry_run(planned, typer.echo))
        return
    result = sweep.sweep(planned, overwrite, typer.echo)
    if result.comparison is not None and result.page is not None:
        show(result.comparison.document, table(result.comparison.document))
        if figures:
            write_figures(result.comparison.document, result.page.parent / "figures")
        typer.echo(f"Comparison: {result.page}")
    else:
        typer.echo("Fewer than two runs are finished: there is nothing to compare.")
    _end(result.failed)


def _names(models: str) -> list[str]:
    return [name.strip() for name in models.split(",") if name.strip()]


def _end(failed: Mapping[str, str]) -> None:
    """Print the errors of models that failed, and exit with 1 if there are any."""
    if number_and_count()[0] > 0:
        return  # the first process of a launcher says so, when it has compared the others
    for model, message in failed.items():
        typer.echo(f"probekit: {model}: {message}", err=True)
    if failed:
        raise typer.Exit(1)


def table(document: Mapping[str, Any]) -> list[str]:
    """Return the main numbers of each run as lines; of all texts together, where several."""
    in_bytes = document["metric"] == "bpb"
    columns = [column for column in COLUMNS if in_bytes == column[1].endswith("_bpb")]
    values: dict[tuple[str, str, int], float] = {}
    for row in document["headlines"]:
        # The first domain of a run is all of its texts.
        values.setdefault((row["run"], row["quantity"], row["offset"]), row["value"])
    lines = [["run", "parameters", *(heading for heading, *_ in columns)]]
    for run in document["runs"]:
        cells = [run["name"], f"{run['model']['n_parameters'] / 1e6:,.1f}M"]
        for _, quantity, offset, factor, digits in columns:
            value = values.get((run["name"], quantity, offset))
            cells.append("-" if value is None else f"{value * factor:,.{digits}f}")
        lines.append(cells)
    return aligned(lines)
