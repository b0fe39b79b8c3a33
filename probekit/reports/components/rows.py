"""The rows that pages read: their schema, their domains, and which readouts they are of."""

from collections.abc import Iterable, Mapping
from typing import Any

from probekit.errors import RunError
from probekit.readout import (
    CONTROL,
    FED,
    FURTHER,
    LENS,
    LINEAR,
    MARGINAL,
    MARGINAL_ADAPTED,
    MODEL,
    RANDOM,
)
from probekit.scoring.rates import ALL

Row = Mapping[str, Any]  # a row of a table, or any other object, of a JSON document
CONTRASTS = (RANDOM, CONTROL)  # drawn beside the probe, never in its place
_NOT_PROBES = {LENS, *FURTHER, *FED, MODEL, MARGINAL, MARGINAL_ADAPTED, *CONTRASTS}


def require_schema(document: Row, schema: str, reader: str, way_out: str) -> None:
    """Refuse a document of another schema.

    Args:
        document: The document, which names its schema.
        schema: The schema that is read here.
        reader: Who reads what: the beginning of the message.
        way_out: What to do instead: the end of the message.

    Raises:
        RunError: If the document's schema is another one.
    """
    if document.get("schema") != schema:
        raise RunError(f"{reader} of schema {schema!r}, got {document.get('schema')!r}: {way_out}")


def domains_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the domains of rows, "all" first; it is left out where it equals the only domain.

    >>> domains_of([{"domain": "prose"}, {"domain": "all"}, {"domain": "code"}])
    ('all', 'prose', 'code')
    >>> domains_of([{"domain": "all"}, {"domain": "prose"}])
    ('prose',)
    """
    names = dict.fromkeys(row["domain"] for row in rows)
    single = [name for name in names if name != ALL]
    if len(single) == 1:
        return (single[0],)
    return (*([ALL] if ALL in names else []), *single)


def main_probe(rows: Iterable[Row]) -> str | None:
    """Return the readout whose curves are drawn: linear, else the first with layers, else None."""
    layered = dict.fromkeys(row["readout"] for row in rows if row["layer"] is not None)
    names = [name for name in layered if name not in _NOT_PROBES and not name.startswith("head:")]
    return LINEAR if LINEAR in names else next(iter(names), None)


def ceiling(offset: int) -> str:
    """Return the name of the readout that is the ceiling at an offset.

    >>> ceiling(1), ceiling(2)
    ('model', 'marginal')
    """
    return MODEL if offset == 1 else MARGINAL


def ceiling_of(row: Row) -> str:
    """Return the ceiling that a marginalization row is about.

    >>> ceiling_of({"readout": "marginal-adapted"}), ceiling_of({})
    ('marginal-adapted', 'marginal')
    """
    return str(row.get("readout", MARGINAL))
