"""The run folder: what is in it, written whole or not at all, and read again.

results.json        aggregates, schema probekit.results/1
scores.parquet      sums by document
probes.safetensors  the probes
passages.json       what readouts say at each token of a few passages, schema probekit.passages/1
report.html         the report
run.toml            the settings
stages/             finished work of an unfinished run
log.jsonl           progress events
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from probekit.errors import RunError
from probekit.files import write_text
from probekit.settings import Settings, from_file

# What says that a folder holds a finished job, and of which kind.
FINISHED = {
    "results.json": "an analysis",
    "heads.json": "a study of heads",
    "reproduction.json": "a repeated experiment",
}
SCHEMA = "probekit.results/1"
PASSAGES = "probekit.passages/1"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Where it is.
        results: The content of results.json.
    """

    folder: Path
    results: Mapping[str, Any]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The scores, one row a readout, layer, offset, domain, split and set of positions."""
        return pd.DataFrame(self.results["scores"]).astype({"layer": "Int64"})

    @cached_property
    def documents(self) -> pd.DataFrame:
        """Sums by document, from which the scores are made."""
        return pd.read_parquet(self.folder / "scores.parquet")

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
        return read(path, PASSAGES) if path.exists() else None

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def settings(self) -> Settings:
        """The settings, from run.toml."""
        return Settings.from_mapping(from_file(self.folder / "run.toml"))


def load(folder: str | Path) -> Run:
    """Read a run folder.

    Raises:
        RunError: If it holds no finished run, or one of another schema.
    """
    folder = Path(folder)
    return Run(folder, read(folder / "results.json", SCHEMA))


def read(path: Path, schema: str, what: str = "run") -> dict[str, Any]:
    """Return what a JSON file of a run folder holds.

    Args:
        path: The file.
        schema: The schema that it must say it has.
        what: What its folder does not hold where there is no such file.

    Raises:
        RunError: If the file cannot be read, is not JSON, or is of another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise RunError(
            f"{path.parent} holds no finished {what}: there is no readable {path}"
        ) from None
    except ValueError as error:
        raise RunError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != schema:
        raise RunError(f"{path} is not of schema {schema}: it was written by another version")
    return content


def require_unchanged(
    folder: Path,
    before: Mapping[str, Any],
    fingerprint: str,
    text: Sequence[Mapping[str, Any]],
    way_out: str = "Name another --output, or replace the run with --overwrite",
) -> None:
    """Refuse to pass off a finished run as one of a model or text that is another now.

    Args:
        folder: Where the run is.
        before: What its results.json or heads.json holds.
        fingerprint: Of the model as it is now.
        text: The rows of the text as it is now.
        way_out: What to do about it.

    Raises:
        RunError: If either changed.
    """
    changed = []
    if before["model"]["fingerprint"] != fingerprint:
        changed.append("the model")
    if [row["sha256"] for row in before["text"]] != [row["sha256"] for row in text]:
        changed.append("the text")
    if changed:
        raise RunError(
            f"{folder} holds a finished run, but {' and '.join(changed)} changed since. {way_out}"
        )


def json_schema(name: Literal["results", "passages", "heads"] = "results") -> dict[str, Any]:
    """Return the JSON Schema of results.json, passages.json or heads.json."""
    text = (files("probekit.runs") / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def open_folder(folder: Path, settings: Settings, overwrite: bool) -> Run | None:
    """Make ready the folder of a run; return the run if it is there already.

    Raises:
        RunError: If it cannot be written, or holds a run with other settings.
    """
    require_no_other(folder, "results.json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite and not _goes_on(folder, settings):
            for name in ("results.json", "run.toml", "stages"):
                _remove(folder / name)
    except OSError as error:
        raise RunError(
            f"the output folder {folder} cannot be written: {error.strerror}. "
            "Name another with --output"
        ) from None
    if not holds_work(folder):
        write_text(folder / "run.toml", settings.as_toml())
        return None
    differing = Settings.from_mapping(from_file(folder / "run.toml")).differing(settings)
    if differing:
        raise RunError(
            f"{folder} holds a run with other settings: {', '.join(differing)}. "
            "Name another --output, or replace the run with --overwrite"
        )
    return load(folder) if (folder / "results.json").exists() else None


def require_no_other(folder: Path, own: str) -> None:
    """Raise if a folder holds a finished job of another kind than the one that writes `own`.

    Raises:
        RunError: If it does; not even --overwrite replaces that.
    """
    for name, kind in FINISHED.items():
        if name != own and (folder / name).exists():
            raise RunError(f"{folder} holds {kind}: name another folder with --output")


def holds_work(folder: Path, own: str = "results.json") -> bool:
    """Whether a folder holds a finished run, whose file is `own`, or finished stages of one."""
    begun = (folder / own).exists() or any((folder / "stages").glob("*"))
    return begun and (folder / "run.toml").exists()


def _goes_on(folder: Path, settings: Settings) -> bool:
    """Whether a folder holds an unfinished run with these settings."""
    if (folder / "results.json").exists() or not holds_work(folder):
        return False
    return Settings.from_mapping(from_file(folder / "run.toml")) == settings


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
