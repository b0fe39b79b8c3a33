"""Documents: what a document is in each kind of text, and which split it belongs to.

rows         of JSON lines or parquet, in a file or a folder: a row is a document (`--text-field`)
folder       of plain text: a file is a document
other file   the file is one document
hub:...      a row of a Hub data set is a document (needs `datasets`)
preset:...   the same, by name and at one commit (`probekit.data.presets`)
python:...   given in Python, a row is a document
builtin:...  a domain of the built-in text (`probekit.data.builtin_text`)
"""

import hashlib
import os
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from probekit.data import builtin_text, rows
from probekit.data.formats import kinds, plain
from probekit.errors import DataError, SettingsError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

# Documents that test, and the shares of a text that do so at least and at most.
TEST_DOCUMENTS = 60
LEAST_TEST, MOST_TEST = 0.1, 0.3
VALIDATION = 0.1

WAY_OUT = (
    "Name the right one with --text-field, or those of pairs with --source-field and --target-field"
)

LONGEST_NAME = 100
# Characters of a document that are read at most, unless more are asked for: those of a book.
LONGEST = 1_000_000

BUILT_IN = tuple(f"{domain}=builtin:{domain}" for domain in builtin_text.DOMAINS)


@dataclass(frozen=True)
class Document:
    """One document.

    Attributes:
        domain: Name of the text that it comes from.
        name: File, line or row.
        text: What it says; never empty.
        whole: False if it was cut, and goes on.
    """

    domain: str
    name: str
    text: str
    whole: bool = True

    @property
    def n_characters(self) -> int:
        """Characters of the text."""
        return len(self.text)

    @property
    def sha256(self) -> str:
        """Digest of the content, which decides the split."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Source:
    """One `--text` argument: a domain's name and where its documents are."""

    domain: str
    location: str

    @classmethod
    def parse(cls, argument: str) -> "Source":
        """Return the source that `[NAME=]PATH` means; the name defaults to the path's stem.

        >>> Source.parse("stories=data/stories.jsonl")
        Source(domain='stories', location='data/stories.jsonl')
        >>> Source.parse("data/stories.jsonl").domain
        'stories'
        """
        name, equals, location = argument.partition("=")
        if not equals:
            location = argument
            is_path = not argument.startswith((rows.BUILT_IN, rows.HUB, rows.PRESET))
            name = kinds.stem(Path(argument)) if is_path else argument.split(":")[1]
        if not name or not location:
            raise DataError(f"--text must be PATH or NAME=PATH, got {argument!r}")
        return cls(name, location)


def sources(arguments: Sequence[str]) -> list[Source]:
    """Return what `--text` arguments mean.

    Raises:
        DataError: If one means nothing.
        SettingsError: If two texts have one name, or one that stands for all of them.
    """
    parsed = [Source.parse(argument) for argument in arguments]
    names = [source.domain for source in parsed]
    if len(set(names)) < len(names) or "all" in names:
        raise SettingsError(
            f"texts need different names, none of them 'all', got {', '.join(names)}: "
            "say --text NAME=PATH"
        )
    for name in names:
        # It stands in lines of the terminal, in tables and on axes.
        if len(name) > LONGEST_NAME or not name.isprintable() or name.isspace():
            raise SettingsError(
                f"the name of a text must be of 1..{LONGEST_NAME} characters that can be "
                f"printed, got {reprlib.repr(name)}: say --text NAME=PATH"
            )
    return parsed


@dataclass
class Nulls:
    """Counts rows whose text is null, while they are read."""

    count: int = 0


def from_files(source: Source, longest: int = LONGEST) -> Iterator[Document]:
    """Yield the documents of a file or folder, or of a domain of the built-in text.

    Args:
        source: Where they are and what to call them.
        longest: Characters of a document that are read; behind them it is cut.

    Raises:
        DataError: If there is nothing to read, or it is not UTF-8 text.
    """
    domain, built_in = source.domain, source.location.removeprefix(rows.BUILT_IN)
    if built_in != source.location:
        for name, text in _built_in(built_in).items():
            yield Document(domain, name, text)
        return
    for file, path in kinds.files(kinds.path_of(source.location)):
        text, whole = plain.head(path, longest)
        if text.strip():
            yield Document(domain, _spelt(file or path.name), text, whole)


def from_rows(
    source: Source,
    field: str,
    opened: Iterable[tuple[str, rows.Row]],
    nulls: Nulls,
    longest: int = LONGEST,
) -> Iterator[Document]:
    """Yield the documents of rows.

    Args:
        source: Where the rows are and what to call them.
        field: Name of the text in a row; dots go into nested objects.
        opened: The rows by name.
        nulls: Counts the rows that are left out because their text is null.
        longest: Characters of a document that are taken; behind them it is cut.

    Raises:
        DataError: If a row lacks the field.
    """
    location = source.location.removeprefix(rows.HUB)
    for name, row in opened:
        if rows.has(row, field) and rows.value(row, field) is None:
            nulls.count += 1
            continue
        text = rows.text(row, field, f"{location} {name}", WAY_OUT)
        if text.strip():
            whole = len(text) <= longest
            yield Document(source.domain, _spelt(name), text[:longest], whole)


def _built_in(domain: str) -> dict[str, str]:
    if domain not in builtin_text.DOMAINS:
        raise DataError(f"the built-in text has the domains {builtin_text.DOMAINS}, got {domain!r}")
    return builtin_text.documents(domain, "held-out")


def _spelt(name: str) -> str:
    """Return a name with the bytes of it that are not UTF-8 spelt out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def split(documents: Sequence[Document], sizes: Sequence[int]) -> list[Split]:
    """Return the split of each document of one domain: train, validation or test.

    Documents are sorted by the sha256 of their content and cut where `shares` says, by tokens.
    A document is whole in one split, and documents of the same content are in the same.

    Args:
        documents: The documents of one domain.
        sizes: Tokens of each.

    Raises:
        DataError: If there are not three different documents.
    """
    weights: dict[str, int] = {}
    for document, size in zip(documents, sizes, strict=True):
        weights[document.sha256] = weights.get(document.sha256, 0) + size
    digests = sorted(weights)
    if len(digests) < len(SPLITS):
        raise DataError(
            f"train, validation and test need at least 3 different documents, "
            f"{documents[0].domain!r} has {len(digests)}: give more text"
        )
    total, before, starts = sum(weights.values()), 0, []
    for digest in digests:
        starts.append(before / total)
        before += weights[digest]
    # Each part holds at least one document, whatever the sizes.
    train, validation, _ = shares(len(digests))
    first = min(max(1, sum(start < train for start in starts)), len(digests) - 2)
    until = round(train + validation, 3)
    second = min(max(first + 1, sum(start < until for start in starts)), len(digests) - 1)
    part = {d: SPLITS[(i >= first) + (i >= second)] for i, d in enumerate(digests)}
    return [part[document.sha256] for document in documents]


def shares(n_documents: int) -> tuple[float, float, float]:
    """Return the shares of the tokens of a text that train, validate and test.

    Intervals are made of test documents: a tenth of the text tests where that is 60 documents,
    more of it where it is not, and of few documents three tenths.

    >>> shares(1000), shares(300), shares(50)
    ((0.8, 0.1, 0.1), (0.7, 0.1, 0.2), (0.6, 0.1, 0.3))
    """
    test = round(min(max(TEST_DOCUMENTS / n_documents, LEAST_TEST), MOST_TEST), 3)
    return round(1 - VALIDATION - test, 3), VALIDATION, test
