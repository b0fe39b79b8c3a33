"""The figures of a measured draft for print, each with its numbers."""

from collections.abc import Iterator

from probekit.reports.components.colours import offset_colours
from probekit.reports.components.rows import Row
from probekit.reports.drafting.figures import answer_figures, cost_figure
from probekit.reports.drafting.rows import domains, of_domain
from probekit.reports.publication.export import PRINT_INK, Drawing

COLUMNS = (
    "domain", "drafter", "widths", "predicted", "accepted", "tokens_per_forward", "flat_speed",
    "speed",
)  # fmt: skip


def draft_drawings(document: Row) -> Iterator[Drawing]:
    """Yield every figure of a measured draft: of its first text, as on the page."""
    inks = (PRINT_INK, *offset_colours(2)[0])
    rows = [
        {name: row[name] for name in COLUMNS} | {"widths": "-".join(map(str, row["widths"]))}
        for row in of_domain(document, domains(document)[0])
    ]
    for figure in answer_figures(document):
        yield Drawing(figure.name, figure.draw, rows, inks)
    costs = cost_figure(document)
    if costs is not None:
        yield Drawing(costs.name, costs.draw, document["cost"], inks)
