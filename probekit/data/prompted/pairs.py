"""Pairs of source and target: which rows are pairs, and the template that a source stands in.

Source: Mehra, Alonso Garcia and Mauch (2025), appendix A: IWSLT 2017 de-en in a template.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from probekit.data import rows
from probekit.data.documents import Document
from probekit.errors import SettingsError
from probekit.settings import RunSettings

TEMPLATE = "Translate the following German sentence to English: {source}\n---\nTranslated: "
# Of pairs of which nothing is known but which is which.
PLAIN = "{source}\n---\n"
LANGUAGES = {
    "ar": "Arabic", "cs": "Czech", "de": "German", "en": "English", "es": "Spanish",
    "fi": "Finnish", "fr": "French", "hi": "Hindi", "it": "Italian", "ja": "Japanese",
    "ko": "Korean", "nl": "Dutch", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian",
    "ru": "Russian", "sv": "Swedish", "tr": "Turkish", "uk": "Ukrainian", "zh": "Chinese",
}  # fmt: skip
USUAL_FIELDS = RunSettings.source_field, RunSettings.target_field
WAY_OUT = (
    "Name the right ones with --source-field and --target-field (translation.de goes into an "
    "object)"
)


def template_of(asked: str, fields: tuple[str, str]) -> str:
    r"""Return the template that a setting asks for, with {source} for the source.

    Args:
        asked: `auto`, `paper`, or a template, in which \\n is a line feed and {target} may end.
        fields: Names of source and target; `auto` takes languages from them.

    Raises:
        SettingsError: If a template does not hold {source} once.

    >>> template_of("auto", ("translation.fr", "en"))
    'Translate the following French sentence to English: {source}\n---\nTranslated: '
    >>> template_of("auto", ("question", "answer"))
    '{source}\n---\n'
    """
    if asked == "paper":
        return TEMPLATE
    if asked != "auto":
        template = asked.removesuffix("{target}")
        if template.count("{source}") != 1 or "{target}" in template:
            raise SettingsError(
                "--pair-template must be auto, paper or a text with {source} in it once, and with "
                f"{{target}} at its end or not at all, got {asked!r}"
            )
        return template.replace("\\n", "\n")
    codes = [name.rpartition(".")[2].lower() for name in fields]
    if not all(code in LANGUAGES for code in codes):
        return PLAIN
    first, second = (LANGUAGES[code] for code in codes)
    return TEMPLATE.replace("German sentence to English", f"{first} sentence to {second}")


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

    @property
    def n_characters(self) -> int:
        """Characters of both sides."""
        return len(self.source) + len(self.target)

    def document(self, domain: str) -> Document:
        r"""Return source and target as one document, whose content decides the split.

        >>> Pair("line 1", "Ja.", "Yes.").document("d").text
        'Ja.\nYes.'
        """
        return Document(domain, self.name, f"{self.source}\n{self.target}")


def is_pair(row: rows.Row, fields: tuple[str, str]) -> bool:
    """Return whether a row has both fields, each a text or null.

    >>> is_pair({"source": "Ja.", "target": None}, ("source", "target"))
    True
    """
    return all(
        rows.has(row, name) and isinstance(rows.value(row, name), str | None) for name in fields
    )


def require_fields(row: rows.Row, fields: tuple[str, str], where: str) -> None:
    """Raise if a row lacks a field of pairs.

    Raises:
        DataError: If it does.
    """
    for field in fields:
        _side(row, field, where)


def from_rows(
    location: str, fields: tuple[str, str], opened: Iterable[tuple[str, rows.Row]]
) -> Iterator[Pair]:
    """Yield the pairs of rows; rows with a side that is empty or null are left out.

    Args:
        location: Where the rows are, for an error.
        fields: Names of source and target; dots go into nested objects (`translation.de`).
        opened: The rows by name.

    Raises:
        DataError: If a row lacks a field.
    """
    for name, row in opened:
        source, target = (_side(row, field, f"{location} {name}") for field in fields)
        if source and target:
            yield Pair(name, source, target)


def _side(row: rows.Row, field: str, where: str) -> str:
    if rows.has(row, field) and rows.value(row, field) is None:
        return ""
    return rows.text(row, field, where, WAY_OUT).strip()
