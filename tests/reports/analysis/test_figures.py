"""The figures and the map of the report: drawn in place, in colours that can be told apart."""

import re
from functools import partial

import pytest

from probekit.reports import render
from probekit.reports.analysis.curves import curve_message
from probekit.reports.analysis.rows import index
from probekit.reports.components.axes import one_panel
from probekit.reports.components.colours import DARK, LIGHT, contrast, map_steps, offset_colours
from probekit.reports.components.line_figures import (
    Curve,
    LayerPanel,
    Level,
    draw_curves,
    draw_shares,
)
from probekit.reports.components.numbers import METRICS
from probekit.reports.components.svg import inline
from support.pages import shared_pages
from support.pages.parsed_pages import Page
from support.pages.synthetic_run import Size, results


@pytest.fixture(scope="module")
def small() -> str:
    return shared_pages.small_page()


def _figures(html: str, positions: str) -> list[str]:
    """Return the curves of scores, without those of shares, which end at floor and ceiling."""
    curve = rf'<figure[^>]*data-metric="(?!share)\w+" data-positions="{positions}">.*?</figure>'
    return re.findall(curve, html, re.DOTALL)


def test_the_ceiling_is_drawn_only_where_the_positions_are_its_own(small: str) -> None:
    same, every = _figures(small, "marginal"), _figures(small, "all")
    assert len(same) == len(every) == 15
    assert all('class="o o2 level ceiling"' in figure for figure in same)
    assert not any(re.search("o[23] level (ceiling|estimate)", figure) for figure in every)


def test_a_loose_ceiling_is_hatched_and_called_an_estimate() -> None:
    run = results(Size(layers=2, offsets=3, domains=("prose",)))
    for row in run["marginal"]:
        row["nats_error"] = 0.0501 if row["offset"] == 3 else 0.05
    figures = _figures(render(run), "marginal")
    assert all("<pattern" in figure and "o3 level estimate" in figure for figure in figures)
    assert not any("o2 level estimate" in figure for figure in figures)
    assert "(an estimate)" in figures[0]


def test_a_tight_ceiling_is_not_hatched() -> None:
    run = results(Size(layers=2, offsets=3, domains=("prose",)))
    for row in run["marginal"]:
        row["nats_error"] = 0.02
    page = render(run)
    assert "<pattern" not in page
    assert "an estimate</li>" not in page


def test_a_single_domain_is_shown_once() -> None:
    page = render(results(Size(layers=2, offsets=2, domains=("prose",), marginal=False)))
    assert len(_figures(page, "all")) == 5
    assert 'id="map-domain-0"' not in page


def test_another_probe_takes_the_place_of_linear() -> None:
    run = results(Size(layers=2, offsets=2, domains=("prose",), marginal=False))
    for row in run["scores"]:
        row["readout"] = "mlp" if row["readout"] == "linear" else row["readout"]
    figures = _figures(render(run), "all")
    assert len(figures) == 5
    assert all("mlp, 37,000 parameters, blind" in figure for figure in figures)


@pytest.mark.parametrize("count", [1, 4, 8, 16])
def test_every_offset_can_be_seen_on_either_page(count: int) -> None:
    light, dark = offset_colours(count)
    assert min(contrast(colour, LIGHT) for colour in light) >= 3
    assert min(contrast(colour, DARK) for colour in dark) >= 3
    assert len(set(light)) == len(set(dark)) == count


def test_every_number_of_the_map_can_be_read_on_its_colour() -> None:
    light, dark = map_steps()
    assert min(contrast(text, ground) for ground, text in (*light, *dark)) >= 4.5


def test_the_style_sheet_uses_the_page_colours_that_contrast_is_tested_against(small: str) -> None:
    assert re.findall(r"--page: (#\w+);", small) == [LIGHT, DARK]


def test_an_offset_has_one_colour_in_figures_map_and_tables(small: str) -> None:
    assert ".c2 { background: var(--o2); }" in small
    assert all("var(--o2)" in figure for figure in _figures(small, "all"))
    assert small.count("--o2:") == 2  # one light, one dark


