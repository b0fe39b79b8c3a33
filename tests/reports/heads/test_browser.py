"""Pages of heads and of the reproduction in a browser: open from a file, fit, can be read."""

from pathlib import Path
from typing import Any

import pytest

from probekit.reports.heads.page import render_heads
from probekit.reports.reproduction.page import render_reproduction
from support.pages import synthetic_heads, synthetic_reproduction
from support.pages.watched_pages import CONTRAST

pytestmark = pytest.mark.browser

OPEN = "document.querySelectorAll('details').forEach(part => { part.open = true; })"
PLAIN = {"heads": 8, "figure-1": 2}  # and their figures
SMALLEST = 9  # pixels
EVERY = [*PLAIN, "heads-hostile", "figure-1-hostile"]
# The height at which the smallest text of each figure is shown, pixels.
LETTERS = """() => [...document.querySelectorAll(".plot svg")].map(svg => {
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  const sizes = [...svg.querySelectorAll("text")]
    .filter(text => !text.querySelector("tspan"))
    .map(text => parseFloat(getComputedStyle(text).fontSize));
  return scale * Math.min(...sizes);
})"""


def hostile_figure() -> dict[str, Any]:
    found = synthetic_reproduction.figure_1()
    for row in found["rows"]:
        row["model"] = "<script>window.hacked = 1</script>" + 30 * "x" + row["model"]
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("studies")
    pages = {"heads": render_heads(synthetic_heads.document())}
    pages["heads-hostile"] = render_heads(synthetic_heads.hostile())
    pages["figure-1-hostile"] = render_reproduction(hostile_figure())
    pages["figure-1"] = render_reproduction(synthetic_reproduction.figure_1())
    paths = {name: folder / f"{name}.html" for name in pages}
    for name, page in pages.items():
        paths[name].write_text(page, encoding="utf-8")
    return paths


@pytest.mark.parametrize("name", EVERY)
def test_it_opens_from_a_file_and_fits_without_errors_requests_or_scripts(
    open_page: Any, name: str
) -> None:
    page, seen = open_page(name)
    page.evaluate(OPEN)
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert seen.problems == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [page.url]
    assert page.evaluate("window.hacked") is None
    assert page.locator("script").count() == 0


@pytest.mark.parametrize("name", PLAIN)
def test_words_and_figures_can_be_read_in_both_schemes_and_on_a_narrow_page(
    open_page: Any, name: str
) -> None:
    page, _ = open_page(name, viewport={"width": 400, "height": 900})
    page.evaluate(OPEN)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(CONTRAST) == []
    letters = page.evaluate(LETTERS)
    assert len(letters) == PLAIN[name]
    assert min(letters) > SMALLEST


@pytest.mark.parametrize("name", ["heads", "figure-1"])
def test_the_answer_stands_on_the_first_screen(open_page: Any, name: str) -> None:
    page, _ = open_page(name, viewport={"width": 1280, "height": 900})
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 900})
        box = page.locator(".answer svg").first.bounding_box()
        assert box["y"] + box["height"] < 900
    tables = page.locator(".answer table")
    assert tables.count() == 0 or tables.bounding_box()["y"] > box["y"] + box["height"]


def test_a_strategys_learning_curve_has_the_colour_of_its_key(open_page: Any) -> None:
    page, _ = open_page("heads")
    key = "e => getComputedStyle(e).borderTopColor"
    keys = [each.evaluate(key) for each in page.locator("#learning .legend .key:not(.dots)").all()]
    assert len(set(keys)) == len(keys) == 4
    for number, colour in enumerate(keys, 1):
        for curve in page.locator(f"#learning svg .s{number} path").all():
            assert curve.evaluate("e => getComputedStyle(e).stroke") == colour
