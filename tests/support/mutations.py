"""Planted bugs, each of which a named test must catch: `make mutations`.

Each bug is planted in a copy of the repository, and the tests named for it are run there.
Before that they are run on a copy without any bug, where they must pass.
"""

import importlib.util
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.paths import ROOT
from support.planted_bug import Mutation
from support.planted_bugs import MUTATIONS

# What tests need.
COPIED = ("probekit", "tests", "docs", "pyproject.toml")
# What is imported once: each bug has a process of its own, forked from one that has these.
PRELOADED = ["torch", "transformers", "pandas", "scipy.stats", "matplotlib.pyplot"]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(PRELOADED)


def plant(mutation: Mutation, root: Path) -> None:
    """Plant a bug in the copy at `root`."""
    path = mutation.path(root)
    source = path.read_text(encoding="utf-8")
    assert source.count(mutation.old) == 1, f"{mutation.module}: {mutation.old!r} is not there once"
    path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")


@contextmanager
def copy_of_the_repository() -> Iterator[Path]:
    """Give a copy in a temporary folder, from which Python imports the package."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        for name in COPIED:
            if (ROOT / name).is_file():
                shutil.copy(ROOT / name, copy / name)
            else:
                skipped = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=skipped)
        yield copy


def tested(copy: Path, tests: Sequence[str]) -> tuple[int | None, str]:
    """Return pytest's exit status for tests of a copy, and what it said."""
    said = copy / "said.txt"
    process = PROCESSES.Process(target=_test, args=(copy, said, tests))
    process.start()
    process.join()
    return process.exitcode, said.read_text(encoding="utf-8")


def _test(copy: Path, said: Path, tests: Sequence[str]) -> None:
    """Run pytest in a copy, in a process of its own, and end with its exit status."""
    with said.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(copy)
    sys.path[:] = [str(copy), *(entry for entry in sys.path if not _ours(entry))]
    for name in [name for name in sys.modules if name.partition(".")[0] == "support"]:
        del sys.modules[name]
    found = importlib.util.find_spec("probekit")
    assert found is not None
    assert found.origin == str(copy / "probekit" / "__init__.py"), f"{found.origin} would be tested"
    options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    # Without the hook that checks shapes, which takes as long as most of the tests.
    options += ["--override-ini", "addopts=--import-mode=importlib -m 'not slow'"]
    # Of plugins that what is preloaded has imported.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    sys.exit(pytest.main([*options, *tests]))


def _ours(entry: str) -> bool:
    """Whether an entry of the path leads to this repository."""
    return Path(entry).resolve() in (ROOT, ROOT / "tests", Path.cwd())


def caught_by(mutation: Mutation) -> str | None:
    """Return the first test that fails with the bug, None if all pass.

    Raises:
        RuntimeError: If the tests could not be run.
    """
    with copy_of_the_repository() as copy:
        plant(mutation, copy)
        status, said = tested(copy, mutation.tests)
    if status == 0:
        return None
    failed = re.search(r"^FAILED (\S+::.*?)(?: - |$)", said, re.MULTILINE)
    if status != 1 or failed is None:
        raise RuntimeError(f"{mutation.name}: pytest ended with {status}:\n{said}")
    return failed[1]


def require_healthy() -> None:
    """Raise if a named test fails where no bug is planted."""
    tests = sorted({test for mutation in MUTATIONS for test in mutation.tests})
    with copy_of_the_repository() as copy:
        status, said = tested(copy, tests)
    if status != 0:
        raise RuntimeError(f"without any bug, pytest ended with {status}:\n{said}")


def main() -> int:
    """Print the table; return 1 if a bug survives."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # which tests set too late for what is preloaded
    require_healthy()
    say = sys.stdout.write
    say("| bug | module | caught by |\n| --- | --- | --- |\n")
    survivors = 0
    for mutation in MUTATIONS:
        test = caught_by(mutation)
        survivors += test is None
        shown = "**nothing: it survives**" if test is None else f"`{test}`"
        say(f"| {mutation.name} | `{mutation.module}` | {shown} |\n")
        sys.stdout.flush()
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
