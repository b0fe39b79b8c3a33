"""The sha256 of each file of a finished run, by which it is known when it is read again.

They stand in the run folder in one file, as `sha256sum --check run.sha256` reads it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from probekit import files
from probekit.errors import RunError
from probekit.settings import command_of

DIGESTS = "run.sha256"
OF_SETTINGS = "run.toml"


def write(folder: Path, names: Iterable[str], texts: Mapping[str, str]) -> None:
    """Write the digests of a run folder.

    Args:
        folder: The folder.
        names: Its files that are there.
        texts: The files that are yet to be written, and what will be in them.
    """
    digests = {name: files.file_digest(folder / name) for name in names}
    digests |= {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    files.write_text(
        folder / DIGESTS, "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    )


def require_undamaged(path: Path) -> Path:
    """Return the path of a file that is to be read, if it is as its run wrote it.

    A folder without digests is none of a run, or of one of an earlier version: nothing is known.

    Raises:
        RunError: If the file is not as it was written, or cannot be read.
    """
    digests = path.with_name(DIGESTS)
    if not (path.is_file() and digests.is_file()):
        return path
    try:
        lines = digests.read_bytes().splitlines()
        known = f"{files.file_digest(path)}  {path.name}".encode() in lines
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None
    if not known:
        raise RunError(
            f"{path} is damaged, or was changed: its sha256 is not in {DIGESTS}. {way_out(path)}"
        )
    return path


def way_out(path: Path) -> str:
    """Return how a file of a run folder is written again."""
    folder, settings = path.parent, path.with_name(OF_SETTINGS)
    again = f"--output {folder} --overwrite"
    command = command_of(settings) if path != settings and settings.is_file() else None
    if command is None:
        return f"Take it from a copy, or write it again: the command that made it, with {again}"
    return f"Write it again: `probekit {command} --config {settings} {again}`"
