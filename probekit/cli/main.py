"""The commands of `probekit`: parse, one library call, print.

Exit codes: 0 done, 1 a stated problem, 2 usage, 130 interrupted, 143 told to end by SIGTERM
(analyze, sweep, heads, draft and reproduce go on from there when they are called again).
"""

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from probekit import files
from probekit.cli import compare
from probekit.cli.allocation import keep_freed_buffers
from probekit.cli.doctor import doctor
from probekit.cli.draft import draft
from probekit.cli.flags import with_settings
from probekit.cli.heads import heads
from probekit.cli.help import HELP_NAMES, Command, Group, HelpAll
from probekit.cli.options import (
    Config,
    Debug,
    DryRun,
    Figures,
    Overwrite,
    output_option,
    write_figures,
)
from probekit.cli.printing import aligned, begin, coloured, load, show, told
from probekit.cli.push import push
from probekit.cli.reproduce import reproduce
from probekit.cli.stopping import exit_code
from probekit.errors import ProbekitError, SettingsError, memory_stated
from probekit.hub import PREFIX
from probekit.privacy import without_secrets
from probekit.runs.ranks import last_words, number_and_count
from probekit.settings import Settings, from_file

app = typer.Typer(
    name="probekit",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Messages of an interrupted command: one without a run folder, one that resumes its stages.
INTERRUPTED = "interrupted"
RESUMABLE = "interrupted; the same command goes on from here"


def command(
    interrupted: str = INTERRUPTED, shared: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command with --debug and --help-all.

    Args:
        interrupted: What it says when it is interrupted.
        shared: Whether several processes can share its work.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(debug: bool, help_all: bool, **arguments: Any) -> None:  # noqa: ARG001 -- see main
            count = number_and_count()[1]
            if count > 1 and not shared:
                raise SettingsError(
                    f"{function.__name__} runs in one process, got {count} of a launcher: call it "
                    "without (analyze and sweep share their work among processes)"
                )
            try:
                with memory_stated():
                    function(**arguments)
            except KeyboardInterrupt as stop:
                # Outside of a command typer would turn it into a silent exit.
                _last_words(interrupted)
                raise typer.Exit(exit_code(stop)) from None

        added = {"debug": Debug, "help_all": HelpAll}
        signature = inspect.signature(function)
        parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
            for name, kind in added.items()
        ]
        run.__annotations__ = function.__annotations__ | added
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*signature.parameters.values(), *parameters]
        )
        app.command(cls=Command, context_settings=HELP_NAMES)(run)
        return function

    return register


def _print_version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        typer.echo(f"probekit {version('probekit-mtp')}")
        raise typer.Exit
    return asked


@app.callback(context_settings=HELP_NAMES)
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """How far ahead can a model's hidden layers see, and how much can be read out in one go?"""


def main() -> None:
    """Run the command line; an error of ours is one message, not a traceback."""
    # GNU OpenMP reads it once, when torch is imported. Its idle threads would spin, and beside
    # other work on a machine with few cores take the time from those that have something to do.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_buffers()
    for stream in (sys.stdout, sys.stderr):
        # What its encoding lacks, as an arrow in Latin-1, is written out and stops nothing.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if number_and_count()[0] > 0:
        # Of several processes of a run the first one tells how it goes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    try:
        app()
    except ProbekitError as error:
        if "--debug" in sys.argv:
            typer.echo(without_secrets(traceback.format_exc()), err=True)
        _last_words(str(error))
        sys.exit(2 if isinstance(error, SettingsError) else 1)


def _last_words(message: str) -> None:
    """Say why this process ends, unless another one of its run said why all of them do."""
    if last_words():
        name = coloured("probekit:", "red", err=True)
        typer.echo(f"{name} {without_secrets(message)}", err=True)


@command(RESUMABLE, shared=True)
@with_settings(Settings)
def analyze(
    settings: dict[str, Any],
    output: Annotated[Path | None, output_option("Run folder; by default runs/<model>.")] = None,
    overwrite: Overwrite = False,
    config: Config = None,
    dry_run: DryRun = False,
    figures: Figures = False,
) -> None:
    """Measure how far ahead each layer of a model sees, and write a report."""
    record = Settings.from_mapping((from_file(config, Settings) if config else {}) | settings)
    begin(record.model)
    from probekit.pipelines.analysis import analyze

    loaded = load(record)
    if dry_run:
        typer.echo("\n".join(analyze.dry_run(loaded, record)))
        return
    run = analyze.run(loaded, record, output, overwrite, typer.echo)
    show(run.results, _offsets(run.results["offsets"]))
    if figures:
        write_figures(run.results, run.folder)
    told("Report", run.report)


command()(doctor)


@command()
def models() -> None:
    """List the models with short names, ladder by ladder."""
    from probekit.models.catalogue import entries

    for model in entries():
        source = model.repository or "built in"
        gated = "  (gated: log in to the Hub)" if model.gated else ""
        size = f"{model.parameters / 1e6:,.1f}M"
        typer.echo(f"{model.name:<16} {model.family:<10} {size:>12}  {source}{gated}")


@command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    figures: Figures = False,
) -> None:
    """Render the report of a finished run, study of heads or measured draft again."""
    begin(str(run))
    from probekit.pipelines.publishing.read_job import read_job

    document, page = read_job(run)
    # What is fetched from the Hub is not written into: its page goes into the working folder.
    folder = Path() if str(run).startswith(PREFIX) else run
    files.write_text(folder / "report.html", page)
    if figures:
        write_figures(document, folder)
    told("Report", folder / "report.html")


command()(compare.compare)
command(RESUMABLE, shared=True)(compare.sweep)
for _function in (heads, draft, reproduce):
    command(RESUMABLE)(_function)
command()(push)


def _offsets(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what was found at each offset as a table, and what is lost late."""
    head = ("Ahead", "Best layer", "Read beyond the floor", "Known beyond it", "Share", "Top-1")
    late = [f"t+{row['offset']}, late loss: {row['late_loss']}" for row in rows]
    return [*aligned([head, *(_cells(row) for row in rows)]), *late]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    top1 = row["top1"]
    beside = f"floor {100 * top1['floor']:.1f}"
    beside += "" if top1["ceiling"] is None else f", model {100 * top1['ceiling']:.1f}"
    best = f"{100 * top1['best']:.1f} % ({beside})"
    return f"t+{row['offset']}", row["best"], row["read"], row["known"], row["share"] or "-", best
