"""Pairs of source and target: which rows are pairs, and the template that both stand in.

Source: Mehra, Alonso Garcia and Mauch (2025), appendix A: IWSLT 2017 de-en in a template.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from probekit.data import rows
from probekit.errors import DataError
from probekit.settings import Settings

TEMPLATE = "Translate the following German sentence to English: {source}\n---\nTranslated: "
USUAL_FIELDS = Settings.source_field, Settings.target_field
WAY_OUT = (
    "Name the right ones with --source-field and --target-field (translation.de goes into an "
    "object)"
)


@dataclass(frozen=True)
class Pair:
    """A source and its target.

    Attributes:
        name: Line or row.
        source: What is to be translated.
        target: The reference.
    """

    name: str
    source: str
    target: str


def holds_pairs(location: str, source_field: str, target_field: str) -> bool:
    """Whether a text's first row has both fields, so that it is pairs and not documents."""
    fields = source_field, target_field
    row = _first(location, fields)
    return all(
        rows.has(row, name) and isinstance(rows.value(row, name), str | None) for name in fields
    )


def require_named(location: str, source_field: str, target_field: str) -> None:
    """Refuse to take rows for documents where a user named the fields of pairs.

    Raises:
        DataError: If a field is not the usual one and the first row lacks one of the two.
    """
    fields = source_field, target_field
    if fields != USUAL_FIELDS and (row := _first(location, fields)):
        for field in fields:
            _side(row, field, f"the first row of {location}")


def _first(location: str, fields: tuple[str, str]) -> rows.Row:
    """Return the first row of what is read as rows, an empty one where there is none."""
    is_hub = location.startswith(rows.HUB)
    if not rows.are_at(location) or not (is_hub or Path(location).expanduser().is_file()):
        return {}
    _, row = next(rows.read(location, fields), ("", {}))
    return row


def read(
    location: str, source_field: str = USUAL_FIELDS[0], target_field: str = USUAL_FIELDS[1]
) -> Iterator[Pair]:
    """Yield the pairs of a text; rows with a side that is empty or null are left out.

    Args:
        location: A .jsonl, .ndjson or .parquet file, or hub:REPOSITORY[@CONFIG][:SPLIT].
        source_field: Name of the source in a row; dots go into nested objects
            (`translation.de`).
        target_field: Name of the target.

    Raises:
        DataError: If it cannot be read, or a row lacks a field.
    """
    if not rows.are_at(location):
        raise DataError(f"pairs are read from {rows.WHERE}, got {location}")
    for name, row in rows.read(location, (source_field, target_field)):
        source, target = (
            _side(row, field, f"{location} {name}") for field in (source_field, target_field)
        )
        if source and target:
            yield Pair(name, source, target)


def _side(row: rows.Row, field: str, where: str) -> str:
    if rows.has(row, field) and rows.value(row, field) is None:
        return ""
    return rows.text(row, field, where, WAY_OUT).strip()
