"""What is parsed is bounded, whatever a file makes of itself, and so is where a name may lead."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from probekit.data.formats import lines
from probekit.errors import DataError
from probekit.pipelines.comparison.sweep import plan_runs
from probekit.runs.folder import folder_name


def test_a_small_file_that_unpacks_to_one_huge_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(40):
            file.write(b" " * 2**20)
    assert path.stat().st_size < 2**19
    with pytest.raises(DataError, match="line 1 is longer than 33,554,432 bytes"):
        list(lines.rows(path))


def test_a_small_file_that_unpacks_to_blank_lines_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST_BLANK", 1000)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * 10_000))
    with pytest.raises(DataError, match="line 1001 is the last of more than 1,000 blank lines"):
        list(lines.rows(path))
    path.write_bytes(gzip.compress(b"\n" * 900 + json.dumps({"text": "a"}).encode()))
    assert [name for name, _ in lines.rows(path)] == ["line 901"]


def test_an_archive_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../escaped", "x")
    with pytest.raises(DataError, match="no text but binary data"):
        list(lines.rows(path))
    assert [each.name for each in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("name", ["..", ".", "/", "../..", "a/..", "../../x", "x/../..", "a/."])
def test_a_model_s_name_leads_nowhere_but_into_the_folder_of_runs(name: str) -> None:
    part = folder_name(name)
    assert part not in {"", ".", ".."}
    assert "/" not in part
    for run in plan_runs([name, f"{name}/", "tiny"], {}, "runs"):
        assert run.folder.resolve().parent == Path("runs").resolve()
