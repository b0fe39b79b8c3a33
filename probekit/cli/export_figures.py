"""The flag --figures: figures for papers, beside the page that shows them."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

Figures = Annotated[
    bool, typer.Option("--figures", help="Write the figures for papers too, and their numbers.")
]


def write_figures(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files of figures, and say where they are."""
    from probekit.files import write

    for name, content in files.items():
        write(folder / name, partial(_put, content))
    typer.echo(f"Figures: {folder} ({len(files)} files)")


def _put(content: bytes, path: Path) -> None:
    path.write_bytes(content)
