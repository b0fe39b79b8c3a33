"""A run compared with copies of it in which one thing differs, and what cannot be compared."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import probekit
from probekit.errors import RunError
from probekit.pipelines.analysis.finished import Run
from support.comparing import codes, copy


def test_a_run_does_not_differ_from_its_copy(finished_run: Run, tmp_path: Path) -> None:
    found = probekit.compare([finished_run, copy(finished_run, tmp_path / "copy")])
    paired = found.differences[found.differences["paired"]]
    assert {"best_probe_nats", "next_token_top1", "ceiling_top1", "forgotten_bits"} <= set(
        paired["quantity"]
    )
    assert (paired[["value", "low", "high"]] == 0).all(axis=None)
    assert found.document["configuration"] == []
    assert {run["name"] for run in found.document["runs"]} == {
        finished_run.folder.name, "copy",
    }  # fmt: skip


def test_the_configuration_is_what_differs_and_nothing_else(
    finished_run: Run, tmp_path: Path
) -> None:
    def edit(results: dict[str, Any]) -> None:
        results["run"]["settings"]["block"] = 64
        results["run"]["versions"]["python"] = "3.99"
        del results["run"]["settings"]["nucleus"]
        results["run"]["settings"]["nucleus"] = 0.5

    other = copy(finished_run, tmp_path / "other", edit)
    found = probekit.compare([finished_run, other])
    told = {row["key"]: row["values"]["other"] for row in found.document["configuration"]}
    assert told == {"settings.block": "64", "versions.python": "3.99", "settings.nucleus": "0.5"}
    assert {"block-differs", "python-differs", "marginalization-differs"} <= codes(found)
    assert "nucleus_tokens" not in set(found.differences["quantity"])


def test_more_than_six_runs_are_set_against_the_first(finished_run: Run, tmp_path: Path) -> None:
    folders = [copy(finished_run, tmp_path / f"run{number}") for number in range(7)]
    found = probekit.compare(folders)
    assert set(found.differences["reference"]) == {"run0"}
    assert len(set(found.differences["run"])) == 6
    few = probekit.compare(folders[:3])
    pairs = set(zip(few.differences["run"], few.differences["reference"], strict=True))
    assert pairs == {("run1", "run0"), ("run2", "run0"), ("run2", "run1")}


def test_what_cannot_be_compared_says_why(finished_run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="needs two runs at least"):
        probekit.compare([finished_run])
    with pytest.raises(RunError, match="was given twice"):
        probekit.compare([finished_run, f"{finished_run.folder}/."])
    with pytest.raises(RunError, match="holds no finished run"):
        probekit.compare([finished_run, tmp_path])

    def of_other_schema(results: dict[str, Any]) -> None:
        results["schema"] = "probekit.results/0"

    with pytest.raises(RunError, match=r"is not of schema probekit.results/4"):
        probekit.compare([finished_run, copy(finished_run, tmp_path / "old", of_other_schema)])


def test_a_run_of_an_older_version_is_to_be_run_again(finished_run: Run, tmp_path: Path) -> None:
    def without_tokenizer(results: dict[str, Any]) -> None:
        del results["model"]["tokenizer"]

    older = copy(finished_run, tmp_path / "older", without_tokenizer)
    with pytest.raises(
        RunError, match=r"older/results.json does not .*'tokenizer' is a.*--overwrite"
    ):
        probekit.compare([finished_run, older])
    old = copy(finished_run, tmp_path / "old")
    table = pd.read_parquet(old / "scores.parquet")
    table.drop(columns="bytes_per_token").to_parquet(old / "scores.parquet")
    with pytest.raises(RunError, match=r"has no column bytes_per_token\. .*--overwrite"):
        probekit.compare([finished_run, old])
