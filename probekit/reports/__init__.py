"""Pages of one run and of several, each a single file of HTML; figures for papers."""

from probekit.reports.analysis.page import render
from probekit.reports.comparison.page import comparison_figures, render_comparison
from probekit.reports.publication.analysis import paper
from probekit.reports.publication.comparison import paper_comparison
from probekit.reports.publication.heads import paper_heads

__all__ = [
    "comparison_figures",
    "paper",
    "paper_comparison",
    "paper_heads",
    "render",
    "render_comparison",
]
