"""Pages of one run and of several, each a single file of HTML; figures for papers."""

from probekit.reports.comparison import comparison_pieces, render_comparison
from probekit.reports.page import render
from probekit.reports.paper_comparison import paper_comparison
from probekit.reports.paper_figures import paper

__all__ = ["comparison_pieces", "paper", "paper_comparison", "render", "render_comparison"]
