"""Pages of one run and of several, each a single file of HTML; figures for print.

components    what pages share: figures, tables, numbers, templates
analysis      the page of one run
inspector     its part that shows passages token by token
comparison    the page over several runs
drafting      the page of a measured draft
heads         the page of a study of heads
publication   figures for print, each with its numbers
cards         what a notebook shows of them
reproduction  the page of a repeated figure or table
templates     Jinja templates of the pages
assets        their styles and scripts
"""

from probekit.reports.analysis.page import render
from probekit.reports.comparison.page import comparison_figures, render_comparison
from probekit.reports.drafting.page import render_draft
from probekit.reports.heads.page import render_heads
from probekit.reports.publication.figure_files import figure_files, lead_figure, write_figures
from probekit.reports.reproduction.page import render_reproduction

__all__ = [
    "comparison_figures",
    "figure_files",
    "lead_figure",
    "render",
    "render_comparison",
    "render_draft",
    "render_heads",
    "render_reproduction",
    "write_figures",
]
