"""The source distribution holds all that its tests need, and each package once."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

SETUP = "import setuptools; setuptools.setup()"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the files that setuptools puts into the source distribution; none is packed."""
    folder = tmp_path_factory.mktemp("sdist")
    subprocess.run(
        [sys.executable, "-c", SETUP, "--quiet", "egg_info", "--egg-base", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (listed,) = folder.glob("*.egg-info/SOURCES.txt")
    return set(listed.read_text(encoding="utf-8").splitlines())


def files(folder: str) -> set[str]:
    paths = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    return {path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts}


@pytest.mark.parametrize("folder", ["tests", "probekit", "docs", "examples", "benchmarks"])
def test_a_folder_is_in_the_source_distribution_whole(sources: set[str], folder: str) -> None:
    assert files(folder) <= sources


def test_what_the_tests_share_and_compare_with_is_in_it(sources: set[str]) -> None:
    named = {"tests/conftest.py", "tests/support/paths.py", "tests/golden/report.txt"}
    assert named | {"pyproject.toml", "README.md", "Makefile", "CHANGELOG.md"} <= sources


def test_packages_are_not_in_it_twice_by_the_links_at_the_top(sources: set[str]) -> None:
    tops = {Path(path).parts[0] for path in sources}
    assert "probekit/cli/main.py" in sources
    assert not tops & {"cli", "reports"}
    assert not [path for path in sources if path.endswith(".pyc")]
