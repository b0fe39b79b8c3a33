"""A checkout without symbolic links (Windows, a zip) installs and runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

LINKS = {"cli": "probekit/cli", "reports": "probekit/reports"}


def _run(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else None
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what git checks out with core.symlinks=false: a link is a file that names its end."""
    folder = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__", "safetensors")
    shutil.copytree(ROOT / "probekit", folder / "probekit", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name, end in LINKS.items():
        (folder / name).write_text(end, encoding="utf-8")
    return folder


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a checkout has links")
@pytest.mark.parametrize(("name", "end"), LINKS.items())
def test_what_stands_at_the_top_is_a_link_to_the_package(name: str, end: str) -> None:
    link = ROOT / name
    assert Path(link.readlink() if link.is_symlink() else link.read_text(encoding="utf-8")) == Path(
        end
    )
    assert (ROOT / end / "__init__.py").is_file()


def test_a_checkout_without_links_runs(checkout: Path) -> None:
    assert "analyze" in _run("-m", "probekit", "--help", cwd=checkout)


@pytest.mark.slow
def test_a_checkout_without_links_installs(checkout: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    _run("-m", "pip", "install", *offline, "--target", str(target), ".", cwd=checkout)
    show = "import probekit.cli.main, probekit.reports; print(probekit.__file__)"
    assert Path(_run("-c", show, cwd=tmp_path, path=target).strip()).is_relative_to(target)
    assert "analyze" in _run("-m", "probekit", "--help", cwd=tmp_path, path=target)
