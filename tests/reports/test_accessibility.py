"""Every page under axe-core, in both schemes, with all that can be opened open."""

from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import pytest

from probekit.reports import render, render_comparison
from probekit.reports.heads.page import render_heads
from probekit.reports.reproduction.page import render_reproduction
from support.pages import synthetic_heads, synthetic_reproduction
from support.pages.synthetic_comparison import document
from support.pages.synthetic_passages import Held, passages
from support.pages.synthetic_run import Size, results

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SIZE = Size(layers=3, offsets=2, seeds=1, codelength=True)
AXE = (resources("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
OPEN = "document.querySelectorAll('details').forEach(part => { part.open = true; })"
SERIOUS = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
  .filter(found => ["serious", "critical"].includes(found.impact))
  .map(found => `${found.id}: ${found.nodes[0].html.slice(0, 120)}`)"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("axe")
    pages = {
        "run": render(results(SIZE), passages(SIZE, Held(tokens=30))),
        "comparison": render_comparison(document()),
        "heads": render_heads(synthetic_heads.document()),
        "figure-1": render_reproduction(synthetic_reproduction.figure_1()),
        "table-1": render_reproduction(synthetic_reproduction.table_1()),
    }
    paths = {name: folder / f"{name}.html" for name in pages}
    for name, page in pages.items():
        paths[name].write_text(page, encoding="utf-8")
    return paths


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["run", "comparison", "heads", "figure-1", "table-1"])
def test_axe_finds_nothing_serious(open_page: Any, name: str, scheme: str) -> None:
    page, _ = open_page(name, color_scheme=scheme)
    page.evaluate(OPEN)
    page.evaluate(AXE)
    assert page.evaluate(SERIOUS) == []


def test_axe_sees_what_is_wrong(open_page: Any) -> None:
    page, _ = open_page("run")
    page.evaluate("document.querySelector('.lead').style.color = '#eee'")
    page.evaluate(AXE)
    assert [found.partition(":")[0] for found in page.evaluate(SERIOUS)] == ["color-contrast"]
