"""The job of `probekit reproduce`: a figure or table of the paper, measured beside its numbers.

    reproduction = probekit.reproduce("figure-1", ["tiny-s", "tiny-l"])

Source: Mehra, Alonso Garcia and Mauch (2025), arXiv 2502.09419v1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from probekit.errors import SettingsError
from probekit.models.as_found import plain_torch
from probekit.paper.protocol import Protocol
from probekit.pipelines.arguments import as_settings
from probekit.pipelines.reproduction import figure_runs, table_1
from probekit.pipelines.reproduction.document import FILE, write
from probekit.pipelines.reproduction.figure_runs import DEFAULT_TEXT, LADDER, FigureRequest
from probekit.progress import Say, heard
from probekit.reports.cards import InFolder
from probekit.runs.folder import require_no_other
from probekit.runs.lock import one_writer
from probekit.settings import RunSettings

TABLE_1 = "table-1"
# Samples that are scored: the paper's numbers.
SAMPLES = {"figure-1": 10, "figure-2": 10, TABLE_1: 50}
OF_PROTOCOL = ("nucleus", "seed")
FIELDS = ("source_field", "target_field")
LOADING = ("device", "dtype", "trust_remote_code", "quantization")
OF_TRAINING = ("limit", "max_tokens", "block")  # for table-1


@dataclass(frozen=True, repr=False)
class Reproduction(InFolder):
    """A figure or table of the paper, measured; `document` is the content of reproduction.json."""

    @cached_property
    def rows(self) -> pd.DataFrame:
        """What was measured, the paper's number beside it."""
        return pd.DataFrame(self.document["rows"])


@plain_torch()
def reproduce(  # noqa: PLR0913 -- what the paper leaves open
    figure: str,
    models: Sequence[str] = (),
    *,
    samples: int | None = None,
    extended: int = 2_000,
    max_branches: int | None = None,
    heads: Sequence[str | Path] = (),
    output: str | Path | None = None,
    say: Say | None = None,
    **settings: Any,
) -> Reproduction:
    """Repeat the paper's figure 1, figure 2 or table 1 beside its numbers.

    Args:
        figure: `figure-1`, `figure-2` or `table-1`.
        models: Short names, repositories or folders; by default the built-in ladder, for
            table-1 `tiny`.
        samples: Samples whose last 20 target tokens are scored; by default as many as the paper.
        extended: Target tokens to score besides, at least; 0 for none.
        max_branches: Most tokens summed over; by default as many as memory allows.
        heads: For table-1: run folders of studies of heads, in place of training them first.
        output: The folder; by default runs/reproduce-<figure>.
        say: Called with each line of progress; by default they are printed in IPython alone.
        **settings: text, text_field, source_field, target_field, nucleus, seed, device, dtype,
            trust_remote_code, quantization; for table-1 those of `probekit.study_heads`.

    Raises:
        ProbekitError: If something cannot be done as asked; the message says what to do.
    """
    settings = as_settings(RunSettings, settings)
    _require_possible(figure, models, heads, settings)
    folder = Path(output) if output else Path("runs") / f"reproduce-{figure}"
    say = heard(say)
    require_no_other(folder, FILE)
    protocol = _protocol(figure, samples, extended, max_branches, settings)
    with one_writer(folder):
        if figure == TABLE_1:
            train = partial(table_1.train, given=settings, folder=folder, say=say)
            runs = [Path(run) for run in heads] or [train(model) for model in models or ("tiny",)]
            document = table_1.document(runs, protocol, folder, say)
        else:
            request = _request(figure, models, protocol, settings)
            document = figure_runs.run(request, folder, say)
        write(document, folder)
    return Reproduction(folder, document)


@plain_torch()
def dry_run(
    figure: str,
    models: Sequence[str] = (),
    *,
    samples: int | None = None,
    extended: int = 2_000,
    max_branches: int | None = None,
    heads: Sequence[str | Path] = (),
    **settings: Any,
) -> list[str]:
    """Return what `reproduce` would measure or train, line by line, without doing it."""
    _require_possible(figure, models, heads, settings)
    protocol = _protocol(figure, samples, extended, max_branches, settings)
    scored = f"Plan: {protocol.samples} samples, and {extended:,} target tokens besides"
    if figure == TABLE_1:
        trained = [f"Heads of {run} are scored" for run in heads]
        return [scored, *(trained or table_1.plan(models or ("tiny",), settings))]
    return [scored, *figure_runs.plan(_request(figure, models, protocol, settings))]


def _protocol(
    figure: str,
    samples: int | None,
    extended: int,
    max_branches: int | None,
    settings: Mapping[str, Any],
) -> Protocol:
    count = SAMPLES[figure] if samples is None else samples
    own = {name: settings[name] for name in OF_PROTOCOL if name in settings}
    return Protocol(count, extended, max_branches=max_branches, **own)


def _require_possible(
    figure: str, models: Sequence[str], heads: Sequence[Any], settings: Mapping[str, Any]
) -> None:
    """Raise if training is set where nothing is trained, or heads come with how to train them."""
    if figure not in SAMPLES:
        raise SettingsError(f"figure must be one of {', '.join(SAMPLES)}, got {figure!r}")
    training = [*(name for name in OF_TRAINING if name in settings), *(["heads"] if heads else [])]
    if figure != TABLE_1 and training:
        flag = training[0].replace("_", "-")
        raise SettingsError(f"--{flag} is for table-1; {figure} trains nothing")
    more = [name for name in settings if name not in OF_PROTOCOL]
    if figure == TABLE_1 and heads and (models or more):
        given = ", ".join(f"--{name.replace('_', '-')}" for name in more) or "--model"
        raise SettingsError(f"--heads names trained heads, their model and text: leave out {given}")


def _request(
    figure: str, models: Sequence[str], protocol: Protocol, settings: Mapping[str, Any]
) -> FigureRequest:
    source, target = (settings.get(name, getattr(RunSettings, name)) for name in FIELDS)
    return FigureRequest(
        figure,
        models or LADDER,
        settings.get("text", DEFAULT_TEXT),
        settings.get("text_field", RunSettings.text_field),
        (source, target),
        protocol,
        {name: settings[name] for name in LOADING if name in settings},
    )
