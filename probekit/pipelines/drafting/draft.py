"""Measure what drafting with readouts gains on a model and a text: lossless, and timed.

    run = probekit.draft("tiny")
    run = probekit.draft(run="runs/tiny")     with the probes of a finished analysis

setup → the model's own continuations → probes → drafters → prompts continued → draft.json → report
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from probekit import files
from probekit.data.documents import Split
from probekit.data.targets import Targets, read_targets, write_targets
from probekit.drafting import cost
from probekit.errors import DataError, SettingsError
from probekit.hub import local
from probekit.marginalization.greedy_targets import model_targets
from probekit.models.as_found import Model
from probekit.models.loading import Loaded, longest
from probekit.pipelines.analysis.analyze import load_probes
from probekit.pipelines.analysis.finished import load as load_run
from probekit.pipelines.arguments import in_python
from probekit.pipelines.drafting import trial
from probekit.pipelines.drafting.candidates import candidates
from probekit.pipelines.drafting.document import SCHEMA, Tried, draft_document
from probekit.pipelines.drafting.predict import as_blocks, predicted, prompts_of
from probekit.pipelines.drafting.settings import DraftSettings
from probekit.probes import linear
from probekit.probes.files import read_probes, write_probes
from probekit.probes.logit_lens import LogitLens
from probekit.probes.probe import Probes
from probekit.progress import Journal, Say, heard
from probekit.readout import LENS, LINEAR
from probekit.reports.cards import InFolder
from probekit.reports.drafting.page import render_draft
from probekit.runs import folder as results
from probekit.runs.lock import one_writer
from probekit.runs.reading import read_json
from probekit.runs.setup import Setup, load_model, prepare, with_machine_defaults
from probekit.runs.stages import Stages
from probekit.runs.streams import SITE_OF_MODEL, Streams
from probekit.scoring.rates import DocumentSums
from probekit.scoring.score import score

FILE = "draft.json"
PROBES = "probes.safetensors"


@dataclass(frozen=True, repr=False)
class DraftRun(InFolder):
    """A finished measurement of drafts; `document` is the content of draft.json."""

    @cached_property
    def drafters(self) -> pd.DataFrame:
        """One row a drafter, shape and domain."""
        return pd.DataFrame(self.document["drafters"]).drop(columns="offsets")


def draft(
    model: Model = "tiny",
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    figures: bool = False,
    say: Say | None = None,
    **settings: Any,
) -> DraftRun:
    """Measure how many drafted tokens a model accepts, and how much faster its text comes.

    Args:
        model: Short name, Hub repository, local folder, or a causal model of transformers. With
            `run`, that of the run.
        tokenizer: The tokenizer of a model given as an object.
        output: The run folder; by default runs/<model>-draft.
        overwrite: Replace a run with other settings that `output` holds.
        figures: Write the figures for print too, into the folder `figures` of the run.
        say: Called with each line of progress; by default they are printed in IPython alone.
        **settings: Fields of `probekit.pipelines.drafting.settings.DraftSettings`.

    Returns:
        The finished run. One that is there already is read, not repeated.

    Raises:
        ProbekitError: If something cannot be done as asked; the message says what to do.
    """
    with in_python(DraftSettings, model, tokenizer, settings) as (given, loaded):
        if settings.get("run") is not None and model == "tiny":
            del given["model"]  # the default
        record = DraftSettings.from_mapping(with_run(given))
        finished = run(loaded or load_model(record), record, output, overwrite, heard(say))
    if figures:
        finished.write_figures()
    return finished


def with_run(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, those that are not given as in the analysis that they name.

    Raises:
        RunError: If its folder holds no finished analysis.
        SettingsError: If another model is named too.
    """
    if given.get("run") is None:
        return dict(given)
    of_run = load_run(given["run"]).settings
    names = {field.name for field in fields(DraftSettings)} - {"layers"}
    taken = {f.name: getattr(of_run, f.name) for f in fields(of_run) if f.name in names}
    if given.get("model", of_run.model) != of_run.model:
        raise SettingsError(
            f"the run {given['run']} is of the model {of_run.model}: leave --model out, got "
            f"{given['model']}"
        )
    return {**taken, **given}


def run(
    loaded: Loaded, settings: DraftSettings, output: str | Path | None, overwrite: bool, say: Say
) -> DraftRun:
    """Measure the drafts of a loaded model; see `draft`."""
    settings = _resolved(settings, loaded)
    folder = Path(output) if output else results.default_folder(settings, FILE, "-draft")
    with one_writer(folder):
        return _run(loaded, settings, folder, overwrite, say)


def _resolved(settings: DraftSettings, loaded: Loaded) -> DraftSettings:
    """Return settings with what depends on model and machine made plain."""
    settings = with_machine_defaults(settings, loaded)
    last = loaded.model.config.get_text_config().num_hidden_layers
    spread = tuple(sorted({round(last * share) for share in (0.5, 0.75, 1.0)}))
    most = longest(loaded.model)
    if most is not None and settings.prompt_tokens + settings.new_tokens >= most:
        raise SettingsError(
            f"--prompt-tokens and --new-tokens must be below {most} together, which is all that "
            f"this model takes, got {settings.prompt_tokens} and {settings.new_tokens}"
        )
    return replace(settings, layers=settings.layers or spread)


