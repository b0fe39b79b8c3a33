"""Rows that are given in Python: kept while the process lives, and named by their digest."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from probekit import provenance
from probekit.errors import DataError

GIVEN = "python:"
_DIGITS = 16
_kept: dict[str, Sequence[Mapping[str, Any]]] = {}


def keep(items: Iterable[object], field: str, most: int) -> str:
    """Keep documents or rows, and return the location by which `rows` finds them again.

    The same items have the same location, in any process.

    Args:
        items: Documents as text, or rows with named fields; None is a row without text.
        field: Name of the text in a row that is made of a document.
        most: Characters; none is taken behind the item that reaches them.

    Raises:
        DataError: If an item is neither.
    """
    taken: list[Mapping[str, Any]] = []
    for number, item in enumerate(items, 1):
        is_null = item is None or item != item  # noqa: PLR0124  NaN, as pandas has it
        if not (is_null or isinstance(item, (str, Mapping))):
            raise DataError(
                f"a text given in Python holds documents, as str, or rows, as dict; number "
                f"{number} is a {type(item).__name__}"
            )
        row = item if isinstance(item, Mapping) else {field: None if is_null else item}
        taken.append(row)
        most -= sum(len(str(value)) for value in row.values())
        if most <= 0:
            break
    location = GIVEN + provenance.digest_texts(map(repr, taken))[:_DIGITS]
    _kept[location] = taken
    return location


def rows(location: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield rows that were kept, each with its name.

    Raises:
        DataError: If none were, in this process.
    """
    if location not in _kept:
        raise DataError(
            f"the text {location} was given in Python, and is not here: call from Python, and give "
            "it again as text=..."
        )
    for number, row in enumerate(_kept[location], 1):
        yield f"document {number}", row
