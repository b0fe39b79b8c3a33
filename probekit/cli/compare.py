"""`probekit compare` and `probekit sweep`: several runs on one page."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from probekit.cli.flags import with_settings
from probekit.cli.options import (
    Config,
    DryRun,
    Figures,
    Overwrite,
    models_option,
    output_option,
    write_figures,
)
from probekit.cli.printing import aligned, begin, show, told
from probekit.cli.values import listed
from probekit.errors import SettingsError
from probekit.hub import PREFIX
from probekit.runs.ranks import number_and_count
from probekit.settings import Settings, from_file

# Settings that all models of a sweep share.
SHARED = [field.name for field in dataclasses.fields(Settings) if field.name != "model"]

Models = Annotated[list[str] | None, models_option("Models, instead of a ladder.")]

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
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Run folders.")],
    output: Annotated[
        Path | None, output_option("The page; by default compare.html beside the runs.", "FILE")
    ] = None,
    figures: Figures = False,
) -> None:
    """Compare finished runs: one page, differences with intervals."""
    folders = [Path(run) for run in listed(runs)]
    begin(", ".join(map(str, folders)))
    from probekit.pipelines.comparison import compare

    comparison = compare.compare(folders)
    kept = [folder for folder in folders if not str(folder).startswith(PREFIX)]
    parents = [os.path.abspath(folder.parent) for folder in kept or [Path("page")]]  # noqa: PTH100 -- links are kept
    common, here = Path(os.path.commonpath(parents)), Path.cwd()
    common = common.relative_to(here) if common.is_relative_to(here) else common
    path = output or common / "compare.html"
    comparison.write(path)
    show(comparison.document, table(comparison.document))
    if figures:
        write_figures(comparison.document, path.parent)
    told("Comparison", path)


@with_settings(Settings, *SHARED)
def sweep(  # noqa: PLR0913, PLR0917 -- one a flag
    settings: dict[str, Any],
    family: Annotated[
        str | None, typer.Option(metavar="NAME", help="A ladder of `probekit models`.")
    ] = None,
    models: Models = None,
    output: Annotated[
        Path | None, output_option("Folder of the run folders; by default runs/sweep-...")
    ] = None,
    overwrite: Overwrite = False,
    config: Config = None,
    dry_run: DryRun = False,
    figures: Figures = False,
) -> None:
    """Analyze several models, skipping what is done, and compare them."""
    if (family is None) == (not models):
        raise SettingsError("say either --family or --models, such as --family tiny")
    begin(family or ", ".join(listed(models or ())))
    from probekit.pipelines.comparison import sweep

    settings = (from_file(config, Settings) if config else {}) | settings
    if family is not None:
        output = output or Path("runs") / f"sweep-{family}"
    names = sweep.ladder(family) if family is not None else listed(models or ())
    planned = sweep.plan_runs(names, settings, output)
    if dry_run:
        _end(sweep.dry_run(planned, typer.echo))
        return
    result = sweep.sweep(planned, overwrite, typer.echo)
    if result.comparison is not None and result.page is not None:
        show(result.comparison.document, table(result.comparison.document))
        if figures:
            write_figures(result.comparison.document, result.page.parent)
        told("Comparison", result.page)
    else:
        typer.echo("Fewer than two runs are finished: there is nothing to compare.")
    _end(result.failed)


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
