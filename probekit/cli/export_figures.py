"""The flag --figures: figures for papers, beside the page that shows them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

Figures = Annotated[
    bool, typer.Option("--figures", help="Write the figures for papers too, and their numbers.")
]


def write_figures(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files of figures, and say where they are."""
    from probekit.files import write_bytes

    for name, content in files.items():
        write_bytes(folder / name, content)
    typer.echo(f"Figures: {folder} ({len(files)} files)")
