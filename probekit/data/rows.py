"""Read rows with named fields from JSONL, parquet or a Hub data set.

JSONL        a line is a row (.jsonl, .ndjson); blank lines are none
parquet      a row is a row; columns that nobody asks for are not read
hub:...      REPOSITORY[@CONFIG][:SPLIT], fetched row by row (needs `datasets`)

Rows are read one by one, so that none is read behind the last one that is taken.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from probekit.errors import DataError

HUB = "hub:"
LINES = {".jsonl", ".ndjson"}
TABLE = ".parquet"

# Rows of parquet decoded at a time: a row may hold a book.
BATCH_ROWS = 64

Row = Mapping[str, Any]


def are_in(location: str) -> bool:
    """Return whether a location is read as rows: a Hub data set, or a file by its suffix.

    >>> are_in("hub:owner/name"), are_in("builtin:prose"), are_in("no such file.jsonl")
    (True, False, False)
    """
    path = Path(location).expanduser()
    return location.startswith(HUB) or (path.suffix in {*LINES, TABLE} and path.is_file())


def read(location: str, fields: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a location, each with its name: `line 3` or `row 3`.

    Args:
        location: A file or a Hub data set, as `are_in` knows them.
        fields: The fields to read; dots go into nested objects. Of parquet nothing
            else is read: a row has the other fields, and None in them.

    Raises:
        DataError: If it cannot be read, or a line is no JSON object.
    """
    if location.startswith(HUB):
        return _hub(location.removeprefix(HUB))
    path = Path(location).expanduser()
    return _table(path, fields) if path.suffix == TABLE else _jsonl(path)


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
        raise DataError(
            f"{where} has no text field {field!r}; its fields are {sorted(row)}. {way_out}"
        )
    if any("\ud800" <= character <= "\udfff" for character in string):
        raise DataError(f"{where} holds half of a surrogate pair, which is no text in UTF-8")
    return string


def not_utf8(where: str, error: UnicodeDecodeError) -> DataError:
    """Return the error of bytes that are no text."""
    return DataError(
        f"{where} is not UTF-8 text: byte {error.start} cannot be decoded. Convert the file, for "
        "example with: iconv -f LATIN1 -t UTF-8"
    )


def _jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path} line {number}"
        try:
            # Some editors write a byte order mark.
            decoded = line.decode("utf-8-sig" if number == 1 else "utf-8")
            row = json.loads(decoded) if decoded.strip() else {}
        except UnicodeDecodeError as error:
            raise not_utf8(where, error) from None
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{where} must be an object, got {type(row).__name__}")
        if decoded.strip():
            yield f"line {number}", row


def _lines(path: Path) -> Iterator[bytes]:
    # Bytes: only they end at line feeds alone, and tell which line cannot be decoded. JSON
    # strings may hold the other line ends of Unicode as they are.
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _table(path: Path, fields: Sequence[str]) -> Iterator[tuple[str, Row]]:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from None
    with file:
        names = file.schema_arrow.names
        tops = [field if field in names else field.partition(".")[0] for field in fields]
        columns = [name for name in dict.fromkeys(tops) if name in names]
        unread = dict.fromkeys(names)
        for number, row in enumerate(_decoded(file, columns, path), start=1):
            yield f"row {number}", unread | row


def _decoded(file: Any, columns: list[str], path: Path) -> Iterator[dict[str, Any]]:
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
            yield from batch.to_pylist()
    except (OSError, ValueError) as error:
        named = ", ".join(map(repr, columns))
        raise DataError(f"the field {named} of {path} cannot be read: {error}") from None


def _hub(location: str) -> Iterator[tuple[str, Row]]:
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
            repository, config or None, split=split or "train", streaming=True
        )
        for number, row in enumerate(data_set, start=1):
            yield f"row {number}", row
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"the Hub data set {location!r} cannot be read: {error}. Where the Hub is out of "
            "reach, give its rows as a JSONL file with the same fields"
        ) from error
