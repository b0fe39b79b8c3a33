"""The table of what a user may give and what the program answers; docs/hostile.md lists it.

A kind of cases is a module in this folder that is not a test: the first line of its docstring is
the kind's heading, its `CASES` a tuple of `Case` (a command) and `Call` (of the library). To add
rows, add to such a tuple, or write another module with one: `test_cases.py` finds and runs them.
Then write the page again: `PYTHONPATH=tests:. python tests/hostile/test_cases.py`.
"""

import contextlib
import importlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from probekit.cli import main
from probekit.errors import ProbekitError

# What a sentence says for anything, and how long an argument is shown.
ANYTHING = "…"
LONGEST = 60


@dataclass(frozen=True)
class Case:
    """A command on hostile input.

    Attributes:
        name: What is given, a few words; with the kind, the id of the test.
        make: Makes the files in an empty folder, the working folder of the command, and returns
            the command's arguments.
        sentence: What is to be printed, as it is, with … for anything (a new line is a space).
        exit_code: 0 done, 1 a stated problem, 2 usage, 130 interrupted.
        slow: Whether it takes more than about a second.
    """

    name: str
    make: Callable[[Path], list[str]]
    sentence: str
    exit_code: int = 1
    slow: bool = False

    def prepare(self, folder: Path) -> list[str]:
        """Make the files in a folder, and return the arguments."""
        return self.make(folder)

    def listed(self, arguments: list[str], folder: Path) -> str:
        """Return the command as it is listed."""
        return " ".join(["probekit", *(_shown(each, folder) for each in arguments)])

    def answer(self, arguments: list[str], folder: Path) -> tuple[str, str]:
        """Return the exit code and all that is printed; a traceback is raised."""
        printed = io.StringIO()
        with (
            contextlib.chdir(folder),
            mock.patch.object(sys, "argv", ["probekit", *arguments]),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            try:
                main.main()
            except SystemExit as stopped:
                return str(stopped.code or 0), printed.getvalue()
        return "0", printed.getvalue()

    @property
    def end(self) -> str:
        """The exit code."""
        return str(self.exit_code)


@dataclass(frozen=True)
class Call:
    """A call of the library with hostile input.

    Attributes:
        name: What is given, a few words; with the kind, the id of the test.
        shown: The call as it is listed.
        call: Makes it, given an empty folder.
        sentence: What the error says, or the string of what is returned, with … for anything.
        error: The error that is raised; None where the call returns.
        slow: Whether it takes more than about a second.
    """

    name: str
    shown: str
    call: Callable[[Path], object]
    sentence: str
    error: type[ProbekitError] | None
    slow: bool = False

    def prepare(self, folder: Path) -> list[str]:  # noqa: ARG002 -- as a command does
        """Return no arguments: the call makes what it needs."""
        return []

    def listed(self, arguments: list[str], folder: Path) -> str:  # noqa: ARG002 -- likewise
        """Return the call as it is listed."""
        return self.shown

    def answer(self, arguments: list[str], folder: Path) -> tuple[str, str]:  # noqa: ARG002
        """Return the name of the stated error, if one is raised, and what is said or returned."""
        try:
            with contextlib.chdir(folder):
                return "returns", str(self.call(folder))
        except ProbekitError as error:
            return type(error).__name__, str(error)

    @property
    def end(self) -> str:
        """The name of the error."""
        return self.error.__name__ if self.error else "returns"


def kinds() -> Iterator[tuple[str, str, tuple[Case | Call, ...]]]:
    """Yield the name, heading and cases of each kind."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith("test_") and path.stem != Path(__file__).stem:
            module = importlib.import_module(f"hostile.{path.stem}")
            yield path.stem, (module.__doc__ or "").splitlines()[0].rstrip("."), module.CASES


def says(printed: str, sentence: str) -> bool:
    """Return whether a sentence is among what is printed, lines and boxes around it aside.

    >>> says("a table\\nof 12 rows", "table of … rows")
    True
    """
    pattern = ".*".join(re.escape(part) for part in " ".join(sentence.split()).split(ANYTHING))
    return re.search(pattern, " ".join(printed.replace("│", " ").split())) is not None


def row(case: Case | Call, arguments: list[str], folder: Path) -> str:
    """Return the row of a case in docs/hostile.md."""
    cells = (case.name, f"`{case.listed(arguments, folder)}`", case.end, f"`{case.sentence}`")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(argument: str, folder: Path) -> str:
    """Return an argument as it is listed: quoted where it must be, without the folder."""
    text = argument.replace(f"{folder}/", "").replace(str(folder), ".")
    text = ascii(text)[1:-1] if not text.isprintable() else text
    text = text if len(text) <= LONGEST else f"{text[:40]}{ANYTHING}"
    return text if re.fullmatch(r"[\w@%+=:,./~\-…\\]+", text) else f"'{text}'"
