"""A run folder has one writer; another process is told which one it is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLock, Timeout

from probekit.errors import RunError

LOCK = "lock"


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold a folder while a run is written into it; what a killed process held is free again.

    Args:
        folder: The folder; made if it is not there.

    Raises:
        RunError: If the folder cannot be written, its path is not UTF-8, as safetensors want it,
            or another process writes into it.
    """
    if os.fsencode(folder).decode("utf-8", "replace") != str(folder):
        raise RunError(f"--output must be a path in UTF-8, got {str(folder)!r}: name another")
    lock = SoftFileLock(folder / LOCK, blocking=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise RunError(
            f"process {lock.pid} writes into {folder}: wait until it ends, or name another "
            "folder with --output"
        ) from None
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        yield
    finally:
        lock.release()


def unwritable(folder: Path, error: OSError) -> RunError:
    """Return the error of a folder that cannot be written."""
    return RunError(
        f"the output folder {folder} cannot be written: {error.strerror}. "
        "Name another with --output"
    )
