"""The report in a browser: opens from a file, asks for nothing, switches, fits, in both schemes."""

from pathlib import Path
from typing import Any

import pytest

from probekit.reports import render
from support.pages.synthetic_passages import Held, passages
from support.pages.synthetic_run import Size, results
from support.pages.watched_pages import CONTRAST

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    sizes = {
        "plain": Size(layers=4, offsets=3, seeds=3, codelength=True, target="model"),
        "hostile": Size(layers=2, offsets=2, seeds=2, hostile=True),
    }
    paths = {name: folder / f"{name}.html" for name in sizes}
    for name, size in sizes.items():
        page = render(results(size), passages(size, Held(target=size.target, others=100)))
        paths[name].write_text(page, encoding="utf-8")
    return paths


def _shown(page: Any, selector: str) -> list[dict[str, str]]:
    """Return the data attributes of the elements that are visible."""
    shown: list[dict[str, str]] = page.eval_on_selector_all(
        selector, "found => found.filter(e => e.offsetParent).map(e => ({...e.dataset}))"
    )
    return shown


def test_it_opens_from_a_file_without_errors_or_requests(open_page: Any) -> None:
    page, seen = open_page()
    page.wait_for_load_state("networkidle")
    assert seen.problems == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [page.url]


def test_hostile_text_does_not_run(open_page: Any) -> None:
    page, seen = open_page("hostile")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.hacked") is None
    assert seen.problems == []
    assert page.locator("script:not([type='application/json'])").count() == 1


@pytest.mark.parametrize("scripted", [True, False])
def test_switching_the_metric_shows_the_curves_of_that_metric(
    open_page: Any, scripted: bool
) -> None:
    page, _ = open_page(java_script_enabled=scripted)
    for metric, label in (("top1", "Top-1"), ("bits", "Bits"), ("nats", "Nats")):
        page.locator("#curves .switch").first.get_by_text(label, exact=True).click()
        for name, shown in (("top1", metric == "top1"), ("bits", metric == "bits")):
            figures = page.locator(f"figure[data-metric={name}][data-positions=marginal]")
            assert [figure.is_visible() for figure in figures.all()] == [shown] * 3


def test_switching_positions_shows_the_other_curves(open_page: Any) -> None:
    page, _ = open_page()
    page.check("#curve-metric-top1", force=True)
    assert {figure["positions"] for figure in _shown(page, "figure.curve")} == {"marginal"}
    page.check("#curve-positions-all", force=True)
    assert {figure["positions"] for figure in _shown(page, "figure.curve")} == {"all"}


def test_choosing_an_offset_hides_the_levels_of_the_others(open_page: Any) -> None:
    page, _ = open_page()
    page.check("#curve-metric-top1", force=True)
    figure = page.locator("figure.curve[data-metric=top1]").first
    page.check("#curve-focus-3", force=True)
    assert figure.locator(".o1.level").first.is_hidden()
    assert figure.locator(".o3.level").first.is_visible()
    assert figure.locator(".o2.random:not(.band)").is_hidden()
    assert figure.locator(".o3.lens").evaluate("e => getComputedStyle(e).display") == "inline"
    assert figure.locator(".o1.probe").evaluate("e => getComputedStyle(e).opacity") == "0.12"


def test_the_untrained_model_is_seen_in_the_curves_and_the_page_says_its_target_at_the_top(
    open_page: Any,
) -> None:
    page, _ = open_page()
    page.check("#curve-metric-top1", force=True)
    figure = page.locator("figure.curve[data-metric=top1]").first
    assert figure.locator(".o2.random:not(.band)").is_visible()
    page.check("#curve-focus-2", force=True)
    assert figure.locator(".o2.random:not(.band)").is_visible()
    assert page.locator("header .target").bounding_box()["y"] < 400


def test_the_lens_is_shown_at_every_offset_on_demand(open_page: Any) -> None:
    page, _ = open_page()
    page.check("#curve-metric-top1", force=True)
    lens = page.locator("figure.curve[data-metric=top1]").first.locator(".o2.lens")
    assert lens.evaluate("e => getComputedStyle(e).display") == "none"
    page.check("#lens-every")
    assert lens.evaluate("e => getComputedStyle(e).display") == "inline"


def test_the_map_shows_one_view_at_a_time(open_page: Any) -> None:
    page, _ = open_page()
    assert _shown(page, ".map-view") == [{"metric": "top1", "readout": "0", "domain": "0"}]
    page.check("#map-metric-nats", force=True)
    page.check("#map-readout-1", force=True)
    page.check("#map-domain-2", force=True)
    assert _shown(page, ".map-view") == [{"metric": "nats", "readout": "1", "domain": "2"}]


def test_the_comparison_follows_its_switch(open_page: Any) -> None:
    page, _ = open_page()
    page.evaluate("location.hash = '#domains'")  # a part opens when it is linked to
    page.check("#compare-metric-bits", force=True)
    assert _shown(page, ".compare") == [{"metric": "bits"}]


def test_arrow_keys_walk_the_map_and_say_exact_numbers(open_page: Any) -> None:
    page, _ = open_page()
    first = page.locator(".map-view table").first.locator("td").first
    first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    said = page.locator("#exact").text_content()
    expected = page.evaluate("document.activeElement.title")
    assert said == f"t+2, layer 1: {expected}"
    assert ", n " in said


def test_pointing_at_a_cell_says_exact_numbers(open_page: Any) -> None:
    page, _ = open_page()
    page.locator(".map-view table").first.locator("td").nth(2).hover()
    assert page.locator("#exact").text_content().startswith("t+3, layer 0: ")


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_the_page_does_not_scroll_sideways(open_page: Any, width: int, name: str) -> None:
    page, _ = open_page(name, viewport={"width": width, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(open_page: Any, scheme: str) -> None:
    page, _ = open_page(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.evaluate(CONTRAST) == []


def test_print_is_light_even_for_a_dark_reader(open_page: Any) -> None:
    page, _ = open_page(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(253, 253, 252)"
    assert page.locator(".controls").first.is_hidden()
