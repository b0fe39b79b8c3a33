"""The report's places in a block, side by side: a figure, a table, a sentence an offset."""

from typing import Any

import pytest

from probekit.reports import render
from probekit.reports.analysis.rows import index
from probekit.reports.analysis.sites import site_figures, site_sentence, site_table
from probekit.reports.publication.export import PRINT_INK, drawn
from probekit.reports.publication.sites import site_drawings
from support.pages.synthetic_run import Size, results

OVER = {"mlp_out": (-0.2, -0.3, -0.1), "resid_mid": (0.3, 0.2, 0.4), "attn_out": (0.0, -0.1, 0.1)}


def read_at(*sites: str) -> dict[str, Any]:
    """Return a run of one offset that read these sites beside its own."""
    run = results(Size(layers=2, offsets=1, domains=("prose",), seeds=0, families=("linear",)))
    own = [row for row in run["scores"] if row["readout"] == "linear" and row["layer"]]
    run["site_scores"] = [row | {"site": site} for site in sites for row in own]
    first = {"layer": 2, "offset": 1, "domain": "prose"}
    for name in ("nats", "bits_given_token", "bits_over_first"):
        first |= {name: 0.5, f"{name}_low": 0.4, f"{name}_high": 0.6}
    ends = ("", "_low", "_high")
    run["sites"] = [first | {"site": "resid_post"}]
    for site in sites:
        over = {f"bits_over_first{end}": at for end, at in zip(ends, OVER[site], strict=True)}
        run["sites"].append(first | {"site": site, "layer": 1} | over)
    return run


def test_a_sentence_decides_which_site_tells_more_where_the_interval_does() -> None:
    rows = read_at(*OVER)["sites"]
    assert site_sentence(rows, 1) == (
        "At t+1 the residual stream after a block (layer 2) reads 0.20 bits [0.10, 0.30] more than "
        "the MLP output (layer 1); reads 0.30 bits [0.20, 0.40] less than the residual stream "
        "between attention and MLP (layer 1); cannot be told from the attention output (layer 1) "
        "(0.000 bits [-0.100, 0.100] more)."
    )
    few = [rows[0], rows[1] | {"bits_over_first_low": None, "bits_over_first_high": None}]
    assert site_sentence(few, 1).endswith("the MLP output (layer 1): there are too few documents.")


def test_each_site_has_a_line_an_offset_and_a_row_of_the_table() -> None:
    run = index(read_at("mlp_out", "attn_out"))
    (figure,) = site_figures(run)
    assert figure.series == ("resid_post", "mlp_out", "attn_out")
    assert figure.svg.count('"series"') == 3
    cells = [[cell.text for cell in row] for row in site_table(run).rows]
    assert [row[1] for row in cells] == list(figure.series)
    assert cells[1] == ["t+1", "mlp_out", "1", "0.500", "\u22120.200"]
    inks = (PRINT_INK, PRINT_INK)
    (printed,) = site_drawings(run, inks)
    # The own site has layer 0 too.
    assert [row["layer"] for row in printed.rows] == [0, 1, 2, 1, 2, 1, 2]
    assert len(drawn(printed).axes[0].lines) == 1 + 3


@pytest.mark.usefixtures("undrawn")
def test_the_page_has_the_section_where_several_sites_were_read() -> None:
    assert '<section id="sites"' in render(read_at("mlp_out"))
    assert '<section id="sites"' not in render(results(Size(layers=2, offsets=1)))
