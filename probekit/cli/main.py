"""The commands of `probekit`: parse, one library call, print.

Exit codes: 0 done, 1 a stated problem, 2 usage, 130 interrupted (analyze, sweep, heads and
reproduce go on from there when they are called again).
"""

import inspect
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from probekit import files
from probekit.cli import compare
from probekit.cli.export_figures import Figures, write_figures
from probekit.cli.flags import with_settings
from probekit.cli.heads import heads
from probekit.cli.reproduce import reproduce
from probekit.errors import ProbekitError, SettingsError
from probekit.settings import RunSettings, Settings, from_file

app = typer.Typer(
    name="probekit",
    help="How far ahead can a model's hidden layers see, and how much can be read out in one go?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Output = Annotated[Path | None, typer.Option(help="Run folder; by default runs/<model>.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where a stated problem arose.")]

# What a command says when it is interrupted: those that keep what they finished go on behind it.
INTERRUPTED = "interrupted"
RESUMABLE = "interrupted; the same command goes on from here"


def command(
    interrupted: str = INTERRUPTED,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command that takes --debug and says that it was interrupted."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(debug: bool, **given: Any) -> None:  # noqa: ARG001 -- read in main
            try:
                function(**given)
            except KeyboardInterrupt:
                # Outside of a command typer makes a silent exit of it.
                typer.echo(f"probekit: {interrupted}", err=True)
                raise typer.Exit(130) from None

        signature = inspect.signature(function)
        debug = inspect.Parameter(
            "debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug
        )
        parameters = [*signature.parameters.values(), debug]
        run.__annotations__ = function.__annotations__ | {"debug": Debug}
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        app.command()(run)
        return function

    return register


def main() -> None:
    """Run the command line; a stated problem is one message, not a traceback."""
    # GNU OpenMP reads it once, when torch is imported. Its idle threads would spin, and beside
    # other work on a machine with few cores take the time from those that have something to do.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except ProbekitError as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"probekit: {error}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)


@command(RESUMABLE)
@with_settings(Settings)
def analyze(
    settings: dict[str, Any],
    output: Output = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a run with other settings.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings in TOML; flags win.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    figures: Figures = False,
) -> None:
    """Measure how far ahead each layer of a model sees, and write a report."""
    asked = Settings.from_mapping((from_file(config) if config else {}) | settings)
    from probekit import reports
    from probekit.pipelines.analysis import analyze as analysis

    loaded = _load(asked)
    if dry_run:
        typer.echo("\n".join(analysis.dry_run(loaded, asked)))
        return
    run = analysis.run(loaded, asked, output, overwrite, typer.echo)
    _print_findings(run.results)
    if figures:
        write_figures(reports.figure_files(run.results), run.folder / "figures")
    typer.echo(f"Report: {run.report}")


@command()
@with_settings(Settings, "text", "device", "dtype", "revision", "trust_remote_code", "block")
def doctor(
    settings: dict[str, Any],
    model: Annotated[str, typer.Argument(help="Short name, repository or folder.")] = "tiny",
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure models with known answers instead.")
    ] = False,
) -> None:
    """Check on this very model every assumption that an analysis makes."""
    if calibrate:
        _calibrate()
        return
    asked = Settings.from_mapping({"model": model} | settings)
    from probekit.pipelines.analysis import analyze as analysis
    from probekit.runs import doctor

    loaded = _load(asked)
    checks = analysis.examine(loaded, asked)
    typer.echo("\n".join(doctor.lines(checks)))
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


@command()
def models() -> None:
    """List the models with short names, ladder by ladder."""
    from probekit.models.catalogue import entries

    for model in entries():
        place = model.repository or "built in"
        gated = "  (gated: log in to the Hub)" if model.gated else ""
        size = f"{model.parameters / 1e6:,.1f}M"
        typer.echo(f"{model.name:<16} {model.family:<10} {size:>12}  {place}{gated}")


@command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    figures: Figures = False,
) -> None:
    """Render the report of a finished run, or of a study of heads, again."""
    from probekit import reports
    from probekit.pipelines.head_study import study_heads
    from probekit.reports.heads.page import render_heads
    from probekit.runs import folder

    if (run / study_heads.FILE).exists():
        study = study_heads.load(run)
        files.write_text(study.report, render_heads(study.document))
        if figures:
            write_figures(reports.figure_files(study.document), run / "figures")
    else:
        finished = folder.load(run)
        files.write_text(finished.report, reports.render(finished.results, finished.passages))
        if figures:
            write_figures(reports.figure_files(finished.results), run / "figures")
    typer.echo(f"Report: {run / 'report.html'}")


command()(compare.compare)
for _function in (compare.sweep, heads, reproduce):
    command(RESUMABLE)(_function)


def _calibrate() -> None:
    from probekit.pipelines.calibration import calibrate

    results = calibrate.calibrate()
    typer.echo("\n".join(calibrate.lines(results)))
    if not calibrate.passed(results):
        raise typer.Exit(1)


def _load(asked: RunSettings) -> Any:
    from transformers.utils import logging

    from probekit.runs.setup import load_model

    logging.disable_progress_bar()
    loaded = load_model(asked)
    place = loaded.repository or loaded.source
    revision = f" at {loaded.revision}" if loaded.revision else ""
    typer.echo(
        f"Model: {loaded.name} ({place}{revision}), {loaded.n_parameters:,} parameters, "
        f"{loaded.dtype} on {loaded.device}"
    )
    return loaded


def _print_findings(results: Any) -> None:
    typer.echo("")
    for sentence in results["verdict"]:
        typer.echo(sentence)
    typer.echo("")
    for headline in results["headlines"]:
        interval = f"[{headline['low']:.3f}, {headline['high']:.3f}]"
        value = f"{headline['value']:.3f} {headline['unit']} {interval}"
        typer.echo(f"  {headline['label']:<32} {value:<36} {headline['note']}")
    for warning in results["warnings"]:
        typer.echo(f"  warning: {warning['message']}")
    typer.echo("")
