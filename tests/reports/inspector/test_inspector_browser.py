"""The token inspector in a browser: what is chosen, clicked and typed shows what the data say."""

import math
from itertools import compress
from pathlib import Path
from typing import Any

import pytest

from probekit.reports import render
from support.pages.shared_pages import of_one_metric
from support.pages.synthetic_passages import Held, passages
from support.pages.synthetic_run import Size, results

pytestmark = pytest.mark.browser

SIZE = Size(layers=10, offsets=3, seeds=0, families=("linear",))
DATA = passages(SIZE, Held(tokens=60, others=80, whole=()))
BORDERS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("inspector") / "plain.html"
    path.write_text(render(of_one_metric(results(SIZE)), DATA), encoding="utf-8")
    return {"plain": path}


def values(part: str, readout: str, layer: int | None, offset: int) -> list[Any]:
    """Return what the data say at every position, passage after passage."""
    rows = [
        row[part]
        for row in DATA["readings"]
        if (row["readout"], row["layer"], row["offset"]) == (readout, layer, offset)
    ]
    assert len(rows) == 1
    return [value for passage in rows[0] for value in passage]


def steps(page: Any) -> list[int | None]:
    found = page.eval_on_selector_all(".passage > bdi", "all => all.map(e => e.className)")
    marks = [[name for name in classes.split() if name[0] == "m"] for classes in found]
    return [int(names[0][1:]) if names else None for names in marks]


def by_probability(nats: list[float | None]) -> list[int | None]:
    tens = [None if n is None else 12 - 4 * round(n, 3) / math.log(10) for n in nats]
    return [None if ten is None else min(11, max(0, math.floor(ten))) for ten in tens]


def by_rank(ranks: list[int | None]) -> list[int | None]:
    return [None if r is None else 11 - sum(r > border for border in BORDERS) for r in ranks]


def slide(page: Any, name: str, place: int) -> None:
    slider = page.locator(f"#inspector-{name}")
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(place):
        page.keyboard.press("ArrowRight")


def word(index: int) -> str:
    text: str = DATA["vocabulary"][index]
    return text.replace(" ", "␣").replace("\n", "↵")


def test_sliders_and_readouts_change_colours_and_numbers_as_the_data_say(open_page: Any) -> None:
    page, seen = open_page()
    assert DATA["layers"] == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert steps(page) == by_probability(values("nats", "linear", 6, 2))
    slide(page, "layer", 3)
    slide(page, "offset", 2)
    assert page.locator("#inspector-layer-is").text_content() == "4 of 10"
    assert page.locator("#inspector-layer").get_attribute("aria-valuetext") == "layer 4 of 10"
    assert page.locator("#inspector-offset-is").text_content() == "t+3"
    assert steps(page) == by_probability(values("nats", "linear", 4, 3))
    ranks = values("rank", "linear", 4, 3)
    state = page.locator("#inspector-state").text_content()
    assert state == (
        f"linear probe, layer 4 of 10, t+3: the target comes first at {ranks.count(1)} of 54 "
        "positions."
    )
    title = page.locator(".passage > bdi").nth(5).get_attribute("title")
    percent = 100 * math.exp(-values("nats", "linear", 4, 3)[5])
    assert title.startswith("t+3: ")
    assert float(title.split()[1].replace("<", "0")) == pytest.approx(percent, abs=0.6)
    page.check("#inspector-shade-rank", force=True)
    slide(page, "layer", 7)
    ranks = values("rank", "linear", 9, 3)
    exact = [rank is None or rank <= 128 for rank in ranks]  # the others are kept to 7 %
    assert exact.count(True) > 40
    assert list(compress(steps(page), exact)) == list(compress(by_rank(ranks), exact))
    page.check("#inspector-readout-1", force=True)
    page.check("#inspector-shade-probability", force=True)
    assert steps(page) == by_probability(values("nats", "lens", 9, 3))
    page.check("#inspector-readout-2", force=True)
    assert page.locator("#inspector-layer").is_disabled()
    assert steps(page) == by_probability(values("nats", "marginal", None, 3))
    slide(page, "offset", 0)
    assert steps(page) == by_probability(values("nats", "model", None, 1))
    assert seen.problems == []


