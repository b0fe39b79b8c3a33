"""Ctrl-C as a terminal sends it, to the whole group of processes, and what kills one of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from probekit.pipelines.analysis.finished import Run, load
from probekit.runs import doctor
from support.commands import call, flags

RESUMABLE = "probekit: interrupted; the same command goes on from here\n"


def stopped(arguments: list[str], after: str, sent: signal.Signals) -> subprocess.Popen[str]:
    """Return a program that was sent a signal when a line that holds `after` came.

    Ctrl-C goes to all of its group, as a terminal sends it; what kills, to the program alone.
    """
    program = subprocess.Popen(
        [sys.executable, "-m", "probekit", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert program.stdout is not None
    assert any(after in line for line in program.stdout), "it ended before"
    (os.killpg if sent == signal.SIGINT else os.kill)(program.pid, sent)
    return program


def nobody_is_left(group: int) -> bool:
    """Whether a group of processes comes to be empty within a few seconds."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "sent"),
    [
        ("analyze", signal.SIGINT),
        ("analyze", signal.SIGTERM),
        ("analyze", signal.SIGKILL),
        ("sweep", signal.SIGINT),
        ("sweep", signal.SIGTERM),
    ],
)
def test_a_stopped_command_leaves_nobody_behind_and_goes_on(  # noqa: PLR0917
    asked: dict[str, Any], finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], command: str, sent: signal.Signals,
) -> None:  # fmt: skip
    model = {"analyze": "--model", "sweep": "--models"}[command]
    folder = tmp_path / {"analyze": "", "sweep": Path(asked["model"]).name}[command]
    rest = flags({key: value for key, value in asked.items() if key != "model"})
    arguments = [command, model, asked["model"], *rest, "--output", str(tmp_path)]
    program = stopped(arguments, after="  linear-0: ", sent=sent)
    _, errors = program.communicate(timeout=60)
    code = {signal.SIGINT: 130, signal.SIGTERM: 143}.get(sent, -sent)
    said = (code, "" if sent == signal.SIGKILL else RESUMABLE)
    assert (program.returncode, errors) == said
    assert "Traceback" not in errors
    assert nobody_is_left(program.pid)
    assert not (folder / "results.json").exists()
    assert list((folder / "stages").glob("*-linear-0-*"))
    assert call(monkeypatch, *arguments) == 0
    assert (folder / "results.json").exists()
    assert "  linear-0: " not in capsys.readouterr().out
    nats = load(folder).scores["nats"]
    assert nats.to_numpy() == pytest.approx(finished_run.scores["nats"].to_numpy(), abs=1e-6)


def test_a_command_that_keeps_nothing_does_not_promise_to_go_on(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "check_model", stop)
    given = [asked["model"], "--text", asked["text"][0], "--block", "32", "--device", "cpu"]
    assert call(monkeypatch, "doctor", *given) == 130
    assert capsys.readouterr().err == "probekit: interrupted\n"
