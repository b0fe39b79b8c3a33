"""Finished stages of a run: kept in its folder, and read back when the same work is asked again.

A stage is kept under a fingerprint of all that could change it, so that a run that was stopped
continues after it, and one with other settings, another model or another text does not.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from probekit import files, provenance
from probekit.progress import Journal
from probekit.runs.setup import Setup
from probekit.settings import RunSettings

# Hexadecimal digits of the fingerprint in a file's name.
FINGERPRINT_DIGITS = 16

T = TypeVar("T")


@dataclass(frozen=True)
class Stages:
    """The finished stages of one run.

    Attributes:
        folder: Where they are kept.
        journal: Where they are timed and noted.
        fingerprint: Digest of all that could change a stage.
    """

    folder: Path
    journal: Journal
    fingerprint: str

    @classmethod
    def of(cls, folder: Path, journal: Journal, causes: Any) -> "Stages":
        """Return the stages under the digest of what could change them, versions included."""
        return cls(folder, journal, provenance.digest([causes, dict(provenance.versions())]))

    @classmethod
    def of_run(
        cls, folder: Path, journal: Journal, setup: Setup, settings: RunSettings
    ) -> "Stages":
        """Return the stages of a run in its folder."""
        texts = [row["sha256"] for row in setup.text]
        causes = [asdict(settings), setup.fingerprint, texts, asdict(setup.parting.separator)]
        return cls.of(folder / "stages", journal, causes)

    def path(self, file: str) -> Path:
        """Return where a file of a stage is kept."""
        return self.folder / f"{self.fingerprint[:FINGERPRINT_DIGITS]}-{file}"

    def file(
        self,
        file: str,
        make: Callable[[], T],
        save: Callable[[T, Path], object],
        label: str | None = None,
    ) -> Path:
        """Return a stage's file, made and written first if it is not there.

        Args:
            file: Its name.
            make: Does the work.
            save: Writes what `make` returned to a path.
            label: Name of the stage in the journal, by default the file's without its ending.
        """
        path, label = self.path(file), label or Path(file).stem
        if path.exists():
            self.journal.recall(label)
        else:
            with self.journal.stage(label):
                content = make()
                files.write(path, lambda temporary: save(content, temporary))
        return path

    def json(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what a stage gave that JSON can hold, as it is read back."""
        path = self.file(f"{name}.json", make, _save_json)
        return json.loads(path.read_text(encoding="utf-8"))

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return the table that a stage gave, as it is read back."""
        return pd.read_parquet(self.file(f"{name}.parquet", make, pd.DataFrame.to_parquet))


def _save_json(content: Any, path: Path) -> None:
    path.write_text(files.as_json(content, indent=None), encoding="utf-8")