def test_a_click_and_keys_choose_the_token_whose_first_choices_are_shown(open_page: Any) -> None:
    page, seen = open_page()
    tokens = page.locator(".passage > bdi")
    tokens.nth(7).click()
    rings = "all => all.flatMap((e, n) => e.matches('.at') ? [n] : [])"
    assert page.eval_on_selector_all(".passage > bdi", rings) == [7]
    assert tokens.nth(7).get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.eval_on_selector_all(".passage > bdi", rings) == [7]
    page.keyboard.press("Enter")
    assert page.eval_on_selector_all(".passage > bdi", rings) == [9]
    ahead = rings.replace(".at", ".ahead")
    assert page.eval_on_selector_all(".passage > bdi", ahead) == [11]
    places = DATA["passages"][0]
    said = page.locator("#inspector-picked").text_content()
    here, there = (word(places["tokens"][n]) for n in (9, 11))
    assert said == (
        f"Position t (ring): {here}; the token at t+2 (dashed ring) is {there}. "
        f"prose, {places['name']} (document {places['document']}), token {places['position'] + 9}"
    )
    tables = page.locator("#inspector-tops table")
    assert [table.locator("tbody tr").count() for table in tables.all()] == [9, 9, 1]
    for number, (readout, layer) in enumerate([("linear", 8), ("lens", 8), ("marginal", None)]):
        row = tables.nth(number).locator("tbody tr").nth(6 if layer else 0)
        cells = [text.strip() for text in row.locator("td").all_text_contents()]
        top, probs = (values(part, readout, layer, 2)[9] for part in ("top", "probs"))
        for cell, choice, prob in zip(cells[1:], top, probs, strict=True):
            mark = "✓ target " if choice == places["targets"]["2"][9] else ""
            text, _, share = cell.removesuffix(" %").rpartition(" ")
            assert text.removesuffix(" <") == mark + word(choice)
            assert float(share) == pytest.approx(100 * prob, abs=0.55)
    page.keyboard.press("ArrowDown")
    boxes = page.evaluate("[document.activeElement, document.querySelectorAll('.passage > bdi')[9]]"
                          ".map(e => e.getClientRects()[0].top)")  # fmt: skip
    assert boxes[0] > boxes[1] + 10
    assert page.locator(".passage > bdi[tabindex='0']").count() == 1
    assert seen.problems == []


def shown_examples(page: Any) -> list[list[int]]:
    """Return the positions of the examples, the best and the most surprised."""
    places = [(p["position"], n * 30) for n, p in enumerate(DATA["passages"])]
    names = [passage["domain"] for passage in DATA["passages"]]
    found = []
    for part in page.locator("#examples ol").all():
        links = part.locator("li > a").all_text_contents()
        which = [names.index(link.split(",")[0]) for link in links]
        tokens = [int(link.rpartition(" ")[2]) for link in links]
        found.append([n - places[w][0] + places[w][1] for w, n in zip(which, tokens, strict=True)])
    return found


def ordered(readout: str, layer: int, offset: int, part: range) -> list[int]:
    nats = values("nats", readout, layer, offset)
    return sorted((n for n in part if nats[n] is not None), key=lambda n: round(1000 * nats[n]))


def test_a_cell_of_the_map_shows_where_it_reads_best_and_worst(open_page: Any) -> None:
    page, seen = open_page()
    cells = page.locator(".map-view:visible tbody").first.locator("tr")
    cells.nth(4).locator("td").nth(2).click()  # layer 4, t+3
    order = ordered("linear", 4, 3, range(60))
    best, worst = shown_examples(page)
    assert (best, worst) == (order[:5], order[:-6:-1])
    first = page.locator("#examples li").first
    target = word(DATA["passages"][order[0] // 30]["targets"]["3"][order[0] % 30])
    assert first.locator(".wanted").text_content() == target
    top = values("top", "linear", 4, 3)[order[0]][0]
    assert f"first choice {word(top)} " in first.text_content()
    assert f"{values('nats', 'linear', 4, 3)[order[0]]:.2f} nats" in first.text_content()
    # Another domain, by key, at a layer that the passages do not hold.
    page.check("#map-domain-2", force=True)
    assert page.locator("#examples").is_hidden()
    page.check("#map-readout-1", force=True)
    page.locator(".map-view:visible td").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert "layer 2 is the nearest to 3." in page.locator("#examples").text_content()
    order = ordered("lens", 2, 1, range(30, 60))
    assert shown_examples(page) == [order[:5], order[:-6:-1]]
    page.locator("#examples li a").first.click()
    assert (
        page.locator("#inspector-state").text_content().startswith("logit lens, layer 2 of 10, t+1")
    )
    assert page.locator(".passage > bdi.at").count() == 1
    assert page.evaluate("location.hash") == "#inspector"
    assert steps(page) == by_probability(values("nats", "lens", 2, 1))
    # What reads no layer is named, and what the passages do not hold is said.
    floors = page.locator(".map-view:visible tbody.floors tr")
    floors.filter(has_text="unigram").locator("td").first.click()
    assert (
        page.locator("#examples").text_content()
        == "The passages hold no reading of unigram at t+1."
    )
    floors.filter(has_text="model").locator("td").first.click()
    assert page.locator("#examples strong").text_content() == "the model itself, t+1"
    assert seen.problems == []


def test_without_script_the_passages_are_read_and_nothing_pretends_to_work(open_page: Any) -> None:
    page, _ = open_page(java_script_enabled=False)
    shown = page.locator(".passage").first.inner_text()
    text = "".join(DATA["vocabulary"][word] for word in DATA["passages"][0]["tokens"])
    assert " ".join(shown.replace("↵", "").split()) == " ".join(text.split())
    assert page.locator("#inspector-controls").is_hidden()
    assert page.locator("#inspector noscript").text_content().strip().startswith("The sliders")
    assert page.locator(".passage [role=button]").count() == 0


def test_paper_shows_the_passages_and_no_controls(open_page: Any) -> None:
    page, _ = open_page()
    page.emulate_media(media="print")
    assert page.locator(".passage").first.is_visible()
    assert page.locator("#inspector-panel").is_hidden()
    assert page.locator("#inspector-controls").is_hidden()
