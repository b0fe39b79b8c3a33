"""Write files whole or not at all, with a digest where they are read again, and results as JSON."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from probekit.errors import RunError

# How a file's name starts while it is written; a process that is killed leaves it.
UNFINISHED = ".unfinished-"
DIGEST = ".sha256"


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: `save` gets a temporary path, which is then renamed.

    Raises:
        RunError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(path.suffix, UNFINISHED, path.parent)
        os.close(descriptor)
        temporary = Path(name)
        try:
            save(temporary)
            # On the disk before its name is: a machine that fails leaves the old file or the new.
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path} cannot be written: {reason}") from None


def write_checked(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file, and beside it the sha256 by which `is_undamaged` knows it."""
    digests = _digest_file(path)

    def saved(temporary: Path) -> None:
        save(temporary)
        # With that of the file that is replaced: a process may be killed between the two.
        before = file_digest(path) if path.exists() else ""
        write_text(digests, f"{file_digest(temporary)} {before}")

    write(path, saved)


def is_undamaged(path: Path) -> bool:
    """Return whether a file is as `write_checked` wrote it."""
    digests = _digest_file(path)
    if not (path.is_file() and digests.is_file()):
        return False
    return file_digest(path).encode() in digests.read_bytes().split()


def written_ns(path: Path) -> int:
    """Return when `write_checked` wrote a file, whatever befell it since."""
    digests = _digest_file(path)
    return (digests if digests.is_file() else path).stat().st_mtime_ns


def remove_checked(path: Path) -> None:
    """Remove a file that `write_checked` wrote."""
    path.unlink(missing_ok=True)
    _digest_file(path).unlink(missing_ok=True)


def is_digest(path: Path) -> bool:
    """Return whether a file is what `write_checked` writes beside another."""
    return path.suffix == DIGEST


def _digest_file(path: Path) -> Path:
    return path.with_name(path.name + DIGEST)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    write(path, lambda temporary: temporary.write_bytes(content))


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def as_json(content: Any, indent: int | None = 1) -> str:
    """Return content as JSON; a number that is not finite is an error, not a null.

    Args:
        content: What is to be written.
        indent: Spaces by level; None for one line without any, which is much shorter.

    Raises:
        RunError: If a value is NaN or infinite.
    """
    apart = (",", ":") if indent is None else None
    try:
        text = json.dumps(
            content, indent=indent, separators=apart, allow_nan=False, ensure_ascii=False
        )
    except ValueError as error:
        raise RunError(f"a result is not a finite number: {error}") from None
    return text + "\n"
