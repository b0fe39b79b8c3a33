"""The flag --figures: figures for print, written beside the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Figures = Annotated[
    bool, typer.Option("--figures", help="Write the figures for papers too, and their numbers.")
]


def write_figures(document: Mapping[str, Any], folder: Path) -> None:
    """Write the figures of a document into a folder, and print where they are."""
    from probekit.files import write_bytes
    from probekit.reports import figure_files

    files = figure_files(document)
    for name, content in files.items():
        write_bytes(folder / name, content)
    typer.echo(f"Figures: {folder} ({len(files)} files)")
