"""What a repeated figure or table is written as: reproduction.json, tables, the page.

Source: Mehra, Alonso Garcia and Mauch (2025), arXiv 2502.09419v1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from probekit import files, provenance
from probekit.data.documents import Source
from probekit.paper import numbers
from probekit.pipelines.reproduction.figures import Row

SCHEMA = "probekit.reproduction/1"
FILE = "reproduction.json"


def document(
    figure: str,
    rows: Sequence[Row],
    sources: Sequence[Source],
    samples: int,
    runs: Sequence[Row] = (),
) -> Row:
    """Return what a report shows: the rows, the paper's own, and what was decided.

    Args:
        figure: figure-1, figure-2 or table-1.
        rows: What was measured.
        sources: The texts.
        samples: Samples that were asked for.
        runs: Of table 1, how the heads were trained.
    """
    names = list(dict.fromkeys(row["model"] for row in rows))
    strangers = [name for name in names if not _is_papers(rows, name)]
    return {
        "schema": SCHEMA,
        "figure": figure,
        "command": provenance.command(f"probekit.reproduce({figure!r}, {names})"),
        "versions": dict(provenance.versions()),
        "texts": [asdict(source) for source in sources],
        "strangers": strangers,
        "samples": samples,
        "runs": list(runs),
        "choices": [list(pair) for pair in numbers.choices(figure)],
        "rows": list(rows),
    }


def _is_papers(rows: Sequence[Row], name: str) -> bool:
    return any(row["model"] == name and row["paper_model"] for row in rows)


def write(found: Mapping[str, Any], folder: Path) -> Path:
    """Write reproduction.json, table.csv, table.md, the figure and report.html; return the last.

    Raises:
        RunError: If the folder cannot be written.
    """
    from probekit.reports.reproduction.page import figure_files, markdown, render_reproduction

    files.write_text(folder / FILE, files.as_json(found))
    csv = pd.DataFrame(found["rows"]).to_csv(index=False, lineterminator="\n")
    files.write_text(folder / "table.csv", csv)
    files.write_text(folder / "table.md", markdown(found))
    for name, content in figure_files(found).items():
        files.write_bytes(folder / name, content)
    report = folder / "report.html"
    files.write_text(report, render_reproduction(found))
    return report