def _run(
    loaded: Loaded, settings: DraftSettings, folder: Path, overwrite: bool, say: Say
) -> DraftRun:
    if results.is_finished(folder, settings, overwrite, FILE):
        finished = load(folder)
        now = prepare(loaded, settings, settings.layers)
        results.require_unchanged(folder, finished.document, now.fingerprint, now.text)
        say(f"{folder} holds this run already")
        return finished
    journal = Journal(folder / "log.jsonl", say)
    with journal.stage("prepare"):
        setup = prepare(loaded, settings, settings.layers, scratch=folder)
    results.start(folder, settings, FILE)
    stages = Stages.of_run(folder, journal, setup, settings)
    fits_probes = LINEAR in settings.drafters and settings.run is None
    journal.expected = len(set(setup.domains)) + fits_probes + 4  # prepare, targets, cost, score
    with torch.no_grad():
        tried = _tried(setup, settings, stages)
    document = draft_document(tried, journal)
    if fits_probes:
        files.write(folder / PROBES, partial(shutil.copyfile, stages.path(PROBES)))
    files.write_text(folder / "report.html", render_draft(document))
    results.finish(folder, FILE, document)
    return load(folder)


def dry_run(loaded: Loaded, settings: DraftSettings) -> list[str]:
    """Return what would be measured, line by line, without measuring it."""
    settings = _resolved(settings, loaded)
    setup = prepare(loaded, settings, settings.layers)
    plan = (
        f"Plan: {', '.join(settings.drafters)} draft for {settings.prompts} prompts of each text, "
        f"of {settings.prompt_tokens} tokens, continued by {settings.new_tokens}"
    )
    return [plan, *setup.lines]


def load(folder: str | Path) -> DraftRun:
    """Read the folder of a measured draft.

    Raises:
        RunError: If it holds no finished one, or one of another schema.
    """
    folder = local(folder)
    return DraftRun(folder, read_json(folder / FILE, SCHEMA, "measured draft"))


def _tried(setup: Setup, settings: DraftSettings, stages: Stages) -> Tried:
    """Fit what drafts, then let everything continue the same prompts."""
    path = stages.file("targets.safetensors", partial(_targets, setup, settings), write_targets)
    targets = read_targets(path)
    streams = Streams(setup, setup.layers, SITE_OF_MODEL)
    probes = _probes(setup, settings, stages, streams, targets)
    lens_layer = _lens_layer(settings, streams, targets) if LENS in settings.drafters else None
    journal = stages.journal
    with journal.stage("what passes cost"):
        cached = settings.prompt_tokens + settings.new_tokens // 2
        costs = cost.curve(setup.loaded.model, cached, trial.synchronize(setup))
    drafting = list(candidates(settings, setup, probes, lens_layer))
    tries = trial.trials(settings, setup, drafting)
    count, length = settings.prompts, settings.prompt_tokens
    prompts = {domain: prompts_of(setup, domain, count, length) for domain in setup.domains}
    for domain, found in prompts.items():
        if not found:
            raise DataError(
                f"no test document of {domain} has {length} tokens for a prompt: take fewer "
                "--prompt-tokens or more text"
            )
    measured = {}
    for domain, found in prompts.items():
        with journal.stage(f"draft {domain}"):
            measured[domain] = trial.run(settings, setup, tries, found)
    with journal.stage("score"):
        test, seed = setup.blocks["test"], settings.seed
        held_out = _scored(drafting, setup, test, targets["test"], seed)
        drafted = [each for found in measured.values() for each in found[trial.PLAIN].drafted]
        flat = [prompt for found in prompts.values() for prompt in found]
        own = _scored(drafting, setup, *as_blocks(drafted, flat, settings.offsets), seed)
    return Tried(settings, setup, tries, prompts, measured, held_out, own, costs)


def _scored(drafting: Any, setup: Setup, blocks: Any, targets: Targets, seed: int) -> Any:
    with_readouts = list({c.name: c for c in reversed(drafting) if c.readout is not None}.values())
    return predicted(with_readouts, setup, blocks, targets, seed) if with_readouts else None


def _targets(setup: Setup, settings: DraftSettings) -> dict[Split, Targets]:
    """Return the model's own continuations, which drafts are verified by, where they are needed."""
    engine, needed = setup.branches(), {"test"}
    if LINEAR in settings.drafters and settings.run is None:
        needed |= {"train", "validation"}
    if LENS in settings.drafters:
        needed.add("validation")
    return {
        part: model_targets(engine, blocks, settings.offsets)
        for part, blocks in setup.blocks.items()
        if part in needed
    }


def _probes(
    setup: Setup,
    settings: DraftSettings,
    stages: Stages,
    streams: Streams,
    targets: Mapping[Split, Targets],
) -> Probes | None:
    """Return the probes of the run that the settings name, or fit some."""
    if LINEAR not in settings.drafters:
        return None
    if settings.run is not None:
        return load_probes(settings.run, setup.loaded)
    later = range(2, settings.offsets + 1)

    def fit() -> Probes:
        train, validation = (
            (streams.read(part), targets[part].only(later)) for part in ("train", "validation")
        )
        return linear.fit(train, validation, setup.anatomy, setup.layers, seed=settings.seed)

    notes = {"model_fingerprint": setup.fingerprint}
    path = stages.file(PROBES, fit, partial(write_probes, metadata=notes))
    return read_probes(path, setup.anatomy, setup.fingerprint)


def _lens_layer(settings: DraftSettings, streams: Streams, targets: Mapping[Split, Targets]) -> int:
    """Return the layer whose lens says most of the token after the next, on validation."""
    setup = streams.setup
    blocks, nearest = setup.blocks["validation"], targets["validation"].only((2,))
    lens = LogitLens(setup.layers, setup.anatomy)
    positions = {"all": nearest.valid[2]}
    table = score([lens], streams.read("validation"), nearest, positions, blocks.documents)
    rows = table.assign(split="validation", seed=settings.seed)
    sums = DocumentSums(rows, setup.domains, setup.bytes_per_token, settings.seed)
    return sums.rates(sums.groups[0], "validation", "all").best_layer(LENS, 2)
