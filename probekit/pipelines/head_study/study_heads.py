"""Run a study of heads: train heads by several strategies and score them alike.

    run = probekit.study_heads("tiny")

setup → the model finetuned → heads, strategy by strategy → scores beside the marginalized
model → read-layer sweep → run folder → report
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PreTrainedTokenizerBase

from probekit import files
from probekit.errors import DataError, ModelError, RunError
from probekit.hub import local
from probekit.models.as_found import Model
from probekit.models.loading import Loaded
from probekit.pipelines.arguments import in_python
from probekit.pipelines.head_study import layer_sweep, score_strategies, train_strategies
from probekit.pipelines.head_study.document import SCHEMA, checks_and_warnings, heads_document
from probekit.pipelines.head_study.settings import HeadSettings
from probekit.pipelines.head_study.study import Study
from probekit.progress import Journal, Say, heard
from probekit.readout import LINEAR
from probekit.reports.cards import InFolder
from probekit.runs import doctor
from probekit.runs import folder as results
from probekit.runs.lock import one_writer
from probekit.runs.metadata import documents_table
from probekit.runs.own_files import SETTINGS
from probekit.runs.reading import read_json, read_sums
from probekit.runs.setup import load_model, prepare, require_analysable, with_machine_defaults
from probekit.runs.stages import Stages
from probekit.scoring.rates import DocumentSums

FILE = "heads.json"


@dataclass(frozen=True, repr=False)
class HeadRun(InFolder):
    """A finished study of heads; `document` is the content of heads.json."""

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row a domain, set of positions, strategy and offset."""
        return pd.DataFrame(self.document["scores"])

    @cached_property
    def documents(self) -> pd.DataFrame:
        """Sums by document, from which the scores are made."""
        return read_sums(self.folder / "scores.parquet")


def study_heads(
    model: Model = "tiny",
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    figures: bool = False,
    say: Say | None = None,
    **settings: Any,
) -> HeadRun:
    """Train heads for a model by several strategies, and score them beside its marginalization.

    Args:
        model: Short name, Hub repository, local folder, or a causal model of transformers, which
            is left as it is: what is trained is a copy.
        tokenizer: The tokenizer of a model given as an object.
        output: The run folder; by default runs/<model>-heads, or with 6 hex digits behind it
            where that holds a run with other settings.
        overwrite: Replace a run with other settings that `output` holds.
        figures: Write the figures for print too, into the folder `figures` of the run.
        say: Called with each line of progress; by default they are printed in IPython alone.
        **settings: Fields of `probekit.pipelines.head_study.settings.HeadSettings`.

    Returns:
        The finished run, its report rendered. One that is there already is read, not repeated;
        work that an interrupted run finished is not done again.

    Raises:
        ProbekitError: If something cannot be done as asked; the message says what to do.
    """
    with in_python(HeadSettings, model, tokenizer, settings) as (given, loaded):
        chosen = HeadSettings.from_mapping(given)
        finished = run(loaded or load_model(chosen), chosen, output, overwrite, heard(say))
    if figures:
        finished.write_figures()
    return finished


def run(
    loaded: Loaded, settings: HeadSettings, output: str | Path | None, overwrite: bool, say: Say
) -> HeadRun:
    """Study heads of a loaded model; see `study_heads`."""
    settings = with_machine_defaults(settings, loaded)
    folder = Path(output) if output else results.default_folder(settings, FILE, "-heads")
    with one_writer(folder):
        return _run(loaded, settings, folder, overwrite, say)


