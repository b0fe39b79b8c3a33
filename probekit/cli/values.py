"""Values of flags: counts such as 10k, and lists, parted by commas or given one by one."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

from probekit.errors import SettingsError

THOUSANDS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


def count(name: str, text: str, words: Sequence[str] = ()) -> int | str:
    """Return a whole number, which may end in k, M or B, or one of some words.

    Raises:
        SettingsError: If it is neither.

    >>> [count("--max-tokens", text) for text in ("300", "10k", "1.5k", "1M", "-1")]
    [300, 10000, 1500, 1000000, -1]
    """
    if text in words:
        return text
    # 4,300 digits are the most that Python reads.
    parts = re.fullmatch(r"([+-]?\d{1,4000}(?:\.\d{1,9})?)([kmb]?)", text.strip(), re.IGNORECASE)
    if parts:
        number = Decimal(parts[1]).as_integer_ratio()
        whole, rest = divmod(number[0] * THOUSANDS[parts[2].lower()], number[1])
        if not rest:
            return whole
    allowed = f" or {', '.join(words)}" if words else ", such as 300, 10k or 1.5M"
    raise SettingsError(f"{name} must be a whole number{allowed}, got {text!r}")


def listed(values: Iterable[str]) -> tuple[str, ...]:
    """Return the items of a flag that was given once or several times.

    A path that exists is one item, whatever it is called; what has no comma is as it was given.

    >>> listed(["a, b,", "c", ""])
    ('a', 'b', 'c', '')
    """
    return tuple(item for each in values for item in _items(each))


def _items(text: str) -> list[str]:
    if "," not in text or _is_path(text):
        return [text]
    return [item for item in map(str.strip, text.split(",")) if item] or [text]


def _is_path(text: str) -> bool:
    try:
        return any(Path(each).exists() for each in (text, text.partition("=")[2]) if each)
    except (OSError, ValueError):  # too long for a path, or no path
        return False


def numbers(name: str, values: Iterable[str], words: Sequence[str]) -> tuple[int, ...] | str:
    """Return the numbers of a flag, or one of some words.

    Raises:
        SettingsError: If an item is neither.
    """
    items = listed(values)
    if len(items) == 1 and items[0] in words:
        return items[0]
    try:
        return tuple(int(item) for item in items)
    except ValueError:
        allowed = "".join(f", or {word}" for word in words)
        given = ",".join(values)
        raise SettingsError(
            f"{name} must be numbers such as 0,3,6{allowed}, got {given!r}"
        ) from None
