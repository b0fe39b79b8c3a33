"""`probekit reproduce`: the paper's protocol beside the paper's numbers."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from probekit.cli.flags import tokens, with_settings
from probekit.errors import SettingsError
from probekit.pipelines.head_study.settings import HeadSettings
from probekit.settings import RunSettings

Figure = Literal["figure-1", "figure-2", "table-1"]
OF_PROTOCOL = ("nucleus", "seed")
FIELDS = ("source_field", "target_field")
LOADING = ("device", "dtype", "trust_remote_code")
OF_TRAINING = ("limit", "max_tokens", "block")  # for table-1


@with_settings(
    HeadSettings, "text", "text_field", *FIELDS, *OF_PROTOCOL, *LOADING, *OF_TRAINING,
    shown={"max_tokens": f"{tokens(HeadSettings)}, for training", "text": "built-in prose"},
)  # fmt: skip
def reproduce(  # noqa: PLR0913, PLR0917 -- every parameter is a flag
    settings: dict[str, Any],
    figure: Annotated[Figure, typer.Argument(help="What of the paper to repeat.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model; may be repeated.", show_default="the built-in ladder; tiny for table-1"
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Samples whose last 20 tokens are scored.", show_default="10; 50 for table-1"
        ),
    ] = None,
    extended: Annotated[
        int, typer.Option(help="Target tokens to score besides, at least; 0 for none.")
    ] = 2_000,
    max_branches: Annotated[
        int | None,
        typer.Option(help="Most tokens summed over.", show_default="as many as memory allows"),
    ] = None,
    heads: Annotated[
        list[Path] | None,
        typer.Option(
            help="For table-1: a run folder of `probekit heads`; may be repeated.",
            show_default="trained first",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder; by default runs/reproduce-<figure>.")
    ] = None,
) -> None:
    """Repeat the paper's figure 1, figure 2 or table 1 beside its numbers."""
    from transformers.utils import logging

    from probekit.paper.protocol import Protocol
    from probekit.pipelines.reproduction import reproduce
    from probekit.runs import folder as results

    logging.disable_progress_bar()
    folder = output or Path("runs") / f"reproduce-{figure}"
    results.require_no_other(folder, reproduce.FILE)
    own = {name: settings[name] for name in OF_PROTOCOL if name in settings}
    usual = 50 if figure == "table-1" else 10
    count = usual if samples is None else samples
    asked = Protocol(count, extended, max_branches=max_branches, **own)
    if figure == "table-1":
        _show(_table_1(asked, folder, heads, model, settings), folder)
    else:
        _require_untrained(figure, heads, settings)
        _show(_figure(figure, asked, folder, model, settings), folder)


def _require_untrained(figure: str, heads: list[Path] | None, settings: dict[str, Any]) -> None:
    given = [name for name in OF_TRAINING if name in settings] + (["heads"] if heads else [])
    if given:
        flag = given[0].replace("_", "-")
        raise SettingsError(f"--{flag} is for table-1; {figure} trains nothing")


def _figure(
    figure: str, asked: Any, folder: Path, model: list[str] | None, settings: dict[str, Any]
) -> dict[str, Any]:
    from probekit.pipelines.reproduction import reproduce

    source, target = (settings.get(name, getattr(RunSettings, name)) for name in FIELDS)
    wanted = reproduce.Asked(
        figure,
        model or reproduce.LADDER,
        settings.get("text", reproduce.DEFAULT_TEXT),
        settings.get("text_field", RunSettings.text_field),
        (source, target),
        asked,
        {name: settings[name] for name in LOADING if name in settings},
    )
    return reproduce.run(wanted, folder, typer.echo)


def _table_1(
    asked: Any,
    folder: Path,
    heads: list[Path] | None,
    model: list[str] | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    more = [name for name in settings if name not in OF_PROTOCOL]
    if heads and (model or more):
        given = ", ".join(f"--{name.replace('_', '-')}" for name in more) or "--model"
        raise SettingsError(f"--heads names trained heads, their model and text: leave out {given}")
    from probekit.pipelines.reproduction import table_1

    runs = heads or [
        table_1.train(name, settings, folder, typer.echo) for name in model or ["tiny"]
    ]
    return table_1.document(runs, asked, folder, typer.echo)


def _show(document: dict[str, Any], folder: Path) -> None:
    from probekit.pipelines.reproduction import reproduce
    from probekit.reports.reproduction import page as reproduction

    report = reproduce.write(document, folder)
    typer.echo("\n" + "\n".join(reproduction.lines(document)) + "\n")
    typer.echo(f"Report: {report}")
