"""Texts of the Hub by name, from presets.toml, each at one commit."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from probekit.errors import DataError


@dataclass(frozen=True)
class Preset:
    """A text of the Hub: one entry of presets.toml.

    Attributes:
        repository: Of a data set.
        config: Its configuration.
        split: Its split.
        revision: A commit.
        starts: Of a text that is told in several rows, what its first one begins with, as a
            regular expression; None if a row is a document.
    """

    repository: str
    config: str
    split: str
    revision: str
    starts: str | None = None

    def documents(
        self, rows: Iterable[tuple[str, Mapping[str, Any]]]
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        r"""Yield rows of whole documents, each with the name of its first row.

        >>> titled = Preset("owner/name", "c", "train", "0" * 40, starts=" = [^=]")
        >>> lines = [" = A = \n", " = = B = = \n", "b\n", " = C = \n"]
        >>> list(titled.documents((f"row {n}", {"text": line}) for n, line in enumerate(lines)))
        [('row 0', {'text': ' = A = \n = = B = = \nb\n'}), ('row 3', {'text': ' = C = \n'})]
        """
        if self.starts is None:
            yield from rows
            return
        first, parts = "", list[str]()
        for name, row in rows:
            if re.match(self.starts, row["text"]) and parts:
                yield first, {"text": "".join(parts)}
                parts = []
            first = first if parts else name
            parts.append(row["text"])
        if parts:
            yield first, {"text": "".join(parts)}


@cache
def entries() -> dict[str, Preset]:
    """Return all presets by name."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return {name: Preset(**values) for name, values in tomllib.loads(text).items()}


def named(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        DataError: If there is none.
    """
    if name not in entries():
        raise DataError(f"the presets of texts are {', '.join(entries())}, got {name!r}")
    return entries()[name]
