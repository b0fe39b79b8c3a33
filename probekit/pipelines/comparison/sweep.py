"""Analyze several models one after another, each in a process of its own, then compare them.

When a process ends its memory is free, and a model that fails or crashes takes no other with
it. What is done already is not done again.
"""

import multiprocessing
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from probekit import provenance
from probekit.errors import ProbekitError, RunError, SettingsError
from probekit.models import catalogue
from probekit.pipelines.analysis import analyze
from probekit.pipelines.comparison.compare import Comparison, compare
from probekit.progress import Say
from probekit.runs import folder as results
from probekit.runs.folder import Run
from probekit.runs.setup import load_model
from probekit.settings import Settings

PAGE = "compare.html"


@dataclass(frozen=True)
class Rung:
    """One model of a sweep.

    Attributes:
        settings: What is asked of it.
        folder: Where its run goes.
    """

    settings: Settings
    folder: Path


@dataclass(frozen=True)
class Swept:
    """What became of a sweep.

    Attributes:
        runs: Finished runs, in the order of the models.
        failed: What each model that has none failed of.
        comparison: Of the runs; None where fewer than two finished.
        page: The comparison's page, or None.
    """

    runs: tuple[Run, ...]
    failed: Mapping[str, str]
    comparison: Comparison | None
    page: Path | None


def rungs(
    models: Sequence[str], settings: Mapping[str, Any], output: str | Path | None = None
) -> list[Rung]:
    """Return what a sweep does: a model, its settings and folder.

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
    folder = Path(output) if output else Path("runs") / f"sweep-{_digest(models)}"
    last = [Path(name).name for name in models]
    folders = [
        name.strip("/").replace("/", "--") if last.count(own) > 1 else own
        for name, own in zip(models, last, strict=True)
    ]
    return [
        Rung(Settings.from_mapping({**settings, "model": name}), folder / own)
        for name, own in zip(models, folders, strict=True)
    ]


def ladder(family: str) -> list[str]:
    """Return the names of the models of a family, smallest first.

    Raises:
        SettingsError: If there is no such family.

    >>> ladder("tiny")
    ['tiny-s', 'tiny-m', 'tiny-l']
    """
    return [model.name for model in catalogue.family(family)]


def sweep(asked: Sequence[Rung], overwrite: bool = False, say: Say = lambda _: None) -> Swept:
    """Analyze each model, then compare the runs and write the comparison beside them.

    Args:
        asked: What `rungs` returned.
        overwrite: Replace runs with other settings.
        say: Called with each line of progress.

    Returns:
        The runs; the models that failed, by what they failed of; the comparison.
    """
    finished, failed = [], {}
    for rung in asked:
        say(f"{rung.settings.model} → {rung.folder}")
        try:
            _in_a_process(rung, (overwrite, False), say)
            finished.append(results.load(rung.folder))
        except ProbekitError as error:
            failed[rung.settings.model] = str(error)
            say(f"{rung.settings.model} failed: {error}")
    if len(finished) < 2:
        return Swept(tuple(finished), failed, None, None)
    comparison = compare(finished)
    return Swept(
        tuple(finished), failed, comparison, comparison.write(asked[0].folder.parent / PAGE)
    )


def dry_run(asked: Sequence[Rung], say: Say) -> Mapping[str, str]:
    """Say what each model would take, without analyzing it; return what failed, by model."""
    failed = {}
    for rung in asked:
        say(f"{rung.settings.model} → {rung.folder}")
        try:
            _in_a_process(rung, (False, True), say)
        except ProbekitError as error:
            failed[rung.settings.model] = str(error)
            say(f"{rung.settings.model} failed: {error}")
    return failed


def _digest(models: Sequence[str]) -> str:
    return provenance.digest(list(models))[:6]


def _in_a_process(rung: Rung, how: tuple[bool, bool], say: Say) -> None:
    """Analyze one model in a process of its own, and hand its lines on.

    Raises:
        RunError: With the process's own words if it stated a problem; else that it ended.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_analyze, args=(theirs, asdict(rung.settings), rung.folder, how))
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
    return " (killed: most often, memory ran out)" if code == -9 else ""


def _analyze(
    pipe: Connection, settings: Mapping[str, Any], folder: Path, how: tuple[bool, bool]
) -> None:
    """Analyze one model; what is to be said goes through the pipe."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    # One of its own would be shared by processes, and left behind when this one is terminated.
    tqdm.set_lock(threading.RLock())

    def say(line: str) -> None:
        pipe.send(("line", line))

    overwrite, dry = how
    try:
        asked = Settings.from_mapping(settings)
        loaded = load_model(asked)
        say(f"Model: {loaded.name}, {loaded.n_parameters:,} parameters, {loaded.dtype}")
        if dry:
            for line in analyze.dry_run(loaded, asked):
                say(line)
        else:
            analyze.run(loaded, asked, folder, overwrite, say)
    except ProbekitError as error:
        pipe.send(("problem", str(error)))
    except KeyboardInterrupt:
        # The process that started this one says so.
        return
