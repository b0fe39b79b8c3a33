"""Settings of quick studies of heads, and rows of what they wrote."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probekit.pipelines.head_study.study_heads import HeadRun
from support.pages import synthetic_heads

QUICK: dict[str, Any] = {
    "epochs": 1, "step_blocks": 8, "strategies": ("heads-only", "joint"), "rate": 5e-3,
}  # fmt: skip


def rows(run: HeadRun, part: str, **wanted: Any) -> list[dict[str, Any]]:
    """Return the rows of a part of heads.json that have these values."""
    found: list[dict[str, Any]] = run.document[part]
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def write_study(folder: Path, heads: Mapping[str, str | None]) -> None:
    """Write the heads.json of a study, whose strategies have these files of heads."""
    weights = {name: {"heads": file, "adapter": None} for name, file in heads.items()}
    document = {**synthetic_heads.document(), "weights": weights}
    (folder / "heads.json").write_text(json.dumps(document))
