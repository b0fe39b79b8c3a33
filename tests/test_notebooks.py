"""The notebooks run from top to bottom, offline, and their outputs are what is kept."""

from pathlib import Path

import pytest

from support import notebooks
from support.paths import OF_A_MACHINE


@pytest.mark.slow
# What matplotlib, pandas and seaborn warn each other of in a notebook is theirs.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = notebooks.executed(path)["cells"]
    shown = [output for cell in cells for output in cell.get("outputs", ())]
    kinds = {kind for output in shown for kind in output.get("data", ())}
    assert {"text/plain", "text/html"} <= kinds
    assert "image/png" in str(shown)
    assert max(map(len, map(str, shown))) < 2 * notebooks.MOST


@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_its_outputs_and_names_no_place(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert '"output_type"' in text
    assert len(text) < 400_000
    assert not [place for place in OF_A_MACHINE if place in text]
