"""Pages of one run and of several, each a single file of HTML; figures for papers."""

from probekit.reports.comparison import comparison_pieces, render_comparison
from probekit.reports.page import render
from probekit.reports.paper_comparison import paper_comparison
from probekit.reports.paper_figures import paper
from probekit.reports.paper_heads import paper_heads

__all__ = [
    "comparison_pieces",
    "paper",
    "paper_comparison",
    "paper_heads",
    "render",
    "render_comparison",
]