def test_figures_have_a_text_that_says_what_they_show(small: str) -> None:
    labels = [a["aria-label"] or "" for tag, a in Page(small).tags if a.get("role") == "img"]
    by_layer = [text for text in labels if "by layer" in text]
    assert len(by_layer) == 34
    assert all(re.search(r"t\+3: from [\d.\N{MINUS SIGN}]+ at layer 0", text) for text in by_layer)
    assert by_layer[0].startswith("all: share of what the model knows beyond the floor of linear")
    falls = [text for text in labels if "beyond the unigram" in text]
    assert [text[:3] for text in falls] == ["t+1", "t+2", "t+3"]
    assert all("skip-bigram" in text and "layer 3, last" in text for text in falls)
    assert "nats at layer 1" in labels[-3]
    assert labels[-1].startswith("The widest gap between confidence and accuracy is that of")


def test_a_figure_draws_each_value_at_its_place() -> None:
    curve = Curve("probe", 1, (0, 1, 2), (0.0, 10.0, 5.0), (0.0, 9.0, 4.0), (1.0, 10.0, 6.0))
    level = Level("ceiling", 1, 10.0, 9.0, 11.0)
    svg = inline(
        partial(
            one_panel, partial(draw_curves, panel=LayerPanel("y", [curve], [level], (0.0, 10.0)))
        ),
        "a-",
    )
    found = re.search(r'class="o o1 probe"><path d="M(\S+) (\S+)L(\S+) (\S+)L(\S+) (\S+)"', svg)
    assert found is not None
    x0, y0, x1, y1, x2, y2 = map(float, found.groups())
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y2) == pytest.approx((y0 - y1) / 2, abs=0.2)
    assert f"L301.4 {y1:g}" in svg  # the ceiling is as high as the best layer
    assert not re.search("#0a0b|#010203", svg)


def test_a_gap_in_a_curve_is_a_gap() -> None:
    nan = float("nan")
    curve = Curve("probe", 1, (0, 1, 2, 3, 4), (1.0, 2.0, nan, 3.0, 4.0), (nan,) * 5, (nan,) * 5)
    svg = inline(
        partial(one_panel, partial(draw_curves, panel=LayerPanel("y", [curve], [], (0.0, 10.0)))),
        "a-",
    )
    path = re.search(r'class="o o1 probe"><path d="([^"]*)"', svg)
    assert path is not None
    assert path[1].count("M") == 2
    assert "band" not in svg


def test_a_score_of_zero_is_a_score() -> None:
    run = results(Size(layers=2, offsets=1, domains=("prose",)))
    for row in run["scores"]:
        if (row["readout"], row["layer"]) == ("linear", 0):
            row["bits"] = 0.0
    message = curve_message(index(run), METRICS["bits"], ("prose", "all"))
    assert "t+1: from 0.00 at layer 0 to" in message


@pytest.mark.parametrize(("marginal", "unit"), [(True, "share of what"), (False, "bits beyond")])
def test_the_first_figure_is_of_shares_only_where_a_share_of_tokens_ahead_is_known(
    marginal: bool, unit: str
) -> None:
    run = results(Size(layers=2, offsets=2, domains=("prose",)))
    for row in run["scores"] if not marginal else ():
        row["share"] = row["share"] if row["offset"] == 1 else None
    labels = [a["aria-label"] or "" for _, a in Page(render(run)).tags if a.get("role") == "img"]
    assert labels[0].startswith(f"prose: {unit}")


@pytest.mark.parametrize(("span", "named"), [((40.0, 105.0), False), ((-5.0, 105.0), True)])
def test_an_end_of_the_shares_that_is_not_drawn_is_not_named(
    span: tuple[float, float], named: bool
) -> None:
    curve = Curve("probe", 1, (1, 2), (50.0, 90.0), (45.0, 85.0), (55.0, 95.0))
    panel = LayerPanel("Read (%)", [curve], (), span)
    (axes,) = one_panel(partial(draw_shares, panel=panel)).axes
    texts = {text.get_text() for text in axes.texts}
    assert ("the current token alone" in texts, "all of it" in texts) == (named, True)
