"""The comparison in a browser: opens from a file, switches, sorts, filters, fits, can be read."""

from pathlib import Path
from typing import Any

import pytest

from support.pages.synthetic_comparison import page as made
from support.pages.watched_pages import CONTRAST

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("comparisons")
    paths = {name: folder / f"{name}.html" for name in ("plain", "hostile")}
    for name, path in paths.items():
        path.write_text(made(name), encoding="utf-8")
    return paths


def _shown(page: Any, selector: str, name: str) -> set[str]:
    """Return a data attribute of the elements that are visible."""
    found = page.eval_on_selector_all(
        selector, f"found => found.filter(e => e.offsetParent).map(e => e.dataset.{name})"
    )
    return set(found)


def _column(page: Any, part: str, number: int) -> list[str]:
    """Return the cells of a column in the rows that are not filtered out."""
    cells: list[str] = page.eval_on_selector_all(
        f"{part} tbody tr:not([hidden]) > :nth-child({number})",
        "found => found.map(e => e.firstChild.textContent)",
    )
    return cells


def _number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-").replace(",", ""))


def test_it_opens_from_a_file_without_errors_or_requests(open_page: Any) -> None:
    page, seen = open_page()
    page.wait_for_load_state("networkidle")
    assert seen.problems == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [page.url]


@pytest.mark.parametrize("scripted", [True, False])
def test_switches_work_with_and_without_script(open_page: Any, scripted: bool) -> None:
    page, _ = open_page(java_script_enabled=scripted)
    for group in ("top1", "forgotten", "cost"):
        page.check(f"#scale-quantity-{group}", force=True)
        for name in ("top1", "forgotten", "cost", "next"):
            view = page.locator(f".scale-view[data-group={name}]")
            assert view.is_visible() == (name == group)
    page.check("#depth-metric-bits", force=True)
    page.check("#depth-domain-2", force=True)
    for metric in ("top1", "bits"):
        for domain in ("0", "2"):
            views = page.locator(f".depth-view[data-metric={metric}][data-domain='{domain}']")
            visible = (metric, domain) == ("bits", "2")
            assert [view.is_visible() for view in views.all()] == [visible] * 2
    assert page.locator("th button").count() == 0 or scripted
    assert page.locator("#differences tbody tr").first.is_visible()


def test_choosing_an_offset_dims_the_others_and_each_figure_has_its_own_colours(
    open_page: Any,
) -> None:
    page, _ = open_page()
    assert _shown(page, ".scale-view", "group") == {"top1"}
    figure = page.locator(".scale-view figure").first
    page.check("#scale-focus-2", force=True)
    opacity = "e => getComputedStyle(e).opacity"
    assert figure.locator(".o1.probe").first.evaluate(opacity) == "0.12"
    assert figure.locator(".o2.probe").first.evaluate(opacity) != "0.12"
    colour = "e => getComputedStyle(e).getPropertyValue('--o1')"
    assert page.locator("#depth .grid").evaluate(colour) != page.locator("#scale").evaluate(colour)


def test_a_click_on_a_heading_sorts_and_another_turns_the_order(open_page: Any) -> None:
    page, seen = open_page()
    head = page.locator("#differences th", has_text="Difference")
    for order in ("ascending", "descending"):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == order
        values = [_number(text) for text in _column(page, "#differences", 6)]
        assert len(values) > 100
        assert values == sorted(values, reverse=order == "descending")
    page.locator("#differences th", has_text="Offset").get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") is None
    offsets = page.eval_on_selector_all(
        "#differences tbody td:nth-child(4)", "found => found.map(e => e.textContent.trim())"
    )
    assert offsets == sorted(offsets)
    page.locator(".answer th", has_text="Top-1").get_by_role("button").click()
    page.locator(".answer th", has_text="Top-1").get_by_role("button").click()
    assert _column(page, ".answer", 1) == ["tiny-3", "tiny-2", "tiny-1"]
    assert seen.problems == []


def test_what_is_missing_is_sorted_last_either_way(open_page: Any) -> None:
    page, _ = open_page()
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    head = page.locator("#headlines th", has_text="Retained mass")
    for _ in range(2):
        head.get_by_role("button").click()
        number = 1 + head.evaluate("e => e.cellIndex")
        cells = page.eval_on_selector_all(
            f"#headlines tbody td:nth-child({number})",
            "found => found.map(e => Boolean(e.querySelector('.none')))",
        )
        assert (True in cells, cells) == (True, sorted(cells))


def test_rows_are_filtered_by_text_and_by_choice(open_page: Any) -> None:
    page, _ = open_page()
    part = page.locator("#differences")
    part.get_by_label("Domain").select_option("prose")
    part.get_by_label("Offset").select_option("t+2")
    part.get_by_label("Any text").fill("tOp-1, BEST")
    rows = page.eval_on_selector_all(
        "#differences tbody tr:not([hidden])",
        "found => found.map(row => [...row.cells].slice(0, 5).map(e => e.textContent.trim()))",
    )
    pairs = [("tiny-2", "tiny-1"), ("tiny-3", "tiny-1"), ("tiny-3", "tiny-2")]
    assert rows == [[*pair, "prose", "t+2", "Top-1, best probe (%)"] for pair in pairs]
    assert part.locator("output").text_content().startswith("3 of ")
    part.get_by_label("Any text").fill("")
    part.get_by_label("Domain").select_option("")
    part.get_by_label("Offset").select_option("")
    assert page.locator("#differences tbody tr[hidden]").count() == 0


def test_the_answer_stands_on_the_first_screen_and_on_a_narrow_one_its_figure_first(
    open_page: Any,
) -> None:
    page, _ = open_page(viewport={"width": 1280, "height": 900})
    places = {}
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 900})
        boxes = [page.locator(f".answer {part}").bounding_box() for part in ("table", "svg")]
        places[width] = [(box["y"], box["y"] + box["height"]) for box in boxes]
    assert max(end for _, end in places[1280]) < 900
    assert places[400][1][1] < min(900, places[400][0][0])


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", ["plain", "hostile"])
def test_the_page_does_not_scroll_sideways_and_hostile_text_does_not_run(
    open_page: Any, width: int, name: str
) -> None:
    page, seen = open_page(name, viewport={"width": width, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    for choice in page.locator("#scale-quantity-cost, #scale-quantity-next").all():
        choice.check(force=True)
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("window.hacked") is None
    assert seen.problems == []
    assert page.locator("script").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(open_page: Any, scheme: str) -> None:
    page, _ = open_page(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.evaluate(CONTRAST) == []
