"""The program, called in this process."""

import sys
from typing import Any

import pytest

from probekit.cli import main


def flags(asked: dict[str, Any]) -> list[str]:
    """Return settings of a run as flags."""
    given = {**asked, "text": asked["text"][0]}
    return [part for k, v in given.items() for part in (f"--{k.replace('_', '-')}", str(v))]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the program in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["probekit", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    return int(stopped.value.code or 0)
