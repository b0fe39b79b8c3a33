"""What was tried, in words: drafters, shapes, the rows of one text."""

from collections.abc import Sequence

from probekit.readout import LENS, LINEAR, SKIP_BIGRAM
from probekit.reports.components.rows import Row, require_schema

SCHEMA = "probekit.draft/1"
# What may draft, as page and figures call it; heads are `head:<strategy>`.
NAMES = {
    LINEAR: "linear probe",
    LENS: "logit lens",
    SKIP_BIGRAM: "skip-bigram",
    "mean-embedding": "untrained queries",
    "prompt-lookup": "prompt lookup",
    "head:own": "the model's own heads",
}
HEAD = "head:"
# Strategies of heads that figures may name; others are numbered, for figures hold no text of a run.
STRATEGIES = ("heads-only", "heads-from-probes")


def require_draft(document: Row) -> Row:
    """Return a measured draft, if it is of the schema that is read here.

    Raises:
        RunError: If it is not.
    """
    way_out = "read it with the version of probekit that wrote it, or run `probekit draft` again"
    require_schema(document, SCHEMA, "a measured draft must be", way_out)
    return document


def domains(document: Row) -> list[str]:
    """Return the texts, in order."""
    return list(dict.fromkeys(row["domain"] for row in document["drafters"]))


def of_domain(document: Row, domain: str) -> list[Row]:
    """Return what was tried on a text."""
    return [row for row in document["drafters"] if row["domain"] == domain]


def called(row: Row) -> str:
    """Return what a row's drafter is called.

    >>> called({"drafter": "linear"}), called({"drafter": "head:heads-only"})
    ('linear probe', 'heads: heads-only')
    """
    name = row["drafter"]
    return NAMES.get(name, f"heads: {name.removeprefix(HEAD)}")


def shape(widths: Sequence[int]) -> str:
    """Return the shape of drafts in words.

    >>> shape([1]), shape([1, 1, 1]), shape([3, 2])
    ('1 token', '3 tokens', 'tree of 3 and 2')
    """
    if max(widths) == 1:
        return f"{len(widths)} token{'s' if len(widths) > 1 else ''}"
    return f"tree of {', '.join(map(str, widths[:-1]))} and {widths[-1]}"


def in_figures(rows: Sequence[Row]) -> list[str]:
    """Return what rows are called in figures, where no text of the run may stand.

    >>> in_figures([{"drafter": "linear", "widths": [1]}, {"drafter": "head:<b>", "widths": [1]}])
    ['linear probe, 1 token', 'heads 2, 1 token']
    """
    return [f"{_drawn(row, place)}, {shape(row['widths'])}" for place, row in enumerate(rows, 1)]


def _drawn(row: Row, place: int) -> str:
    known = row["drafter"] in NAMES or row["drafter"].removeprefix(HEAD) in STRATEGIES
    return called(row) if known else f"heads {place}"
