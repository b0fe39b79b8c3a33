"""The main job: measure how far ahead a model's hidden layers see on a text.

documents → token blocks → residual stream → readouts → scores → run folder → report
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn
from transformers import PreTrainedTokenizerBase

from probekit import files, reports
from probekit.checks import Check
from probekit.data import lost_text
from probekit.errors import ModelError, SettingsError
from probekit.models import loading
from probekit.models.anatomy import find_anatomy
from probekit.models.as_found import Model
from probekit.models.loading import Loaded, wrap
from probekit.pipelines import further
from probekit.pipelines.analysis import causality, estimate, fits, more_text, verdict
from probekit.pipelines.analysis import document as assembly
from probekit.pipelines.analysis.finished import Run, load
from probekit.pipelines.analysis.measure import Measured, measure, stage_count
from probekit.pipelines.arguments import in_python
from probekit.pipelines.fitted import FittedProbes
from probekit.probes.files import read_probes, write_probes
from probekit.progress import Journal, Say, heard
from probekit.readout import LINEAR
from probekit.runs import doctor
from probekit.runs.folder import (
    DOCUMENTS,
    MARGINAL_POSITIONS,
    RESULTS,
    default_folder,
    finish,
    is_finished,
    require_unchanged,
    start,
)
from probekit.runs.lock import one_writer
from probekit.runs.metadata import documents_table, with_places
from probekit.runs.ranks import joined
from probekit.runs.setup import (
    load_model,
    prepare,
    require_analysable,
    spread_layers,
    with_machine_defaults,
)
from probekit.runs.stages import Stages
from probekit.runs.streams import SITE_OF_MODEL
from probekit.settings import Settings


def analyze(
    model: Model = "tiny",
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    figures: bool = False,
    say: Say | None = None,
    **settings: Any,
) -> Run:
    """Measure how well each layer of a model predicts the tokens at t+1 … t+K.

    Args:
        model: Short name, Hub repository, local folder, or a causal model of transformers.
        tokenizer: The tokenizer of a model given as an object.
        output: The run folder; by default runs/<model>.
        overwrite: Replace a run with other settings that `output` holds.
        figures: Write the figures for print too, into the folder `figures` of the run.
        say: Called with each line of progress; by default they are printed in IPython alone.
        **settings: Fields of `probekit.settings.Settings`.

    Returns:
        The finished run, its report rendered. A run that is there already is read, not
        repeated; work that an interrupted run finished is not done again.

    Raises:
        ProbekitError: If something cannot be done as asked; the message says what to do.
    """
    with in_python(Settings, model, tokenizer, settings) as (given, loaded):
        chosen = Settings.from_mapping(given)
        finished = run(loaded or load_model(chosen), chosen, output, overwrite, heard(say))
    if figures:
        finished.write_figures()
    return finished


def run(
    loaded: Loaded, settings: Settings, output: str | Path | None, overwrite: bool, say: Say
) -> Run:
    """Analyze a loaded model; see `analyze`."""
    settings, ranks = _resolved(settings, loaded), joined()
    folder = Path(output) if output else ranks.same(lambda: default_folder(settings))
    if ranks.first:
        with one_writer(folder):
            return _run(loaded, settings, folder, overwrite, say)
    return _run(loaded, settings, folder, overwrite, lambda _: None)


def _run(loaded: Loaded, settings: Settings, folder: Path, overwrite: bool, say: Say) -> Run:
    ranks = joined()
    if ranks.same(lambda: is_finished(folder, settings, overwrite)):
        finished = load(folder)
        now = prepare(loaded, settings, settings.layers, settings.sites)
        require_unchanged(folder, finished.results, now.fingerprint, now.text)
        say(f"{folder} holds this run already")
        return finished
    journal = Journal(folder / "log.jsonl" if ranks.first else None, say)
    with journal.stage("prepare"):
        setup = prepare(loaded, settings, settings.layers, settings.sites, folder, ranks)
        test = setup.blocks["test"]
        of_model = doctor.check_model(loaded, setup.anatomy, test.token_ids, test.valid(1))
        checks = [*of_model, setup.parting.check, *causality.checks(setup, settings)]
        warnings = require_analysable(checks)
        further.require(settings, setup)
    if ranks.first:
        start(folder, settings)
        say(f"{setup.plan.line()} {estimate.line(estimate.seconds(setup, settings))}")
    journal.expected = stage_count(setup, settings)
    stages = Stages.of_run(folder, journal, setup, settings, ranks)
    measured = measure(setup, settings, stages)
    if ranks.first:
        _report(folder, measured, stages, checks, warnings)
    ranks.meet()
    return load(folder)


def _report(
    folder: Path,
    measured: Measured,
    stages: Stages,
    checks: Sequence[Check],
    warnings: Sequence[dict[str, str]],
) -> None:
    """Draw the conclusions, and write the run folder."""
    settings, journal = measured.settings, stages.journal
    left_out = fits.left_out(settings, measured.setup, list(measured.probes))
    fitted = ((fit.name, probes.probes) for fit, probes in measured.probes.items())
    warnings = [*warnings, *left_out, *fits.unconverged(fitted), *measured.sites.warnings]
    findings = verdict.findings(
        measured.sums,
        measured.setup.anatomy.n_layers,
        settings.offsets,
        verdict.Beside(measured.ceiling_errors, more_text.clauses(measured.learning)),
        at_output=settings.sites[0] == SITE_OF_MODEL,
        target=settings.target,
    )
    document = assembly.document(measured, findings, checks, warnings, journal)
    with journal.stage("report"):
        page = reports.render(document, measured.passages)
    _write(folder, measured, document, page)


def _resolved(settings: Settings, loaded: Loaded) -> Settings:
    """Return settings with what depends on machine and model made plain."""
    settings = with_machine_defaults(settings, loaded)
    return replace(settings, layers=settings.layers or spread_layers(loaded, settings.sites[0]))


def dry_run(loaded: Loaded, settings: Settings) -> list[str]:
    """Return what a run would take, line by line, without running it."""
    settings = _resolved(settings, loaded)
    setup = prepare(loaded, settings, settings.layers, settings.sites, Path.cwd())
    further.require(settings, setup)
    plan = f"{setup.plan.line()} {estimate.line(estimate.seconds(setup, settings))}"
    return [plan, *setup.lines]


def examine(loaded: Loaded, settings: Settings) -> list[Check]:
    """Check every assumption on this model, and the branch engine on its first test block."""
    settings = _resolved(settings, loaded)
    setup = prepare(loaded, settings, settings.layers, settings.sites)
    token_ids = setup.blocks["test"].token_ids
    checks = doctor.check_model(loaded, setup.anatomy, token_ids)
    of_text = [setup.parting.check, *lost_text.checks(setup.documents)]
    return [*checks, *of_text, setup.branches().check_first(token_ids[0])]


def _write(folder: Path, measured: Measured, document: dict[str, Any], page: str) -> None:
    """Write the run folder; results.json, which says that it is whole, comes last."""
    setup = measured.setup
    for fit in measured.probes:
        # Where a family is fitted with several seeds, the first one's probes are kept.
        if fit.name == fit.family and fit.seed == measured.settings.seed:
            about = fits.notes(fit, setup, measured.settings.sites[0])
            save = partial(write_probes, measured.probes[fit], metadata=about)
            files.write(folder / _probes_file(fit.family), save)
    files.write(folder / "scores.parquet", measured.sums.named().to_parquet)
    files.write(folder / DOCUMENTS, documents_table(setup).to_parquet)
    if measured.ceilings:
        positions = pd.concat([each.positions for each in measured.ceilings], ignore_index=True)
        files.write(folder / MARGINAL_POSITIONS, with_places(positions, setup).to_parquet)
    passages = files.as_json(measured.passages, indent=None)
    files.write_text(folder / "passages.json", passages)
    files.write_text(folder / "report.html", page)
    finish(folder, RESULTS, document)


def _probes_file(family: str) -> str:
    return "probes.safetensors" if family == LINEAR else f"probes-{family}.safetensors"


def load_probes(
    folder: str | Path,
    loaded: Loaded | None = None,
    family: str = "linear",
    *,
    model: nn.Module | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> FittedProbes:
    """Return the probes of a run: `predict_text` says what they read in any text.

    Args:
        folder: A run folder.
        loaded: The model that the run analysed; loaded again if not given.
        family: A family that the run fitted.
        model: The same, as an object.
        tokenizer: The tokenizer of a model given as an object.

    Raises:
        SettingsError: If a model comes without its tokenizer.
        RunError: If there are no probes, or they were fitted to another model.
        ModelError: If the model cannot be loaded again, as one that was given as an object.
    """
    finished = load(folder)
    if model is not None:
        if tokenizer is None:
            raise SettingsError("a model given as an object needs its tokenizer: tokenizer=...")
        loaded = wrap(model, tokenizer)
    try:
        loaded = loaded or load_model(finished.settings)
    except ModelError as error:
        way_out = "A model that was given as an object is given again: model=..., tokenizer=..."
        raise ModelError(f"{error}. {way_out}") from None
    path = finished.folder / _probes_file(family)
    probes = read_probes(path, find_anatomy(loaded.model), loading.fingerprint(loaded))
    return FittedProbes(**vars(probes), loaded=loaded, site=finished.settings.sites[0])
