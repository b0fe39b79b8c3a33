"""Print the outcome of a command: verdict, aligned table, warnings."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer


def show(document: Mapping[str, Any], table: Sequence[str]) -> None:
    """Print the verdict of a document, the lines of a table, and the warnings."""
    typer.echo("")
    for sentence in document["verdict"]:
        typer.echo(sentence)
    typer.echo("")
    for line in table:
        typer.echo(f"  {line}")
    for warning in document["warnings"]:
        typer.echo(f"  warning: {warning['message']}")
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
