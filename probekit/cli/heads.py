"""`probekit heads`: train heads by several strategies and score them beside the ceiling."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from probekit.cli.export_figures import Figures, write_figures
from probekit.cli.flags import described, tokens, with_settings
from probekit.cli.printing import aligned, show
from probekit.errors import SettingsError
from probekit.pipelines.head_study.settings import SHARED, TOKENS_ON_CPU, USUAL, HeadSettings, split
from probekit.settings import from_file

DIGITS = 3
SHOWN = {"offsets": str(USUAL["offsets"]), "max_tokens": tokens(TOKENS_ON_CPU)}
_said = partial(described, HeadSettings)


@with_settings(*SHARED, shown=SHOWN)
def heads(  # noqa: PLR0913, PLR0917 -- one a flag
    settings: dict[str, Any],
    strategy: Annotated[
        list[str] | None,
        typer.Option(help=_said("strategies"), show_default="those that suit the kind"),
    ] = None,
    kind: Annotated[str | None, typer.Option(help=_said("kind"), show_default="block")] = None,
    init: Annotated[str | None, typer.Option(help=_said("init"), show_default="zero")] = None,
    read: Annotated[int | None, typer.Option(help=_said("read"), show_default=False)] = None,
    own_unembedding: Annotated[
        bool, typer.Option("--own-unembedding", help=_said("own_unembedding"))
    ] = False,
    epochs: Annotated[int | None, typer.Option(help=_said("epochs"), show_default="2")] = None,
    step_blocks: Annotated[
        int | None, typer.Option(help=_said("step_blocks"), show_default="2")
    ] = None,
    rate: Annotated[str | None, typer.Option(help=_said("rate"), show_default="width")] = None,
    sweep: Annotated[str | None, typer.Option(help=_said("sweep"), show_default="default")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Run folder; by default runs/<model>-heads.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a run with other settings.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings in TOML; flags win.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    figures: Figures = False,
) -> None:
    """Train heads by several strategies, and score them beside the marginalized model."""
    own = {
        "strategies": tuple(strategy or ()) or None, "kind": kind, "init": init, "read": read,
        "own_unembedding": own_unembedding or None, "epochs": epochs,
        "step_blocks": step_blocks, "rate": _rate(rate), "sweep": sweep,
    }  # fmt: skip
    given = {name: value for name, value in own.items() if value is not None}
    asked, of_heads = split((from_file(config) if config else {}) | settings | given)
    from transformers.utils import logging

    from probekit import reports
    from probekit.pipelines.head_study import study_heads
    from probekit.runs.setup import load_model

    logging.disable_progress_bar()
    loaded = load_model(asked)
    if dry_run:
        typer.echo("\n".join(study_heads.dry_run(loaded, asked, of_heads)))
        return
    run = study_heads.run(loaded, asked, of_heads, output, overwrite, typer.echo)
    show(run.document, table(run.document))
    if figures:
        write_figures(reports.paper_heads(run.document), run.folder / "figures")
    typer.echo(f"Report: {run.report}")


def _rate(given: str | None) -> str | float | None:
    """Return a number as one; names stay words, and are checked with the other settings."""
    if given is None or not re.fullmatch(r"[-+.\d].*", given):
        return given
    try:
        return float(given)
    except ValueError:
        raise SettingsError(f"--rate must be a number or a preset, got {given!r}") from None


def table(document: Mapping[str, Any]) -> list[str]:
    """Return the strategies of the first domain, a line a strategy and offset.

    They are scored where the model was marginalized.
    """
    domain = document["scores"][0]["domain"]
    lines = [["strategy", "offset", "nats", "bits", "top-1 %", "top-5 %"]]
    for row in document["scores"]:
        if (row["domain"], row["positions"]) == (domain, "marginal"):
            shares = [f"{100 * row[name]:.1f}" for name in ("top1", "top5")]
            nats = [f"{row[name]:.{DIGITS}f}" for name in ("nats", "bits")]
            lines.append([row["strategy"], f"t+{row['offset']}", *nats, *shares])
    return aligned(lines)
