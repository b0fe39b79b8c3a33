"""One self-contained HTML page from the results of a run."""

from probekit.reports.page import render

__all__ = ["render"]
