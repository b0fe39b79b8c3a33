"""Chats: which rows hold one, and its messages in the words of chat templates."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from probekit.data import rows
from probekit.errors import DataError

ASSISTANT = "assistant"
# What other tools call the keys of a message, and who says it.
KEYS = {"from": "role", "value": "content"}
ROLES = {"human": "user", "gpt": ASSISTANT}

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Chat:
    """One chat.

    Attributes:
        name: Line or row.
        messages: Who says what, each at least with its `role`.
    """

    name: str
    messages: tuple[Message, ...]

    @property
    def n_characters(self) -> int:
        """Characters of all messages."""
        return sum(len(str(message.get("content") or "")) for message in self.messages)


def field_of(row: rows.Row, text_field: str) -> str | None:
    """Return the field of a row that holds a chat; None if the row has a text, or no chat.

    >>> field_of({"messages": [{"role": "user", "content": "Hi"}]}, "text")
    'messages'
    >>> field_of({"messages": [{"role": "user", "content": "Hi"}], "text": "Hi"}, "text")
    """
    names = (text_field,) if rows.has(row, text_field) else rows.CHATS
    return next((name for name in names if isinstance(rows.value(row, name), list)), None)


def from_rows(location: str, field: str, opened: Iterable[tuple[str, rows.Row]]) -> Iterator[Chat]:
    """Yield the chats of rows; rows whose chat is empty or null are left out.

    Args:
        location: Where the rows are, for an error.
        field: Name of the field.
        opened: The rows by name.

    Raises:
        DataError: If a row holds no chat there.
    """
    for name, row in opened:
        found = rows.value(row, field)
        if found or not rows.has(row, field):
            yield Chat(name, _messages(found, f"{location} {name}", field))


def _messages(found: object, where: str, field: str) -> tuple[Message, ...]:
    whole = isinstance(found, list) and all(isinstance(each, Mapping) for each in found)
    messages = [{KEYS.get(k, k): v for k, v in each.items()} for each in found] if whole else []  # type: ignore[attr-defined]
    if not messages or not all(isinstance(each.get("role"), str) for each in messages):
        raise DataError(
            f"{where} has no chat in {field!r}: it must be a list of messages, each with a "
            "'role' and a 'content'"
        )
    return tuple(each | {"role": ROLES.get(each["role"], each["role"])} for each in messages)