def _run(
    loaded: Loaded, settings: HeadSettings, folder: Path, overwrite: bool, say: Say
) -> HeadRun:
    if results.is_finished(folder, settings, overwrite, FILE):
        finished = load(folder)
        now = prepare(loaded, settings)
        results.require_unchanged(folder, finished.document, now.fingerprint, now.text)
        say(f"{folder} holds this run already")
        return finished
    journal = Journal(folder / "log.jsonl", say)
    with journal.stage("prepare"):
        setup = prepare(loaded, settings)
        test = setup.blocks["test"]
        study = Study(setup, settings, Stages.of_run(folder, journal, setup, settings))
        train_strategies.require_possible(study)
        of_model = doctor.check_model(loaded, setup.anatomy, test.token_ids, test.valid(1))
        checks = [*of_model, setup.parting.check]
        failed = require_analysable(checks)
    results.start(folder, settings, FILE)
    say(plan_line(study))
    journal.expected = score_strategies.stage_count(study)
    trained = score_strategies.strategies(study)
    references = score_strategies.references(study)
    swept = layer_sweep.sweep(study) if study.sweeps else None
    sums = score_strategies.sums(study)
    document = heads_document(study, sums, trained, references.get(LINEAR), swept)
    document |= checks_and_warnings(setup, sums, references, checks, failed)
    _finish(study, folder, document, sums)
    return load(folder)


def load(folder: str | Path) -> HeadRun:
    """Read the folder of a study of heads.

    Raises:
        RunError: If it holds no finished one, or one of another schema.
    """
    folder = local(folder)
    return HeadRun(folder, read_json(folder / FILE, SCHEMA, "study of heads"))


def load_study(folder: str | Path) -> Study:
    """Return the study of a finished run, so that what it trained can be scored elsewhere.

    Raises:
        RunError: If the folder holds no finished run, or its model or text is another now or
            cannot be read.
    """
    folder = local(folder)
    finished = load(folder)
    settings = results.read_settings(folder / SETTINGS, HeadSettings)
    try:
        setup = prepare(load_model(settings), settings)
    except (DataError, ModelError) as error:
        raise RunError(
            f"the model or text of {folder}, as its run.toml names them, cannot be read from here: "
            f"{error}"
        ) from error
    results.require_unchanged(
        folder,
        finished.document,
        setup.fingerprint,
        setup.text,
        "Train again: `probekit heads` with --overwrite",
    )
    journal = Journal(folder / "log.jsonl", lambda _: None)
    return Study(setup, settings, Stages.of_run(folder, journal, setup, settings), folder)


def dry_run(loaded: Loaded, settings: HeadSettings) -> list[str]:
    """Return what a study would take, line by line, without doing it."""
    settings = with_machine_defaults(settings, loaded)
    setup = prepare(loaded, settings)
    unused = Stages.of_run(Path(), Journal(Path(), lambda _: None), setup, settings)
    study = Study(setup, settings, unused)
    train_strategies.require_possible(study)
    lines = [plan_line(study), f"Strategies: {', '.join(settings.strategies)}"]
    if study.sweeps:
        lines.append(f"Read-layer sweep at layers {', '.join(map(str, study.swept))}")
    return lines + setup.lines


def plan_line(study: Study) -> str:
    """Return the plan in one line."""
    blocks, settings = len(study.data.train.token_ids), study.settings
    steps = -(-blocks // settings.step_blocks) * settings.epochs
    return (
        f"Plan: {len(settings.strategies)} strategies of {settings.kind} heads for offsets 1 to "
        f"{settings.offsets}, {steps:,} steps of {settings.step_blocks} blocks each at rate "
        f"{study.rate:.2g}, {len(study.swept) if study.sweeps else 0} layers swept"
    )


def _finish(study: Study, folder: Path, document: dict[str, Any], sums: DocumentSums) -> None:
    """Write the run folder; heads.json, which says that it is whole, comes last."""
    from probekit.reports.heads.page import render_heads

    document["weights"] = score_strategies.weights(study, folder)
    files.write(folder / "scores.parquet", sums.named().to_parquet)
    files.write(folder / results.DOCUMENTS, documents_table(study.setup).to_parquet)
    files.write_text(folder / "report.html", render_heads(document))
    results.finish(folder, FILE, document)
