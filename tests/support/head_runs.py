"""Settings of quick studies of heads, and rows of what they wrote."""

from typing import Any

from probekit.pipelines.head_study.study_heads import HeadRun

QUICK: dict[str, Any] = {
    "epochs": 1, "step_blocks": 8, "strategies": ("heads-only", "joint"), "rate": 5e-3,
}  # fmt: skip


def rows(run: HeadRun, part: str, **wanted: Any) -> list[dict[str, Any]]:
    """Return the rows of a part of heads.json that have these values."""
    found: list[dict[str, Any]] = run.document[part]
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]
