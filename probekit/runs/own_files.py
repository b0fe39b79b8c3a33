"""Which files of a folder are a run's: nothing else in it is ever removed or replaced."""

import re
from pathlib import Path

from probekit.digests import OF_SETTINGS
from probekit.errors import RunError
from probekit.files import UNFINISHED
from probekit.runs.lock import LOCK

SETTINGS, STAGES = OF_SETTINGS, "stages"
# What an analysis or a study of heads leaves beside its settings, in any state.
WEIGHTS = re.compile(r"(probes|heads|adapter|queries)(-.+)?\.safetensors")
# What is read again of a finished run, beside what says that it is finished.
_READ_BACK = {SETTINGS, "passages.json", "scores.parquet", "documents.parquet"}
_READ_BACK |= {"marginal-positions.parquet"}
STAGE = re.compile(r"[0-9a-f]{16}-.+")
# What may be there before a run's settings are.
_BEFORE = {LOCK, "log.jsonl"}
_SHOWN = 3


def require_own(folder: Path) -> None:
    """Refuse a folder with files in it that no run of ours left there.

    Raises:
        RunError: If it holds files, and no run.toml; or if it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file: name a folder with --output")
    if not folder.is_dir() or (folder / SETTINGS).is_file():
        return
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    foreign = [name for name in names if name not in _BEFORE]
    if foreign:
        more = ", …" if len(foreign) > _SHOWN else ""
        raise RunError(
            f"{folder} holds files and no run ({', '.join(foreign[:_SHOWN])}{more}; there is no "
            f"{SETTINGS}): name a new or empty folder with --output"
        )


def remove_stages(folder: Path) -> None:
    """Remove the finished stages of a run folder, and their folder if nothing else is in it."""
    stages = folder / STAGES
    for path in stages.glob("*"):
        if STAGE.fullmatch(path.name) or path.name.startswith(UNFINISHED):
            path.unlink()
    if stages.is_dir() and not any(stages.iterdir()):
        stages.rmdir()


def read_back(folder: Path) -> list[str]:
    """Return the names of the files of a run that are read again when it is finished."""
    names = (path.name for path in folder.iterdir())
    return sorted(name for name in names if name in _READ_BACK or WEIGHTS.fullmatch(name))


def remove_weights(folder: Path) -> None:
    """Remove what a run fitted or trained."""
    for path in folder.glob("*.safetensors"):
        if WEIGHTS.fullmatch(path.name):
            path.unlink()
