"""`probekit heads`: train heads by several strategies and score them beside the ceiling."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from probekit.cli.flags import with_settings
from probekit.cli.options import Config, DryRun, Figures, Overwrite, output_option, write_figures
from probekit.cli.printing import aligned, begin, show, told
from probekit.pipelines.head_study.settings import HeadSettings
from probekit.settings import from_file

DIGITS = 3


@with_settings(HeadSettings)
def heads(  # noqa: PLR0913, PLR0917 -- flags
    settings: dict[str, Any],
    output: Annotated[
        Path | None, output_option("Run folder; by default runs/<model>-heads.")
    ] = None,
    overwrite: Overwrite = False,
    config: Config = None,
    dry_run: DryRun = False,
    figures: Figures = False,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder for the Medusa heads of the frozen model, for vLLM."
        ),
    ] = None,
) -> None:
    """Train heads by several strategies, and score them beside the marginalized model."""
    record = HeadSettings.from_mapping(
        (from_file(config, HeadSettings) if config else {}) | settings
    )
    begin(record.model)
    from transformers.utils import logging

    from probekit.pipelines.head_study import study_heads
    from probekit.pipelines.head_study.export_heads import export_heads, require_exportable
    from probekit.runs.setup import load_model

    logging.disable_progress_bar()
    loaded = load_model(record)
    if export:
        require_exportable(loaded, record)
    if dry_run:
        typer.echo("\n".join(study_heads.dry_run(loaded, record)))
        return
    run = study_heads.run(loaded, record, output, overwrite, typer.echo)
    show(run.document, table(run.document))
    if figures:
        write_figures(run.document, run.folder)
    if export:
        told("Heads", export_heads(run.folder, export, loaded))
    told("Report", run.report)


def table(document: Mapping[str, Any]) -> list[str]:
    """Return the scores of the first domain on the marginalized positions, as lines."""
    domain = document["scores"][0]["domain"]
    lines = [["strategy", "offset", "nats", "bits", "top-1 %", "top-5 %"]]
    for row in document["scores"]:
        if (row["domain"], row["positions"]) == (domain, "marginal"):
            shares = [f"{100 * row[name]:.1f}" for name in ("top1", "top5")]
            nats = [f"{row[name]:.{DIGITS}f}" for name in ("nats", "bits")]
            lines.append([row["strategy"], f"t+{row['offset']}", *nats, *shares])
    return aligned(lines)
