"""Read lines of JSON, compressed or not, one by one and none of them too long to hold."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from probekit.data.formats.kinds import COMPRESSED
from probekit.data.formats.plain import not_text
from probekit.errors import DataError

# A line of 32 MB holds a text as long as twenty novels.
LONGEST_LINE = 2**25
# Blank lines in a row: compressed, a small file may hold more than anyone waits for.
MOST_BLANK = 1_000_000


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of JSON lines, each with its name, `line 3`; blank lines are none.

    Raises:
        DataError: If a line is no JSON object, too long, or the file cannot be read.
    """
    n_blank = 0
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path} line {number}"
        try:
            # Some editors write a byte order mark.
            decoded = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise not_text(where, line, error.start) from None
        n_blank = 0 if decoded.strip() else n_blank + 1
        if n_blank > MOST_BLANK:
            raise DataError(f"{where} is the last of more than {MOST_BLANK:,} blank lines")
        if not n_blank:
            yield f"line {number}", _object(decoded, where)


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        # Of numbers nothing is read, and an integer of many digits is refused as such.
        row = json.loads(line, parse_int=float)
    except RecursionError:
        raise DataError(
            f"{where} is nested too deep to be read: texts need no such depth"
        ) from None
    except json.JSONDecodeError as error:
        if "\0" in line:
            raise not_text(where, line.encode()) from None
        raise DataError(f"{where} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where} must be an object, got {type(row).__name__}")
    return row


def _lines(path: Path) -> Iterator[bytes]:
    # Bytes: only they end at line feeds alone, and tell which line cannot be decoded. JSON
    # strings may hold the other line ends of Unicode as they are.
    number = 0
    try:
        with path.open("rb") as file, _unpacked(file, path) as unpacked:
            while line := unpacked.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise DataError(
                        f"{path} line {number} is longer than {LONGEST_LINE:,} bytes: give each "
                        "document a line of its own, and cut one that is longer still"
                    )
                yield line
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def _unpacked(file: io.BufferedReader, path: Path) -> io.BufferedReader:
    codec = COMPRESSED.get(path.suffix.lower())
    if codec is None:
        return file
    if not pa.Codec.is_available(codec):
        raise DataError(f"{path} cannot be read: this pyarrow has no {codec}. Unpack the file")
    return io.BufferedReader(pa.CompressedInputStream(file, codec))
