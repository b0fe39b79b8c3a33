"""Flags that several commands have, and what --figures does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from probekit.cli.help import MORE
from probekit.cli.printing import told

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run with other settings.")]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Settings in TOML; flags win.", rich_help_panel=MORE),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")]
Figures = Annotated[
    bool, typer.Option("--figures", help="Write the figures for papers too, and their numbers.")
]
Debug = Annotated[
    bool,
    typer.Option("--debug", help="Show where a stated problem arose.", rich_help_panel=MORE),
]


def output_option(text: str, metavar: str = "FOLDER") -> Any:
    """Return the flag -o, --output; `text` says what is written there, and where by default."""
    return typer.Option("--output", "-o", metavar=metavar, help=text)


def models_option(text: str, **more: Any) -> Any:
    """Return the flag for several models: -m, --model or --models, by commas or repeated."""
    return typer.Option("--models", "--model", "-m", metavar="A,B,...", help=text, **more)


def write_figures(document: Mapping[str, Any], beside: Path) -> None:
    """Write the figures of a document into a folder beside its page, and print where they are."""
    from probekit import reports
    from probekit.reports.cards import FIGURES

    folder = beside / FIGURES
    written = reports.write_figures(document, folder)
    if written:
        told("Figures", folder, f" ({written} files)")
    else:
        typer.echo("Figures: none, it is a table")
