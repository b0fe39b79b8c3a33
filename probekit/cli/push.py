"""`probekit push`: put a finished run on the Hub."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from probekit.cli.options import DryRun
from probekit.cli.printing import begin


def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where it goes.")],
    private: Annotated[bool, typer.Option("--private", help="Make a private repository.")] = False,
    without_passages: Annotated[
        bool, typer.Option("--without-passages", help="Leave out passages of the text.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Put a finished run on the Hub, with a card that says what it found."""
    begin(str(run))
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        disable_progress_bars,
    )

    from probekit.pipelines.publishing import push as publishing

    upload = publishing.gather(run, repository, not without_passages)
    typer.echo("\n".join(upload.lines))
    if not sys.stderr.isatty():
        disable_progress_bars()
    if not dry_run:
        typer.echo(f"Repository: {publishing.push(upload, private)}")
        typer.echo(f"It is read again as hub:{repository}")
