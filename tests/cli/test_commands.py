"""The command line, as its user sees it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from probekit.cli import main
from probekit.models import catalogue
from probekit.pipelines.analysis.finished import Run, load
from probekit.pipelines.head_study.settings import HeadSettings
from probekit.settings import Settings
from support.commands import call, flags


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['probekit', 'analyze', '--help']\n"
        "from probekit.cli.main import main\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules, 'torch'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--offsets" in done.stdout


def test_analyze_prints_plan_verdict_and_the_report_last(
    asked: dict[str, Any], finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert call(monkeypatch, "analyze", *flags(asked), "--output", str(tmp_path)) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == f"Loading {asked['model']}"
    assert lines[1].startswith("Model: ")
    assert any(line.startswith("Plan: ") for line in lines)
    [(number, count)] = re.findall(r"^  report: .* s \((\d+) of (\d+)\)$", "\n".join(lines), re.M)
    assert number == count
    assert finished_run.results["verdict"][0] in lines
    assert lines[-1] == f"Report: {tmp_path / 'report.html'}"
    assert load(tmp_path).results["scores"] == finished_run.results["scores"]


def test_a_dry_run_writes_nothing(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "analyze", *flags(asked), "--dry-run") == 0
    assert list(tmp_path.iterdir()) == []
    assert "tokens in documents: train " in capsys.readouterr().out


def test_flags_win_over_a_file(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "a.toml").write_text('offsets = 3\nlayers = [0, 1]\nmarginal = "off"\n')
    given = [*flags({k: v for k, v in asked.items() if k != "offsets"}), "--layers", "2"]
    config = ["--config", str(tmp_path / "a.toml")]
    assert call(monkeypatch, "analyze", *given, *config, "--dry-run") == 0
    assert "3 probes" in capsys.readouterr().out  # one layer, three offsets


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--offsets", "0"], 2, "--offsets must be at least 1"),
        (
            ["--offsets", "x"],
            2,
            "--offsets must be a whole number, such as 300, 10k or 1.5M, got 'x'",
        ),
        (["--max-tokens", "1.2345k"], 2, "--max-tokens must be a whole number"),
        (["--layers", "a,b"], 2, "--layers must be numbers such as 0,3,6"),
        (["--batch-size", "x"], 2, "--batch-size must be a whole number or auto"),
        (["--model", "lama"], 1, "did you mean llama"),
        (["--model", "llama"], 1, "meta-llama/Llama-3.2-1B is out of reach"),
    ],
)
def test_a_stated_problem_is_one_message_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str],
    code: int, message: str,
) -> None:  # fmt: skip
    assert call(monkeypatch, "analyze", *arguments) == code
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in error
    assert "Traceback" not in error


def test_out_of_reach_names_the_ways_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "analyze", "--model", "llama") == 1
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert all(way in error for way in ("hf auth login", "mirror", "local folder", "`tiny`"))


def test_debug_shows_where_a_problem_arose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "analyze", "--model", "lama", "--debug") == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert "in find_location" in error
    assert error.splitlines()[-1].startswith("probekit: there is no model called 'lama'")


COMMANDS = [each.callback.__name__ for each in main.app.registered_commands if each.callback]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_offers_debug(command: str) -> None:
    usual, whole = (
        CliRunner().invoke(main.app, [command, flag], terminal_width=80).output
        for flag in ("-h", "--help-all")
    )
    assert (usual.count("--debug"), whole.count("--debug")) == (0, 1)
    assert max(map(len, whole.splitlines())) <= 80
    assert len(re.findall(r"^  -", usual, re.MULTILINE)) <= 16


@pytest.mark.parametrize(("own", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_idle_threads_do_not_spin_unless_the_user_says_so(
    own: str | None, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY")
    if own is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", own)
    seen: list[str | None] = []

    def entries() -> list[object]:
        seen.append(os.environ.get("OMP_WAIT_POLICY"))
        return []

    monkeypatch.setattr(catalogue, "entries", entries)
    assert call(monkeypatch, "models") == 0
    assert seen == [policy]


def test_doctor_checks_every_assumption(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [asked["model"], "--text", asked["text"][0], "--block", "32", "--device", "cpu"]
    assert call(monkeypatch, "doctor", *given) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("decoding", "batching", "branches"))


@pytest.mark.parametrize(
    ("command", "offsets", "tokens"),
    [("analyze", "4", "13,500 on a CPU"), ("heads", "2", "40,000 on a CPU")],
)
def test_help_shows_the_defaults_of_the_command(command: str, offsets: str, tokens: str) -> None:
    given: Any = get_command(main.app)
    shown = {p.name: p.show_default for p in given.commands[command].params}
    assert shown["offsets"] == offsets
    assert shown["max_tokens"].startswith(tokens)
    settings = HeadSettings() if command == "heads" else Settings()
    assert str(settings.offsets) == offsets


def test_the_version_is_said() -> None:
    assert re.fullmatch(r"probekit \d\S+\n", CliRunner().invoke(main.app, ["--version"]).stdout)


def test_models_lists_short_names() -> None:
    done = CliRunner().invoke(main.app, ["models"])
    assert done.exit_code == 0
    assert "meta-llama/Llama-3.2-1B  (gated" in done.stdout


def test_report_renders_a_run_again(finished_run: Run, tmp_path: Path) -> None:
    for name in ("results.json", "passages.json"):
        (tmp_path / name).write_bytes((finished_run.folder / name).read_bytes())
    done = CliRunner().invoke(main.app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.exception
    assert (tmp_path / "report.html").read_text() == finished_run.report.read_text()
