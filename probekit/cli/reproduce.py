"""`probekit reproduce`: the paper's protocol repeated, beside the paper's numbers."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from probekit.cli.flags import tokens, with_settings
from probekit.cli.options import DryRun, Figures, models_option, output_option, write_figures
from probekit.cli.printing import begin, told
from probekit.cli.values import count, listed
from probekit.pipelines.head_study.settings import HeadSettings

Figure = Literal["figure-1", "figure-2", "table-1"]


Models = Annotated[
    list[str] | None,
    models_option("Models.", show_default="the built-in ladder; tiny for table-1"),
]
Samples = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Samples whose last 20 tokens are scored.",
        show_default="10; 50 for table-1",
    ),
]
Extended = Annotated[
    str, typer.Option(metavar="N", help="Target tokens to score besides, at least; 0 for none.")
]
Branches = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="Most tokens summed over.", show_default="as many as memory allows"
    ),
]
Heads = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B,...",
        help="For table-1: run folders of `probekit heads`.",
        show_default="trained first",
    ),
]
Output = Annotated[Path | None, output_option("Folder; by default runs/reproduce-<figure>.")]


@with_settings(
    HeadSettings, "text", "text_field", "source_field", "target_field", "nucleus", "seed",
    "device", "dtype", "trust_remote_code", "quantization", "limit", "max_tokens", "block",
    shown={"max_tokens": f"{tokens(HeadSettings)}, for training", "text": "built-in prose"},
)  # fmt: skip
def reproduce(  # noqa: PLR0913, PLR0917 -- every parameter is a flag
    settings: dict[str, Any],
    figure: Annotated[
        Figure, typer.Argument(metavar="FIGURE", help="figure-1, figure-2 or table-1.")
    ],
    models: Models = None,
    samples: Samples = None,
    extended: Extended = "2000",
    max_branches: Branches = None,
    heads: Heads = None,
    output: Output = None,
    dry_run: DryRun = False,
    figures: Figures = False,
) -> None:
    """Repeat the paper's figure 1, figure 2 or table 1 beside its numbers."""
    begin(f"what {figure} takes")
    from transformers.utils import logging

    from probekit.pipelines.reproduction import reproduce as pipeline
    from probekit.reports.reproduction.page import terminal_lines

    logging.disable_progress_bar()
    asked = settings | {
        "samples": _count("--samples", samples),
        "extended": _count("--extended", extended),
        "max_branches": _count("--max-branches", max_branches),
        "heads": listed(heads or ()),
    }
    if dry_run:
        typer.echo("\n".join(pipeline.dry_run(figure, listed(models or ()), **asked)))
        return
    reproduction = pipeline.reproduce(
        figure, listed(models or ()), output=output, say=typer.echo, **asked
    )
    typer.echo("\n" + "\n".join(terminal_lines(reproduction.document)) + "\n")
    if figures:
        write_figures(reproduction.document, reproduction.folder)
    told("Report", reproduction.report)


def _count(name: str, text: str | None) -> int | None:
    return None if text is None else int(count(name, text))
