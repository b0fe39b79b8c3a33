"""The run folder: what is in it, written whole or not at all, and read again.

results.json        aggregates, schema probekit.results/4
scores.parquet      sums by document
documents.parquet   where each document is found again, and what was taken of it
marginal-positions.parquet  what marginalization gave at each position, if it was measured
probes.safetensors  the probes
passages.json       what readouts say at each token of a few passages, schema probekit.passages/1
report.html         the report
run.toml            the settings
run.sha256          digests of all of these but the report
stages/             finished work of an unfinished run
log.jsonl           progress events
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from probekit import digests, provenance, toml
from probekit.errors import RunError, SettingsError
from probekit.files import as_json, write_text
from probekit.hub import name_of
from probekit.runs.lock import unwritable
from probekit.runs.own_files import (
    SETTINGS,
    STAGES,
    read_back,
    remove_stages,
    remove_weights,
    require_own,
)
from probekit.settings import AnySettings, RunSettings, command_of

RESULTS = "results.json"
DOCUMENTS = "documents.parquet"
MARGINAL_POSITIONS = "marginal-positions.parquet"
# What says that a folder holds a finished job, and of which kind.
FINISHED = {
    RESULTS: "an analysis",
    "heads.json": "a study of heads",
    "reproduction.json": "a repeated experiment",
    "draft.json": "a measured draft",
}
SCHEMA = "probekit.results/4"
PASSAGES = "probekit.passages/1"
WAY_OUT = "Name another --output, or replace the run with --overwrite"


def require_unchanged(
    folder: Path,
    before: Mapping[str, Any],
    fingerprint: str,
    text: Sequence[Mapping[str, Any]],
    way_out: str = WAY_OUT,
) -> None:
    """Refuse to pass off a finished run as one of a model or text that is another now.

    Args:
        folder: Where the run is.
        before: What its results.json or heads.json holds.
        fingerprint: Of the model as it is now.
        text: The rows of the text as it is now.
        way_out: What to do about it.

    Raises:
        RunError: If either changed.
    """
    changed = []
    if before["model"]["fingerprint"] != fingerprint:
        changed.append("the model")
    if [row["sha256"] for row in before["text"]] != [row["sha256"] for row in text]:
        changed.append("the text")
    if changed:
        raise RunError(
            f"{folder} holds a finished run, but {' and '.join(changed)} changed since. {way_out}"
        )


def is_finished(
    folder: Path, settings: RunSettings, overwrite: bool, marker: str = RESULTS
) -> bool:
    """Return whether a folder holds this very run, finished; refuse one that holds another.

    Args:
        folder: Where the run is, or is to be; made if it is not there.
        settings: Its settings.
        overwrite: Whether another run, or a finished one, is to be replaced.
        marker: The file that says that the run is finished.

    Raises:
        RunError: If it holds a run with other settings, or files that are no run's.
    """
    require_own(folder)
    require_no_other(folder, marker)
    if overwrite:
        return False
    held = settings_held(folder, type(settings), marker)
    differing = held.differing(settings) if held else []
    if differing:
        raise RunError(
            f"{folder} holds a run with other settings: {', '.join(differing)}. {WAY_OUT}"
        )
    return (folder / marker).exists()


def start(folder: Path, settings: RunSettings, marker: str = RESULTS) -> None:
    """Begin or continue a run: remove a finished one or one with other settings, write run.toml.

    Raises:
        RunError: If the folder cannot be written.
    """
    finished = (folder / marker).exists()
    held = None if finished else settings_held(folder, type(settings), marker)
    try:
        if finished or (held and held.differing(settings)):
            _clear(folder, marker)
        (folder / digests.DIGESTS).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    write_text(folder / SETTINGS, settings.as_toml())


def finish(folder: Path, marker: str, document: Mapping[str, Any]) -> None:
    """Write what says that a run is finished, behind the digests of all that is read again.

    Args:
        folder: Where everything else is written already.
        marker: The file that says so.
        document: What it is to hold.

    Raises:
        RunError: If the folder cannot be written.
    """
    text = as_json(document)
    digests.write(folder, read_back(folder), {marker: text})
    write_text(folder / marker, text)
    remove_stages(folder)


def default_folder(settings: RunSettings, marker: str = RESULTS, suffix: str = "") -> Path:
    """Return runs/<model>, or with 6 hex behind it where that holds a run with other settings."""
    stem = folder_name(settings.model) + suffix
    folder = Path("runs") / stem
    if settings_held(folder, type(settings), marker) in (None, settings):
        return folder
    return folder.with_name(f"{stem}-{provenance.digest(asdict(settings))[:6]}")


def folder_name(model: str) -> str:
    """Return the name of a folder for runs of a model: the last part of the model's.

    >>> folder_name("owner/name"), folder_name("a/b/.."), folder_name("/")
    ('name', 'a', 'model')
    """
    path = Path(os.path.normpath(model))
    # The working folder and those above it have names too.
    return (path if path.name not in {"", ".."} else path.resolve()).name or "model"


def settings_held(folder: Path, kind: type[AnySettings], marker: str) -> AnySettings | None:
    """Return the settings of the run that a folder holds, finished or begun; None without one."""
    begun = (folder / marker).exists() or any((folder / STAGES).glob("*"))
    path = folder / SETTINGS
    return read_settings(path, kind) if begun and path.exists() else None


def read_settings(path: Path, kind: type[AnySettings]) -> AnySettings:
    """Return the settings of a run.toml.

    Raises:
        RunError: If they are damaged, of another command, or not all are known here.
    """
    command = command_of(digests.require_undamaged(path)) if path.is_file() else None
    if command not in (None, kind.command):
        raise RunError(
            f"{path} holds settings of `probekit {command}`, not of `probekit {kind.command}`: "
            "name another folder with --output"
        )
    try:
        record = kind.from_mapping(toml.read(path))
    except SettingsError as error:
        raise RunError(
            f"{path} does not hold settings of this version of `probekit {kind.command}`: {error}"
        ) from None
    # Whoever put a run on the Hub does not decide what code runs here.
    return replace(record, trust_remote_code=False) if name_of(path) else record


def require_no_other(folder: Path, marker: str) -> None:
    """Raise if a folder holds a finished job of another kind than the one that writes `marker`.

    Raises:
        RunError: If it does; not even --overwrite replaces that.
    """
    for name, kind in FINISHED.items():
        if name != marker and (folder / name).exists():
            raise RunError(f"{folder} holds {kind}: name another folder with --output")


def _clear(folder: Path, marker: str) -> None:
    """Remove what says that a run is finished, its stages and what it fitted or trained."""
    (folder / marker).unlink(missing_ok=True)
    remove_stages(folder)
    (folder / MARGINAL_POSITIONS).unlink(missing_ok=True)
    remove_weights(folder)
