"""A case: what a user may give, and what the program is to answer.

A kind of cases is a tuple of them in a file `test_<kind>.py`, which runs each with `answer`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from probekit.cli import main


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: What is given, a few words; the id of the test.
        make: Makes the files in an empty folder, the working folder of the command, and returns
            the command's arguments.
        sentence: What is to be printed, a regular expression over all that is.
        exit_code: 0 done, 1 a stated problem, 2 usage.
    """

    name: str
    make: Callable[[Path], list[str]]
    sentence: str
    exit_code: int = 1


def answer(
    case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Return the exit code of a case's command and all that it printed; a traceback is raised."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["probekit", *case.make(folder)])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    printed = capsys.readouterr()
    return int(stopped.value.code or 0), printed.out + printed.err
