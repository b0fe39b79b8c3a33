"""Whatever is rendered has the same bytes in another process, whatever its user's settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.pages import shared_pages


@pytest.mark.slow
def test_pages_and_figures_have_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    own_style = tmp_path / "matplotlibrc"
    own_style.write_text("font.size: 20\nlines.linewidth: 9\nfont.family: serif\n")
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"  # another than here
    path = [entry for entry in sys.path if entry]
    told_there = "from support.pages import shared_pages; shared_pages.tell()"
    code = f"import sys; sys.path[:0] = {path!r}; {told_there}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONHASHSEED": seed, "MATPLOTLIBRC": str(own_style)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = dict(line.split() for line in done.stdout.splitlines())
    assert told == shared_pages.digests()
    assert len(told) == 5 + (6 + 3 + 4) * 4  # pages; figures as SVG, PDF, PNG and CSV
