"""Write files whole or not at all, and results as JSON."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from probekit.errors import RunError

# How a file's name starts while it is written; a process that is killed leaves it.
UNFINISHED = ".unfinished-"


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
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from None


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
