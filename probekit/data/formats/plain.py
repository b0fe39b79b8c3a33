"""Read a file of plain text up to a number of characters, or say why its bytes are no text."""

import codecs
import io
from pathlib import Path
from typing import NamedTuple

from probekit.errors import DataError

# Bytes read at a time, and those of the beginning that tell what a file is.
PART, BEGINNING = 2**16, 2**12
# Text in UTF-16 has a NUL in every second byte where it is mostly Latin; text has next to none.
MANY_NULS = 0.2
CONTROLS = bytes({*range(32)} - set(b"\t\n\v\f\r\x1b"))


class Head(NamedTuple):
    """The beginning of a text, and whether it is all of it."""

    text: str
    whole: bool


def head(path: Path, longest: int) -> Head:
    """Return the first `longest` characters of a file; hardly more of it is read.

    Raises:
        DataError: If it cannot be read, or is no text in UTF-8.
    """
    # Some editors write a byte order mark.
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), True)
    text, beginning, n_bytes = "", b"", 0
    try:
        with path.open("rb") as file:
            raw = beginning = file.read(PART)
            while True:
                n_bytes += len(raw)
                text += decoder.decode(raw, final=not raw)
                if not raw or len(text) > longest:
                    break
                raw = file.read(PART)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise not_text(str(path), beginning, n_bytes - len(error.object) + error.start) from None
    if looks_encoded_otherwise(beginning):
        raise not_text(str(path), beginning)
    return Head(text[:longest], len(text) <= longest)


def looks_encoded_otherwise(raw: bytes) -> bool:
    """Return whether bytes hold more NULs than text does, though they may be UTF-8."""
    return raw[:BEGINNING].count(0) > MANY_NULS * len(raw[:BEGINNING])


def not_text(where: str, raw: bytes, at: int | None = None) -> DataError:
    """Return the error of bytes that are no text in UTF-8.

    Args:
        where: File, and line if it has any.
        raw: The first bytes of it.
        at: The byte that cannot be decoded, if there is one.

    >>> print(not_text("a.txt", "a b".encode("utf-16")))
    a.txt is not UTF-8 text but UTF-16. Convert the file: iconv -f UTF-16 -t UTF-8
    >>> print(not_text("a.png", bytes(range(9))))
    a.png is no text but binary data: give what is written in it as .txt or .jsonl
    """
    raw = raw[:BEGINNING]
    even, odd = raw[::2].count(0), raw[1::2].count(0)
    encoding = ""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "UTF-16"
    elif looks_encoded_otherwise(raw) and min(even, odd) == 0:
        encoding = "UTF-16LE" if odd else "UTF-16BE"
    if encoding:
        return DataError(
            f"{where} is not UTF-8 text but {encoding}. Convert the file: iconv -f {encoding} "
            "-t UTF-8"
        )
    if any(byte in CONTROLS for byte in raw):
        return DataError(
            f"{where} is no text but binary data: give what is written in it as .txt or .jsonl"
        )
    return DataError(
        f"{where} is not UTF-8 text: byte {at} cannot be decoded. Convert the file, for "
        "example with: iconv -f LATIN1 -t UTF-8"
    )
