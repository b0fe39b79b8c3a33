"""Read rows with named fields from files, folders, a Hub data set, or as given in Python.

files     JSON lines and parquet, or a folder of them (`probekit.data.formats`)
hub:...   REPOSITORY[@CONFIG][:SPLIT], fetched row by row (needs `datasets`)
preset:.. one of presets.toml, such a data set at one commit
python:... given in Python (`probekit.data.formats.given`)

Rows are read one by one, so that none is read behind the last one that is taken.
"""

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from probekit.data import presets
from probekit.data.formats import given, kinds, lines, tables
from probekit.data.formats.given import GIVEN
from probekit.errors import DataError

HUB, BUILT_IN, PRESET = "hub:", "builtin:", "preset:"
# Usual fields of a chat: a list of who said what.
CHATS = ("messages", "conversations", "conversation", "chat")

Row = Mapping[str, Any]


def are_in(location: str) -> bool:
    """Return whether a location is read as rows: a Hub data set, or a file or folder of rows.

    >>> are_in("hub:owner/name"), are_in("builtin:prose")
    (True, False)

    Raises:
        DataError: If nothing is there, or it is of a format that is not read.
    """
    if location.startswith((HUB, BUILT_IN, PRESET, GIVEN)):
        return not location.startswith(BUILT_IN)
    _, path = kinds.files(kinds.path_of(location))[0]
    return kinds.kind(path) != "plain"


def read(location: str, fields: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a location, each with its name: `line 3`, `row 3`, `a.jsonl line 3`.

    Args:
        location: A file, a folder or a Hub data set, as `are_in` knows them.
        fields: The fields to read; dots go into nested objects. Of parquet nothing
            else is read: a row has the other fields, and None in them.

    Raises:
        DataError: If it cannot be read, or a line is no JSON object.
    """
    if location.startswith(PRESET):
        preset = presets.named(location.removeprefix(PRESET))
        place = f"{preset.repository}@{preset.config}:{preset.split}"
        yield from preset.documents(_hub(place, preset.revision))
        return
    if location.startswith(HUB):
        yield from _hub(location.removeprefix(HUB))
        return
    if location.startswith(GIVEN):
        yield from given.rows(location)
        return
    for file, path in kinds.files(kinds.path_of(location)):
        is_table = kinds.kind(path) == "table"
        for name, row in tables.rows(path, fields) if is_table else lines.rows(path):
            yield f"{file} {name}".lstrip(), row


def value(row: Row, field: str) -> object:
    """Return what a row has in a field, or None; dots go into nested objects.

    >>> row = {"a.b": 1, "translation": {"de": "Ja"}}
    >>> value(row, "a.b"), value(row, "translation.de"), value(row, "translation.en")
    (1, 'Ja', None)
    """
    if field in row:
        return row[field]
    inner: object = row
    for name in field.split("."):
        inner = inner.get(name) if isinstance(inner, Mapping) else None
    return inner


def has(row: Row, field: str) -> bool:
    """Return whether a row has a field, be it null; dots go into nested objects.

    >>> has({"a": {"b": None}}, "a.b"), has({"a": {}}, "a.b")
    (True, False)
    """
    if field in row:
        return True
    outer, _, last = field.rpartition(".")
    inside = value(row, outer) if outer else None
    return isinstance(inside, Mapping) and last in inside


def text(row: Row, field: str, where: str, way_out: str) -> str:
    """Return the text that a row has in a field.

    Args:
        row: The row.
        field: Name of the field; dots go into nested objects.
        where: File and line, for an error.
        way_out: What a user can do who has other fields.

    Raises:
        DataError: If there is none, or it is no text in UTF-8.
    """
    string = value(row, field)
    if not isinstance(string, str):
        raise _no_text(row, field, where, way_out)
    if any("\ud800" <= character <= "\udfff" for character in string):
        raise DataError(f"{where} holds half of a surrogate pair, which is no text in UTF-8")
    return string


def _no_text(row: Row, field: str, where: str, way_out: str) -> DataError:
    found = f" (it holds {reprlib.repr(value(row, field))})" if has(row, field) else ""
    return DataError(
        f"{where} has no text field {field!r}{found}; its fields are {sorted(row)}. {way_out}"
    )


def _hub(location: str, revision: str | None = None) -> Iterator[tuple[str, Row]]:
    try:
        import datasets
    except ImportError:
        raise DataError(
            "reading a Hub data set needs one more package: pip install datasets"
        ) from None
    data_set_name, _, split = location.partition(":")
    repository, _, config = data_set_name.partition("@")
    try:
        data_set: Iterable[Row] = datasets.load_dataset(
            repository, config or None, split=split or "train", streaming=True, revision=revision
        )
        for number, row in enumerate(data_set, start=1):
            yield f"row {number}", row
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"the Hub data set {location!r} cannot be read: {error}. Where the Hub is out of "
            "reach, give its rows as a JSONL file with the same fields"
        ) from error
