"""`probekit reproduce`: the paper's protocol beside the paper's numbers."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from probekit.cli.flags import with_settings
from probekit.errors import SettingsError
from probekit.settings import Settings

Figure = Literal["figure-1", "figure-2", "table-1"]
OF_PROTOCOL = ("nucleus", "seed")
FIELDS = ("source_field", "target_field")
LOADING = ("device", "dtype", "trust_remote_code")


@with_settings("text", "text_field", *FIELDS, *OF_PROTOCOL, *LOADING)
def reproduce(  # noqa: PLR0913, PLR0917 -- every parameter is a flag
    settings: dict[str, Any],
    figure: Annotated[Figure, typer.Argument(help="What of the paper to repeat.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model; may be repeated.", show_default="the built-in ladder"),
    ] = None,
    samples: Annotated[int, typer.Option(help="Samples whose last 20 tokens are scored.")] = 10,
    extended: Annotated[
        int, typer.Option(help="Target tokens to score besides, at least; 0 for none.")
    ] = 2_000,
    max_branches: Annotated[
        int | None,
        typer.Option(help="Most tokens summed over.", show_default="as many as memory allows"),
    ] = None,
    heads: Annotated[
        Path | None, typer.Option(help="For table-1: the run folder of trained heads.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder; by default runs/reproduce-<figure>.")
    ] = None,
) -> None:
    """Repeat the paper's figure 1, figure 2 or table 1 beside its numbers."""
    from probekit.protocol import Protocol

    folder = output or Path("runs") / f"reproduce-{figure}"
    if figure == "table-1":
        _show(_table_1(heads), folder)
        return
    if heads is not None:
        raise SettingsError(f"--heads is for table-1; {figure} trains nothing")
    from transformers.utils import logging

    from probekit import reproduce as door

    logging.disable_progress_bar()
    own = {name: settings[name] for name in OF_PROTOCOL if name in settings}
    source, target = (settings.get(name, getattr(Settings, name)) for name in FIELDS)
    asked = door.Asked(
        figure,
        model or door.LADDER,
        settings.get("text", door.DEFAULT_TEXT),
        settings.get("text_field", Settings.text_field),
        (source, target),
        Protocol(samples, extended, max_branches=max_branches, **own),
        {name: settings[name] for name in LOADING if name in settings},
    )
    _show(door.run(asked, folder, typer.echo), folder)


def _table_1(heads: Path | None) -> dict[str, Any]:
    if heads is None:
        raise SettingsError(
            "table-1 compares strategies of training heads: it needs the results of `probekit "
            "heads` (--heads RUN), and trains none itself"
        )
    from probekit import reproduce, strategies

    return reproduce.document("table-1", strategies.table_1(strategies.read(heads)), [])


def _show(document: dict[str, Any], folder: Path) -> None:
    from probekit import reproduce
    from probekit.reports import reproduction

    report = reproduce.write(document, folder)
    typer.echo("\n" + "\n".join(reproduction.lines(document)) + "\n")
    typer.echo(f"Report: {report}")
