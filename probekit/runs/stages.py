"""Finished stages of a run: kept in its folder, and read back when the same work is asked again.

A stage is kept under a fingerprint of all that could change it, so that a run that was stopped
continues after it, and one with other settings, another model or another text does not. Where a
run has several ranks all of them come to each stage: the first makes it, alone or of what each has
made as its part, and all go on from its file.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from probekit import files, provenance
from probekit.errors import RunError
from probekit.progress import Journal
from probekit.runs.ranks import Ranks
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
        ranks: This process among those that make them together.
    """

    folder: Path
    journal: Journal
    fingerprint: str
    ranks: Ranks = field(default_factory=Ranks)

    @classmethod
    def of(
        cls, folder: Path, journal: Journal, causes: Any, ranks: Ranks | None = None
    ) -> "Stages":
        """Return the stages under the digest of what could change them, versions included.

        Raises:
            RunError: If that is not the same on every rank.
        """
        digest = provenance.digest([causes, dict(provenance.versions())])
        ranks = ranks or Ranks()
        if ranks.same(lambda: digest) != digest:
            raise RunError(
                f"process {ranks.number} of this run has another model, text, separator or version "
                "of a package than process 0: give all of them the same files and environment"
            )
        stages = cls(folder, journal, digest, ranks)
        ranks.same(stages.drop_damaged)
        return stages

    @classmethod
    def of_run(
        cls,
        folder: Path,
        journal: Journal,
        setup: Setup,
        settings: RunSettings,
        ranks: Ranks | None = None,
    ) -> "Stages":
        """Return the stages of a run in its folder."""
        texts = [row["sha256"] for row in setup.text]
        causes = [asdict(settings), setup.fingerprint, texts, asdict(setup.parting.separator)]
        return cls.of(folder / "stages", journal, causes, ranks)

    def drop_damaged(self) -> None:
        """Remove files that are not as they were written, and what was made after them."""
        named = self.folder.glob(f"{self.path('*').name}")
        made = [path for path in named if not files.is_digest(path)]
        made.sort(key=files.written_ns)
        damaged = [place for place, path in enumerate(made) if not files.is_undamaged(path)]
        if not damaged:
            return
        names = ", ".join(made[place].name[FINGERPRINT_DIGITS + 1 :] for place in damaged)
        self.journal.say(f"  damaged or half written, made again with all after it: {names}")
        for path in made[damaged[0] :]:
            files.remove_checked(path)

    def path(self, file: str) -> Path:
        """Return where a file of a stage is kept."""
        return self.folder / f"{self.fingerprint[:FINGERPRINT_DIGITS]}-{file}"

    def file(
        self,
        file: str,
        make: Callable[[], T],
        save: Callable[[T, Path], object],
        label: str | None = None,
        part: Callable[[], object] | None = None,
    ) -> Path:
        """Return a stage's file, made and written first if it is not there.

        Args:
            file: Its name.
            make: Does the work, on the first rank.
            save: Writes what `make` returned to a path.
            label: Name of the stage in the journal, by default the file's without its ending.
            part: What each rank does before, of work that is shared.
        """
        path, label = self.path(file), label or Path(file).stem
        if self.ranks.same(path.exists):
            self.journal.recall(label)
            return path
        with self.journal.stage(label):
            if part is not None:
                part()
                self.ranks.meet()
            if self.ranks.first:
                content = make()
                files.write_checked(path, lambda temporary: save(content, temporary))
        self.ranks.meet()
        return path

    def json(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what a stage gave that JSON can hold, as it is read back."""
        path = self.file(f"{name}.json", make, _save_json)
        return json.loads(path.read_text(encoding="utf-8"))

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return the table that a stage gave, as it is read back."""
        return pd.read_parquet(self.file(f"{name}.parquet", make, pd.DataFrame.to_parquet))

    def shared_table(
        self,
        name: str,
        make: Callable[[], pd.DataFrame],
        order: Sequence[str],
        label: str | None = None,
    ) -> pd.DataFrame:
        """Return the table of which each rank made some rows, as it is read back.

        Args:
            name: Its name.
            make: Makes the rows of this rank; a table without columns where it has none.
            order: Columns by whose values the rows are put in order, whoever made them.
            label: Name of the stage in the journal, by default the table's.
        """
        count = self.ranks.count
        parts = [self.path(f"{name}.{number}-of-{count}.parquet") for number in range(count)]
        own = parts[self.ranks.number]

        def part() -> None:
            if not own.exists():
                files.write_checked(own, make().to_parquet)

        def joined() -> pd.DataFrame:
            tables = [table for table in map(pd.read_parquet, parts) if len(table)]
            if not tables:
                return pd.DataFrame()
            whole = pd.concat(tables, ignore_index=True)
            return whole.sort_values(list(order), kind="stable", ignore_index=True)

        save = pd.DataFrame.to_parquet
        return pd.read_parquet(self.file(f"{name}.parquet", joined, save, label or name, part))


def _save_json(content: Any, path: Path) -> None:
    path.write_text(files.as_json(content, indent=None), encoding="utf-8")
