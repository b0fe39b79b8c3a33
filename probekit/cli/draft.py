"""`probekit draft`: measure what drafting with probes, heads and floors gains."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from probekit.cli.flags import with_settings
from probekit.cli.options import (
    Config,
    DryRun,
    Figures,
    Overwrite,
    output_option,
    write_figures,
)
from probekit.cli.printing import aligned, begin, show, told
from probekit.pipelines.drafting.settings import DraftSettings
from probekit.settings import from_file

# Settings of any run that mean nothing here, and the run, which is the command's argument.
LEFT_OUT = {"marginal", "nucleus", "max_branches", "marginal_positions", "run"}
FLAGS = [field.name for field in fields(DraftSettings) if field.name not in LEFT_OUT]
SHOWN = {"layers": "half, three quarters and all of the depth"}


@with_settings(DraftSettings, *FLAGS, shown=SHOWN)
def draft(  # noqa: PLR0913, PLR0917 -- every parameter is a flag
    settings: dict[str, Any],
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN", help="A finished analysis, whose model and probes are taken."
        ),
    ] = None,
    output: Annotated[
        Path | None, output_option("Run folder; by default runs/<model>-draft.")
    ] = None,
    overwrite: Overwrite = False,
    config: Config = None,
    dry_run: DryRun = False,
    figures: Figures = False,
) -> None:
    """Let readouts draft tokens that the model verifies, and time it beside greedy decoding."""
    given = (from_file(config, DraftSettings) if config else {}) | settings
    if run is not None:
        given["run"] = str(run)
    begin(given.get("run") or given.get("model", DraftSettings.model))
    from transformers.utils import logging

    from probekit.pipelines.drafting import draft as measured
    from probekit.runs.setup import load_model

    logging.disable_progress_bar()
    record = DraftSettings.from_mapping(measured.with_run(given))
    loaded = load_model(record)
    if dry_run:
        typer.echo("\n".join(measured.dry_run(loaded, record)))
        return
    found = measured.run(loaded, record, output, overwrite, typer.echo)
    show(found.document, table(found.document))
    if figures:
        write_figures(found.document, found.folder)
    told("Report", found.report)


def table(document: Mapping[str, Any]) -> list[str]:
    """Return what drafted, of the first domain, as lines."""
    rows = document["drafters"]
    lines = [["drafter", "shape", "foretold", "accepted", "tokens/pass", "speed", "pass costs"]]
    for row in rows:
        if row["domain"] == rows[0]["domain"]:
            names = "predicted", "accepted", "tokens_per_forward", "speed", "pass_cost"
            numbers = ["-" if row[name] is None else f"{row[name]:.2f}" for name in names]
            lines.append([row["drafter"], "-".join(map(str, row["widths"])), *numbers])
    return aligned(lines)
