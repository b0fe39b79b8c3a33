"""TOML as settings need it: read a file, and write a value."""

import json
import tomllib
from pathlib import Path
from typing import Any

from probekit.errors import SettingsError


def read(path: Path) -> dict[str, Any]:
    """Return keys and values of a TOML file.

    Raises:
        SettingsError: If it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the settings {path} cannot be read: {error.strerror}") from None
    # Not TOML, not UTF-8, or a number or depth beyond all.
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"the settings {path} are not TOML: {error}") from None


def written(value: object) -> str:
    """Return a value as TOML writes it: truth, a number, a word, or a list of them.

    >>> written([True, 0.5, "a"])
    '[true, 0.5, "a"]'
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(written(item) for item in value) + "]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, which wants one more.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
