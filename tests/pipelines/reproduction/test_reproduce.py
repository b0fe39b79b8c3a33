"""`probekit reproduce`, from the command line and from Python."""

import json
import shutil
from pathlib import Path

import pytest

import probekit
from probekit.errors import SettingsError
from probekit.pipelines.reproduction.document import SCHEMA
from probekit.reports.reproduction import page
from support.commands import call


@pytest.fixture
def model(model_folder: Path, tmp_path: Path) -> str:
    """Return a model that is called as one of the paper's is."""
    return str(shutil.copytree(model_folder, tmp_path / "pythia-410m"))


def test_the_function_gives_the_rows_and_writes_the_report(
    model: str, pair_file: Path, tmp_path: Path
) -> None:
    reproduction = probekit.reproduce(
        "figure-1", [model], samples=2, extended=0, output=tmp_path / "run",
        text=(f"words={pair_file}",), device="cpu",
    )  # fmt: skip
    assert reproduction.report.exists()
    assert list(reproduction.rows["n_samples"]) == [2] * len(reproduction.rows)
    assert reproduction.rows["paper_top5"].notna().all()


def test_what_cannot_be_reproduced_is_an_error() -> None:
    with pytest.raises(
        SettingsError, match="must be one of figure-1, figure-2, table-1, got 'figure-3'"
    ):
        probekit.reproduce("figure-3")


def test_the_command_prints_the_table_and_the_path_last(
    model: str, pair_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(page, "figure_files", lambda _: {})  # they are drawn once, by --figures
    given = ["--text", f"words={pair_file}", "--samples", "2", "--extended", "0", "--device", "cpu"]
    folder = tmp_path / "run"
    arguments = ["figure-1", "--model", model, *given, "--output", str(folder), "--figures"]
    assert call(monkeypatch, "reproduce", *arguments, "--dry-run") == 0
    assert "pythia-410m on words: 2 samples, " in capsys.readouterr().out
    assert not folder.exists()
    assert call(monkeypatch, "reproduce", *arguments) == 0
    printed = capsys.readouterr().out
    figures = sorted(path.name for path in (folder / "figures").iterdir())
    assert figures == ["figure.csv", "figure.pdf", "figure.png", "figure.svg"]
    assert "0.675 [0.607 to 0.736]" in printed
    assert "Which 20 positions" in printed
    assert printed.splitlines()[-1] == f"Report: {folder / 'report.html'}"
    settings = json.loads((folder / "reproduction.json").read_text())
    assert settings["schema"] == SCHEMA


def test_table_1_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ("table-1", "--heads", str(tmp_path))
    assert call(monkeypatch, "reproduce", *given) == 1
    assert "holds no finished study of heads" in capsys.readouterr().err
    assert call(monkeypatch, "reproduce", *given, "--text-field", "words") == 2
    assert "their model and text: leave out --text-field" in capsys.readouterr().err
    assert call(monkeypatch, "reproduce", "figure-1", "--heads", str(tmp_path)) == 2
    assert "figure-1 trains nothing" in capsys.readouterr().err
