"""A finished analysis: its numbers, as pandas has them, and what a notebook shows of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from probekit.hub import local
from probekit.readout import LINEAR
from probekit.reports.cards import InFolder
from probekit.runs.folder import DOCUMENTS, PASSAGES, RESULTS, SCHEMA, read_settings
from probekit.runs.own_files import SETTINGS
from probekit.runs.reading import read_json, read_passages, read_sums, read_table
from probekit.settings import Settings


@dataclass(frozen=True, repr=False)
class Run(InFolder):
    """A finished run; `document` is the content of results.json."""

    @property
    def results(self) -> Mapping[str, Any]:
        """The content of results.json."""
        return self.document

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The scores, one row a readout, layer, offset, domain, split and set of positions."""
        return pd.DataFrame(self.results["scores"]).astype({"layer": "Int64"})

    @cached_property
    def site_scores(self) -> pd.DataFrame:
        """The scores of linear probes at every site, the run's own first, as `scores` has them."""
        own = [row for row in self.results["scores"] if row["readout"] == LINEAR]
        rows = [*own, *self.results.get("site_scores", ())]
        return pd.DataFrame(rows).astype({"layer": "Int64"})

    @cached_property
    def documents(self) -> pd.DataFrame:
        """Sums by document, from which the scores are made."""
        return read_sums(self.folder / "scores.parquet")

    @cached_property
    def specialization(self) -> pd.DataFrame:
        """The numbers that decide, one row a domain and offset."""
        return pd.DataFrame(self.results["specialization"])

    @cached_property
    def passages(self) -> dict[str, Any] | None:
        """The content of passages.json; None where a run has no such file.

        Raises:
            RunError: If it is not JSON, or of another schema.
        """
        path = self.folder / "passages.json"
        return read_passages(path, PASSAGES) if path.exists() else None

    @cached_property
    def document_names(self) -> pd.DataFrame:
        """Source, name and window of each document, as `metadata.documents_table` has them."""
        return read_table(self.folder / DOCUMENTS)

    @property
    def settings(self) -> Settings:
        """The settings, from run.toml."""
        return read_settings(self.folder / SETTINGS, Settings)


def load(folder: str | Path) -> Run:
    """Read a run folder, or hub:owner/name[@revision].

    Raises:
        RunError: If it holds no finished run, or one of another schema.
    """
    folder = local(folder)
    return Run(folder, read_json(folder / RESULTS, SCHEMA))
