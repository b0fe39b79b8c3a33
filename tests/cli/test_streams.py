"""Streams that cannot show every character, and scripts that start a sweep as they are read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from probekit.cli.printing import coloured
from probekit.errors import RunError, memory_stated

SCRIPT = """
from probekit.pipelines.comparison.sweep import plan_runs, sweep
print(sweep(plan_runs(["tiny-s"], {"max_tokens": 500}, "out")).failed)
"""


@pytest.mark.slow
def test_an_arrow_that_latin_1_lacks_is_written_out(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "probekit", "sweep", "--models", "no-such", "--dry-run"]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 1
    assert rb"no-such \u2192 runs" in done.stdout
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "a script calls `sweep` under `if __name__" in done.stdout


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 byte")]
)
def test_memory_that_runs_out_is_a_stated_problem(error: Exception) -> None:
    with (
        pytest.raises(RunError, match=r"memory ran out .* a smaller --batch-size"),
        memory_stated(),
    ):
        raise error


@pytest.mark.parametrize(
    ("terminal", "variable", "seen"),
    [
        (True, "COLUMNS", "\x1b[36mrun\x1b[0m"),
        (True, "NO_COLOR", "run"),
        (False, "COLUMNS", "run"),
    ],
)
def test_there_is_colour_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, variable: str, seen: str
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert coloured("run", "cyan") == seen
