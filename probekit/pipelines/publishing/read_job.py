"""Read a finished job, whichever command made it: its document and its page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probekit import reports
from probekit.hub import local
from probekit.pipelines.analysis import finished
from probekit.pipelines.drafting import draft
from probekit.pipelines.head_study import study_heads


def read_job(folder: Path, with_passages: bool = True) -> tuple[Mapping[str, Any], str]:
    """Return the document of a finished run, study of heads or measured draft, and its page.

    Args:
        folder: Its folder, or hub:owner/name[@revision].
        with_passages: Whether the page of a run shows its passages.

    Raises:
        RunError: If the folder holds none of these.
    """
    folder = local(folder)
    if (folder / study_heads.FILE).exists():
        document = study_heads.load(folder).document
        return document, reports.render_heads(document)
    if (folder / draft.FILE).exists():
        document = draft.load(folder).document
        return document, reports.render_draft(document)
    run = finished.load(folder)
    return run.results, reports.render(run.results, run.passages if with_passages else None)
