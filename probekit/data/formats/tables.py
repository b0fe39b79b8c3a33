"""Read rows of parquet; columns that nobody asks for are not read."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from probekit.errors import DataError

# Rows decoded at a time: a row may hold a book.
BATCH_ROWS = 64


def rows(path: Path, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a parquet file, each with its name, `row 3`.

    Args:
        path: The file.
        fields: Fields to read; dots go into nested objects. A row has the others too, and None
            in them.

    Raises:
        DataError: If it is no parquet, or a column of it cannot be read.
    """
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
