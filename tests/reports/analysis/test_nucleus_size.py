"""The report's cost of marginalizing: tokens that the next one might be, entropy by position."""

import re
from functools import partial
from typing import Any

import pytest

from probekit.reports import render
from probekit.reports.analysis.not_run import not_run
from probekit.reports.analysis.nucleus_size import (
    branching_table,
    by_position,
    entropy_by_position,
    nucleus,
    point,
)
from probekit.reports.analysis.rows import index
from probekit.reports.analysis.tables import NO_CEILING
from probekit.reports.components.axes import one_panel
from probekit.reports.components.line_figures import draw_positions
from probekit.reports.components.svg import inline
from support.pages.synthetic_run import HOSTILE, Size, results

ONE: dict[str, Any] = {"layers": 2, "offsets": 2}
HEAD = "How many tokens the next one might be"


def run_of(**changes: Any) -> dict[str, Any]:
    return results(Size(**(ONE | changes)))


def section(page: str) -> str:
    found = re.search(r'<section id="marginalization".*?</section>', page, re.DOTALL)
    assert found is not None
    return found[0]


@pytest.mark.usefixtures("undrawn")
def test_tokens_and_entropy_stand_beside_the_branches_that_were_kept() -> None:
    run = run_of()
    run["branching"].reverse()  # the whole block is found wherever its row is
    table = branching_table(index(run))
    assert table.head[1] == "Tokens in the 0.99 nucleus, mean"
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["all", "154.0", "77", "3.50", "64", "21.4", "0.940", "24,000", "88"],
        ["prose", "184.0", "92", "4.00", "64", "21.4", "0.940", "24,000", "88"],
        ["code", "124.0", "62", "3.00", "64", "21.4", "0.940", "24,000", "88"],
    ]
    assert table.rows[1][1].interval == "175.0 to 193.0"
    assert table.rows[1][3].interval == "3.88 to 4.12"
    shown = section(render(run))
    for text in (HEAD, "184.0 <small>175.0 to 193.0</small>", "figure 4"):
        assert text in shown


@pytest.mark.usefixtures("undrawn")
def test_the_share_that_was_counted_is_named_as_it_was() -> None:
    run = run_of()
    for row in run["branching"]:
        row["nucleus"] = 0.5
    assert nucleus(index(run)) == "0.5"
    assert "the tokens that hold 0.5 of the model's" in section(render(run))


@pytest.mark.usefixtures("undrawn")
def test_without_marginalization_the_cost_is_still_counted() -> None:
    run = run_of(marginal=False)
    rows = branching_table(index(run)).rows
    assert [row[1].text for row in rows] == ["154.0", "184.0", "124.0"]
    assert {cell.missing for row in rows for cell in row[4:7]} == {NO_CEILING}
    shown = section(render(run))
    assert "Marginalization did not run." in shown
    assert HEAD in shown
    assert "the ceiling above made do with" not in shown
    assert "the ceiling above made do with" in section(render(run_of()))


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_an_earlier_version_has_no_such_part() -> None:
    run = run_of()
    before = not_run(index(run))
    del run["branching"]
    assert HEAD not in section(render(run))
    assert entropy_by_position(index(run)) is None
    assert not_run(index(run)) == before


def test_the_figure_has_a_line_for_each_domain_and_says_what_it_shows() -> None:
    found = entropy_by_position(index(run_of()))
    assert found
    assert found.table
    assert found.series == ("prose", "code")  # all of them is no line of its own
    assert found.svg.count('class="series"') == found.svg.count('class="band"') == 2
    assert found.message.startswith(
        "prose: the entropy of the next token is 3.90 nats on average at positions 0 to 31 of "
        "the block and 3.20 at 224 to 255. code: "
    )
    texts = [[cell.text for cell in row] for row in found.table.rows]
    assert len(texts) == 8
    assert texts[0] == ["0 to 31", "180.0", "120.0", "3.90", "2.90"]
    assert texts[7] == ["224 to 255", "152.0", "92.0", "3.20", "2.20"]
    shown = section(render(run_of()))
    assert f'role="img" aria-label="{found.message}"' in shown
    assert '<i class="key s1"></i><bdi>code</bdi>' in shown


def test_a_single_domain_is_one_line_under_its_own_name() -> None:
    run = run_of(domains=("prose",))
    found = entropy_by_position(index(run))
    assert found
    assert found.table
    assert found.series == ("prose",)
    assert '<ul class="legend">' not in section(render(run))


def test_points_are_the_middle_of_their_positions_the_mean_and_its_interval() -> None:
    parts = by_position(index(run_of()))
    prose, code = ([point(row) for row in rows] for rows in parts.values())
    assert prose[0] == pytest.approx((15.5, 3.9, 3.78, 4.02))
    assert prose[7] == pytest.approx((239.5, 3.2, 3.08, 3.32))
    assert code[0] == pytest.approx((15.5, 2.9, 2.78, 3.02))


def test_a_figure_draws_each_point_at_its_place() -> None:
    points = [[(10.0, 1.0, 0.5, 1.5), (30.0, 3.0, 2.5, 3.5)]]
    svg = inline(partial(one_panel, partial(draw_positions, series=points)), "x-")
    line = re.search(r'class="series"[^>]*><path d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)', svg)
    assert line is not None
    x1, y1, x2, y2 = (float(text) for text in line.groups())
    # The axes start at 0 on the left and below, so places are proportional to numbers.
    left, bottom = (3 * x1 - x2) / 2, (3 * y1 - y2) / 2
    width, height = 4.6 * 72, 3.4 * 72
    assert left == pytest.approx(0.125 * width, abs=0.5)
    assert bottom == pytest.approx((1 - 0.135) * height, abs=0.5)


def test_a_span_of_a_single_document_has_a_point_and_no_band() -> None:
    run = run_of(domains=("prose",))
    own = [row for row in run["branching"] if row["domain"] == "prose"]
    for row in own[1:]:
        for name in ("tokens_mean", "entropy_nats"):
            row |= {f"{name}_low": None, f"{name}_high": None}
    found = entropy_by_position(index(run))
    assert found
    assert found.table
    assert {cell.interval for row in found.table.rows for cell in row} == {""}
    assert {cell.missing for row in found.table.rows for cell in row} == {""}
    assert found.svg.count('class="series"') == 1
    assert 'class="band"' not in found.svg
    assert "nan" not in found.svg.lower()


def test_a_domain_of_fewer_positions_leaves_its_cells_empty() -> None:
    run = run_of()
    run["branching"] = [
        row for row in run["branching"] if (row["domain"], row["positions_from"]) != ("code", 32)
    ]
    found = entropy_by_position(index(run))
    assert found
    assert found.table
    assert [cell.missing for cell in found.table.rows[1]] == [
        "", "", "no position there", "", "no position there",
    ]  # fmt: skip


def test_nothing_of_a_hostile_run_acts() -> None:
    page = render(run_of(hostile=True))
    assert HOSTILE not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x" in section(page)
    labels = re.findall(r'aria-label="([^"]*)"', section(page))
    assert any("entropy of the next token" in text and "&lt;/script&gt;" in text for text in labels)
