"""Open a text: it holds documents, pairs of source and target, or chats, as its first row says."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TypeVar

from probekit.data import documents, rows
from probekit.data.documents import LONGEST, Document, Nulls, Source
from probekit.data.prompted import chats, pairs
from probekit.data.prompted.chats import Chat
from probekit.data.prompted.pairs import USUAL_FIELDS, Pair
from probekit.errors import DataError
from probekit.settings import RunSettings

T = TypeVar("T", Document, Pair, Chat)


@dataclass(frozen=True)
class Documents:
    """An open text of documents.

    Attributes:
        source: Where it is.
        entries: Its documents, in its own order, to be read once.
        nulls: Rows left out so far because their text is null.
    """

    source: Source
    entries: Iterator[Document]
    nulls: Nulls = field(default_factory=Nulls)

    def take(self, limit: int | None = None, max_characters: int | None = None) -> list[Document]:
        """Return the first documents; files, lines and rows behind them are not read.

        Args:
            limit: Take no more than this many documents.
            max_characters: Take no more documents once those taken have so many characters;
                the last one is taken whole, so there is always one.

        Raises:
            DataError: If there is no document, or one that is reached is not UTF-8 text.
        """
        taken = list(_up_to(max_characters, islice(self.entries, limit)))
        if not taken:
            or_null = " or null" if self.nulls.count else ""
            raise DataError(
                f"{self.source.location} holds no text: every document in it is empty{or_null}"
            )
        return taken


@dataclass(frozen=True)
class Pairs:
    """An open text of pairs.

    Attributes:
        source: Where it is.
        entries: Its pairs with two sides, in its own order, to be read once.
    """

    source: Source
    entries: Iterator[Pair]

    def take(self, limit: int | None = None, max_characters: int | None = None) -> list[Pair]:
        """Return the first pairs, as `Documents.take` does documents.

        Raises:
            DataError: If no pair has two sides, or a row that is reached lacks a field.
        """
        taken = list(_up_to(max_characters, islice(self.entries, limit)))
        if not taken:
            raise DataError(f"{self.source.location} holds no pair: a side of every one is empty")
        return taken


@dataclass(frozen=True)
class Chats:
    """An open text of chats.

    Attributes:
        source: Where it is.
        entries: Its chats, in its own order, to be read once.
    """

    source: Source
    entries: Iterator[Chat]

    def take(self, limit: int | None = None, max_characters: int | None = None) -> list[Chat]:
        """Return the first chats, as `Documents.take` does documents.

        Raises:
            DataError: If none has a message, or a row that is reached holds no chat.
        """
        taken = list(_up_to(max_characters, islice(self.entries, limit)))
        if not taken:
            raise DataError(f"{self.source.location} holds no chat: every one is empty")
        return taken


def open_text(
    source: Source,
    text_field: str = RunSettings.text_field,
    pair_fields: tuple[str, str] = USUAL_FIELDS,
    longest: int = LONGEST,
) -> Documents | Pairs | Chats:
    """Open a text: of pairs or of chats if its first row is one, else of documents.

    Args:
        source: Where to read and what to call it.
        text_field: Name of the text in a row that is a document, or of a chat.
        pair_fields: Names of source and target in a row that is a pair; dots go into nested
            objects (`translation.de`).
        longest: Characters of a document that are taken; behind them it is cut.

    Raises:
        DataError: If there is nothing to read, or the fields of pairs are not the usual ones
            and the first row lacks one of the two.
    """
    if not rows.are_in(source.location):
        return Documents(source, documents.from_files(source, longest))
    opened = rows.read(source.location, (*pair_fields, text_field, *rows.CHATS))
    first = list(islice(opened, 1))
    every = chain(first, opened)
    for _, row in first:
        if pairs.is_pair(row, pair_fields):
            return Pairs(source, pairs.from_rows(source.location, pair_fields, every))
        if pair_fields != USUAL_FIELDS:
            pairs.require_fields(row, pair_fields, f"the first row of {source.location}")
        if field := chats.field_of(row, text_field):
            return Chats(source, chats.from_rows(source.location, field, every))
    nulls = Nulls()
    entries = documents.from_rows(source, text_field, every, nulls, longest)
    return Documents(source, entries, nulls)


def _up_to(max_characters: int | None, entries: Iterable[T]) -> Iterator[T]:
    n_taken = 0
    for entry in entries:
        yield entry
        n_taken += entry.n_characters
        if max_characters is not None and n_taken >= max_characters:
            return
