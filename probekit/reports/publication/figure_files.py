"""Every figure of a page as files for print, whichever page it is."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from probekit.files import write_bytes
from probekit.reports.publication.analysis import run_drawings
from probekit.reports.publication.comparison import comparison_drawings
from probekit.reports.publication.drafts import draft_drawings
from probekit.reports.publication.export import Drawing, exported
from probekit.reports.publication.heads import heads_drawings
from probekit.reports.reproduction.page import reproduction_drawings


def figure_files(document: Mapping[str, Any]) -> dict[str, bytes]:
    """Turn the results of a run, of several or of any other command into figures for print.

    Every figure of the page is there as SVG, PDF and PNG, and beside it a CSV of what is drawn,
    one row a point, in the units of the figure. Domains stand side by side; of a comparison's
    curves over relative depth, offsets. The same document gives the same bytes.

    Args:
        document: The content of results.json, heads.json, draft.json, reproduction.json, or a
            comparison.

    Returns:
        What each file holds, by its name.

    Raises:
        RunError: If the schema is not one that this version reads.
    """
    return exported(drawings(document))


def lead_figure(document: Mapping[str, Any]) -> bytes | None:
    """Return the figure that answers first, as a PNG: the share of what is known that is read."""
    every = list(drawings(document))
    shares = [drawing for drawing in every if drawing.name.startswith("curves-share")]
    chosen = (shares or every)[:1]
    return exported(chosen)[f"{chosen[0].name}.png"] if chosen else None


def write_figures(document: Mapping[str, Any], folder: Path) -> int:
    """Write the figures of a document into a folder, and return the number of files.

    Raises:
        RunError: If the schema is not one that this version reads, or a file cannot be written.
    """
    files = figure_files(document)
    for name, content in files.items():
        write_bytes(folder / name, content)
    return len(files)


def drawings(document: Mapping[str, Any]) -> Iterator[Drawing]:
    """Yield the figures of a document; none is drawn before it is asked for.

    Raises:
        RunError: If the schema is not one that this version reads.
    """
    kind = str(document.get("schema")).partition("/")[0]
    of_kind = {
        "probekit.comparison": comparison_drawings,
        "probekit.heads": heads_drawings,
        "probekit.draft": draft_drawings,
        "probekit.reproduction": reproduction_drawings,
    }
    return of_kind.get(kind, run_drawings)(document)
