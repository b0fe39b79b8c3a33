"""Run folders to compare, and what a comparison warns of."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from probekit import digests
from probekit.pipelines.analysis.finished import Run
from probekit.pipelines.comparison.compare import Comparison

Edit = Callable[[dict[str, Any]], None]


def copy(run: Run, folder: Path, edit: Edit = lambda _: None) -> Path:
    """Return a copy of a run folder with changed results."""
    shutil.copytree(run.folder, folder)
    results = json.loads((folder / "results.json").read_text())
    edit(results)
    (folder / "results.json").write_text(json.dumps(results))
    (folder / digests.DIGESTS).unlink()
    return folder


def codes(comparison: Comparison) -> set[str]:
    return {warning["code"] for warning in comparison.warnings}
