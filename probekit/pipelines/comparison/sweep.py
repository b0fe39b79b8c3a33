"""Analyze several models one after another, each in a process of its own, then compare them.

When a process ends its memory is free, and a model that fails or crashes takes no other with
it. What is done already is not done again. Where a launcher started several processes for the
sweep, each takes whole models in turn.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from probekit import provenance
from probekit.errors import ProbekitError, RunError, SettingsError, memory_stated
from probekit.models import catalogue
from probekit.pipelines.analysis import analyze
from probekit.pipelines.analysis.finished import Run, load
from probekit.pipelines.comparison.compare import Comparison, compare
from probekit.progress import Say
from probekit.runs import folder
from probekit.runs.ranks import joined
from probekit.runs.setup import load_model
from probekit.settings import Settings

PAGE = "compare.html"
# How a process ends that would start others while it is started.
UNGUARDED = 86


@dataclass(frozen=True)
class PlannedRun:
    """One model of a sweep.

    Attributes:
        settings: Settings of its analysis.
        folder: Its run folder.
    """

    settings: Settings
    folder: Path


@dataclass(frozen=True)
class SweepResult:
    """The finished runs of a sweep, and its comparison.

    Attributes:
        runs: Finished runs, in the order of the models.
        failed: By model that failed, the message of its error.
        comparison: The runs compared; None where fewer than two finished.
        page: The comparison's page, or None.
    """

    runs: tuple[Run, ...]
    failed: Mapping[str, str]
    comparison: Comparison | None
    page: Path | None


def plan_runs(
    models: Sequence[str], settings: Mapping[str, Any], output: str | Path | None = None
) -> list[PlannedRun]:
    """Return the settings and the run folder of each model of a sweep.

    Args:
        models: Names of models, as `analyze` takes them.
        settings: Fields of `probekit.settings.Settings`, the same for all.
        output: Folder of the run folders; by default runs/sweep-<6 hex of the models>.

    Raises:
        SettingsError: If there is no model, one is named twice, or a setting is not allowed.
    """
    if not models:
        raise SettingsError("a sweep needs models: --family, or --models with names")
    twice = sorted({name for name in models if list(models).count(name) > 1})
    if twice:
        raise SettingsError(f"a sweep takes each model once, got {', '.join(twice)} twice")
    parent = Path(output) if output else Path("runs") / f"sweep-{_digest(models)}"
    last_parts = [folder.folder_name(name) for name in models]
    whole_names = [name.strip("/").replace("/", "--") for name in models]
    folders = [
        whole if last_parts.count(last) > 1 and whole.strip(".") else last
        for whole, last in zip(whole_names, last_parts, strict=True)
    ]
    return [
        PlannedRun(Settings.from_mapping({**settings, "model": name}), parent / subfolder)
        for name, subfolder in zip(models, folders, strict=True)
    ]


def ladder(family: str) -> list[str]:
    """Return the names of the models of a family, smallest first.

    Raises:
        SettingsError: If there is no such family.

    >>> ladder("tiny")
    ['tiny-s', 'tiny-m', 'tiny-l']
    """
    return [model.name for model in catalogue.family(family)]


def sweep(
    planned: Sequence[PlannedRun], overwrite: bool = False, say: Say = lambda _: None
) -> SweepResult:
    """Analyze each model, then compare the runs and write the comparison beside them.

    Args:
        planned: The runs of `plan_runs`.
        overwrite: Replace runs with other settings.
        say: Called with each line of progress.
    """
    ranks, failed = joined(), dict[str, str]()
    analyze_one = partial(_in_a_process, say=say, overwrite=overwrite)
    for of_rank in ranks.gather(_one_by_one(ranks.share(planned), analyze_one, say)):
        failed |= of_rank
    finished = [load(run.folder) for run in planned if run.settings.model not in failed]
    if len(finished) < 2 or not ranks.first:
        return SweepResult(tuple(finished), failed, None, None)
    comparison = compare(finished)
    page = comparison.write(planned[0].folder.parent / PAGE)
    return SweepResult(tuple(finished), failed, comparison, page)


def dry_run(planned: Sequence[PlannedRun], say: Say) -> Mapping[str, str]:
    """Say the plan of each model's analysis; return the errors of models that failed."""
    return _one_by_one(planned, lambda run: _in_a_process(run, say, dry_run=True), say)


def _one_by_one(
    planned: Sequence[PlannedRun], do: Callable[[PlannedRun], None], say: Say
) -> dict[str, str]:
    """Do something with each planned run; return the errors of models that failed."""
    failed = {}
    for number, run in enumerate(planned, start=1):
        model = run.settings.model
        say(f"{model} → {run.folder} (model {number} of {len(planned)})")
        try:
            do(run)
        except ProbekitError as error:
            failed[model] = str(error)
            say(f"{model} failed: {error}")
    return failed


def _digest(models: Sequence[str]) -> str:
    return provenance.digest(list(models))[:6]


def _in_a_process(
    run: PlannedRun, say: Say, overwrite: bool = False, dry_run: bool = False
) -> None:
    """Analyze one model in a process of its own, and hand its lines on.

    Raises:
        RunError: With the message of the error in the process, or that it ended without one.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(UNGUARDED)  # this is a model's process that reads the script which started it
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    arguments = theirs, asdict(run.settings), run.folder, overwrite, dry_run
    child = context.Process(target=_analyze, args=arguments)
    child.start()
    theirs.close()
    problem = None
    try:
        while True:
            kind, line = ours.recv()
            if kind == "problem":
                problem = line
            else:
                say(line)
    except EOFError:
        child.join()
    finally:
        # Also when this process is interrupted: nothing is left behind at work.
        child.terminate()
        child.join()
        ours.close()
    if problem is not None:
        raise RunError(problem)
    if child.exitcode:
        raise RunError(f"its process ended with exit code {child.exitcode}{_why(child.exitcode)}")


def _why(code: int) -> str:
    if code == UNGUARDED:
        return (
            ": the process of a model reads the script that started it again, so a script calls "
            '`sweep` under `if __name__ == "__main__":`'
        )
    return " (killed: most often, memory ran out)" if code == -9 else ""


def _analyze(
    pipe: Connection, fields: Mapping[str, Any], output: Path, overwrite: bool, dry_run: bool
) -> None:
    """Analyze one model; lines of progress, and the error, go through the pipe."""
    from transformers.utils import logging

    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.disable_progress_bar()
    # This process has the model to itself, on the device of the one that started it.
    os.environ.pop("WORLD_SIZE", None)
    # One of its own would be shared by processes, and left behind when this one is terminated.
    tqdm.set_lock(threading.RLock())

    def say(line: str) -> None:
        pipe.send(("line", line))

    try:
        with memory_stated():
            settings = Settings.from_mapping(fields)
            loaded = load_model(settings)
            say(f"Model: {loaded.name}, {loaded.n_parameters:,} parameters, {loaded.dtype}")
            if dry_run:
                for line in analyze.dry_run(loaded, settings):
                    say(line)
            else:
                analyze.run(loaded, settings, output, overwrite, say)
    except ProbekitError as error:
        pipe.send(("problem", str(error)))
    except KeyboardInterrupt:
        # The process that started this one reports it.
        return


def _end_with_parent() -> None:
    """End this process when the one that started it is killed: nobody reads what it says."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
