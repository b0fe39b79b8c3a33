"""Print what a command loads, and its outcome: verdict, aligned table, warnings."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from probekit.settings import RunSettings

if TYPE_CHECKING:
    from probekit.models.loading import Loaded


def coloured(text: str, colour: str, bold: bool = False, err: bool = False) -> str:
    """Return a text in colour, where a person looks at a terminal and has not said NO_COLOR."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return typer.style(text, fg=colour, bold=bold or None)


def begin(what: str) -> None:
    """Say that work begins, before what takes seconds to import is."""
    typer.echo(f"Loading {what}")


def told(name: str, path: Path, more: str = "") -> None:
    """Print where something was written."""
    typer.echo(f"{name}: {coloured(str(path), 'cyan')}{more}")


def show(document: Mapping[str, Any], table: Sequence[str]) -> None:
    """Print the verdict of a document, the lines of a table, and the warnings."""
    typer.echo("")
    for sentence in document["verdict"][:1]:
        typer.echo(coloured(sentence, "green", bold=True))
    for sentence in document["verdict"][1:]:
        typer.echo(sentence)
    typer.echo("")
    for line in table:
        typer.echo(f"  {line}")
    for warning in document["warnings"]:
        typer.echo(f"  {coloured('warning:', 'yellow')} {warning['message']}")
    typer.echo("")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines, the first column to the left and the others to the right.

    >>> aligned([["run", "n"], ["a", "10"]])
    ['run   n', 'a    10']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def load(settings: RunSettings) -> "Loaded":
    """Load the model of the settings, and print its name, size and device."""
    from transformers.utils import logging

    from probekit.runs.setup import load_model

    logging.disable_progress_bar()
    loaded = load_model(settings)
    source = loaded.repository or loaded.source
    revision = f" at {loaded.revision}" if loaded.revision else ""
    typer.echo(
        f"Model: {loaded.name} ({source}{revision}), {loaded.n_parameters:,} parameters, "
        f"{loaded.dtype} on {loaded.device}"
    )
    return loaded
