"""`probekit doctor`: check every assumption on a model, or gather what a bug report needs."""

import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from probekit.cli.flags import with_settings
from probekit.cli.printing import begin, load
from probekit.settings import Settings


@with_settings(
    Settings, "text", "device", "dtype", "revision", "trust_remote_code", "quantization", "block"
)
def doctor(
    settings: dict[str, Any],
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Short name, repository or folder.")
    ] = "tiny",
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure models with known answers instead.")
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Also write versions, plan and checks there, for a bug report."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="A run folder, whose settings and log the bundle holds.")
    ] = None,
) -> None:
    """Check on this very model every assumption that an analysis makes."""
    begin("models with known answers" if calibrate else model)
    if calibrate:
        _calibrate()
        return
    record = Settings.from_mapping({"model": model} | settings)
    if bundle is None:
        passed, lines = _examine(record)
        typer.echo("\n".join(lines))
    else:
        passed = _bundle(record, bundle, run)
    if not passed:
        raise typer.Exit(1)


def _examine(record: Settings) -> tuple[bool, list[str]]:
    """Return whether all assumptions hold, as far as is known, and what is said of each."""
    from probekit.pipelines.analysis import analyze
    from probekit.runs import doctor

    checks, text_given = analyze.examine(load(record), record), bool(record.text)
    passed = all(check.passed or doctor.unsettled(check, text_given) for check in checks)
    return passed, doctor.lines(checks, text_given)


def _bundle(record: Settings, path: Path, run: Path | None) -> bool:
    """Write the bundle, whatever becomes of the checks, and return whether they passed."""
    from probekit.pipelines.analysis import analyze
    from probekit.runs import bundle

    sections = bundle.about() | (bundle.of_run(run) if run else {})
    sections["Settings of the checks"] = record.as_toml().splitlines()
    try:
        passed, sections["Checks"] = _examine(record)
        typer.echo("\n".join(sections["Checks"]))
        sections["Plan"] = analyze.dry_run(load(record), record)
    except BaseException:
        sections["What was raised"] = traceback.format_exc().splitlines()
        raise
    finally:
        bundle.write(path, sections)
        typer.echo(f"Bundle: {path} (read it before you share it)")
    return passed


def _calibrate() -> None:
    from probekit.pipelines.calibration import calibrate

    results = calibrate.calibrate()
    typer.echo("\n".join(calibrate.lines(results)))
    if not calibrate.passed(results):
        raise typer.Exit(1)
