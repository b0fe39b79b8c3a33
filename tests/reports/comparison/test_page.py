"""The page over several runs: every number is in it, none is made up, none is mixed."""

import re
from collections import Counter
from typing import Any

import pytest

from probekit.errors import RunError
from probekit.reports import comparison_figures, render_comparison
from probekit.reports.comparison.curves import MOST_LAYERS
from probekit.reports.comparison.quantities import quantity
from probekit.reports.comparison.rows import index
from probekit.reports.comparison.tables import (
    MOST_DIFFERENCES,
    answer_table,
    difference_table,
    headline_table,
)
from probekit.reports.components.numbers import DASH, fixed
from probekit.reports.components.visible_text import clean
from support.pages.parsed_pages import Page
from support.pages.shared_pages import of_one_metric
from support.pages.synthetic_comparison import Ladder, document, given, page
from support.pages.synthetic_run import HOSTILE, Size

SECTIONS = [
    "verdict", "warnings", "scale", "depth", "differences", "headlines",
    "marginalization", "configuration", "reading", "measured",
]  # fmt: skip
TINY = Size(layers=2, offsets=2, domains=("prose",), seeds=0, families=("linear",))


@pytest.fixture(scope="module")
def plain() -> Page:
    return Page(page("plain"))


def test_every_section_is_there_and_the_verdict_comes_first(plain: Page) -> None:
    assert [attrs["id"] for tag, attrs in plain.tags if tag == "section"] == SECTIONS


def test_what_the_runs_say_of_themselves_is_shown(plain: Page) -> None:
    found = given("plain")
    wanted = [*found["verdict"], *(w["message"] for w in found["warnings"])]
    for run in found["runs"]:
        wanted += [run["name"], run["folder"], run["run"]["command"], run["run"]["created"]]
        wanted += [*run["verdict"], *(w["message"] for w in run["warnings"])]
        wanted += [text["sha256"] for text in run["text"]]
    wanted += [row["key"] for row in found["configuration"]]
    wanted += [value for row in found["configuration"] for value in row["values"].values()]
    assert [words for words in wanted if words not in plain.text] == []


def _there(rows: list[list[str]], keys: list[str], value: str) -> bool:
    return any(row[: len(keys)] == keys and value in row[len(keys) :] for row in rows)


def _shown(row: dict[str, Any]) -> str:
    """Return a number of contract rows with its interval, worked out apart from the page."""
    one = quantity(row["quantity"])
    numbers = [row[end] for end in ("value", "low", "high")]
    value, *ends = (n if n is None else fixed(n * one.scale, one.digits) for n in numbers)
    return f"{value}" if None in ends else f"{value} {ends[0]} to {ends[1]}"


def test_every_headline_number_is_in_the_table(plain: Page) -> None:
    rows = plain.rows["headlines"]
    found = given("plain")["headlines"]
    lost = [
        row
        for row in found
        if not _there(rows, [row["run"], row["domain"], f"t+{row['offset']}"], _shown(row))
    ]
    assert (len(found) > 100, lost) == (True, [])


def test_every_difference_is_in_the_table_with_its_sign(plain: Page) -> None:
    found = given("plain")["differences"]
    rows = {tuple(row[:5]): row[5:] for row in plain.rows["differences"]}
    assert len(found) == len(rows) - 1 > 100
    for row in found:
        key = (row["run"], row["reference"], row["domain"], f"t+{row['offset']}")
        value, says, pairing = rows[(*key, quantity(row["quantity"]).label)]
        assert value.removeprefix("+") == _shown(row)
        assert (says == "cannot tell") == (row["low"] <= 0 <= row["high"])
        assert pairing == "paired"


@pytest.mark.parametrize(
    ("name", "ends", "says"),
    [
        ("best_probe_top1", (0.1, 0.2), ("better", "good")),
        ("best_probe_nats", (0.1, 0.2), ("worse", "bad")),
        ("best_probe_bpb", (-0.2, -0.1), ("better", "good")),
        ("forgotten_bits", (-0.2, -0.1), ("less", "")),
        ("best_depth", (0.1, 0.2), ("deeper", "")),
        ("best_probe_top1", (-0.1, 0.2), ("cannot tell", "doubt")),
        ("best_probe_top1", (0.0, 0.2), ("cannot tell", "doubt")),
        ("best_probe_top1", (None, 0.2), ("no interval", "")),
        ("strange", (0.1, 0.2), ("higher", "")),
        ("best_probe_nats", (-1e-6, -1e-8), ("the same", "")),
    ],
)
def test_a_sign_is_said_in_words(
    name: str, ends: tuple[float | None, float], says: tuple[str, str]
) -> None:
    same = says[0] == "the same"
    row = {"value": 0.1, "low": ends[0], "high": ends[1], "same": same}
    assert quantity(name).sign(row) == says


def test_marginalization_branching_and_models_are_in_the_tables(plain: Page) -> None:
    found, rows = given("plain"), plain.rows["marginalization"]
    for row in found["marginal"]:
        which = {"marginal": "the model's", "marginal-adapted": "adapted"}[row["readout"]]
        keys = [row["run"], row["domain"], f"t+{row['offset']}", which]
        for value in (fixed(row["retained_mass"], 3), fixed(row["branches_mean"], 1)):
            assert _there(rows, keys, value)
    for row in found["branching"]:
        if (row["positions_from"], row["positions_to"]) == (0, 255):
            ends = [fixed(row[f"tokens_mean{end}"], 1) for end in ("", "_low", "_high")]
            assert _there(rows, [row["run"], row["domain"]], f"{ends[0]} {ends[1]} to {ends[2]}")
    for run in found["runs"]:
        assert _there(
            plain.rows["configuration"], [run["name"]], f"{run['model']['n_parameters']:,}"
        )


def test_the_first_table_tells_what_is_read_of_what_the_model_knows_or_why_that_is_not_told() -> (
    None
):
    found = given("plain")
    told = {"share": "25 % [20 %, 31 %], not clear of nothing", "read": "0.60 bits [0.50, 0.70]"}
    told |= {"known": "2.40 bits", "floor": "a skip-bigram", "best": "5 of 6"}
    kept = {
        ("tiny-1", 2): told,
        ("tiny-2", 2): told | {"share": "", "known": "worse than counting"},
    }
    for row in found["offsets"]:
        row.update(kept.get((row["run"], row["offset"]), {}))
    found["offsets"] = [row for row in found["offsets"] if row["run"] != "tiny-3"]
    cells = [row[2] for row in answer_table(index(found)).rows]
    read = "0.60 bits [0.50, 0.70]"
    beside = f"[20 %, 31 %], not clear of nothing; {read} of 2.40 bits beyond a skip-bigram; "
    assert (cells[0].text, cells[0].interval) == ("25 %", beside + "layer 5 of 6")
    assert cells[1].text == read
    assert cells[1].interval == "beyond a skip-bigram; the model knows: worse than counting"
    assert cells[2].missing == "not measured there"
    (cell, *_) = answer_table(index(document(Ladder(runs=6, size=TINY)))).rows[0][2:]
    assert (cell.text, cell.interval) == ("31 %", "[25 %, 137 %], as much as all of it")


def test_what_is_missing_has_a_reason_and_no_number() -> None:
    found = given("plain")
    gone = found["headlines"].pop(0)
    table, _ = headline_table(index(found))
    row = next(r for r in table.rows if [c.text for c in r[:3]] == ["tiny-1", "all", "t+1"])
    cell = row[list(table.head).index(quantity(gone["quantity"]).label)]
    assert (cell.text, cell.missing) == (DASH, "not measured there")


def test_differing_texts_and_runs_of_unknown_size_are_named_where_they_matter() -> None:
    found = document(Ladder(runs=3, size=TINY, same_text=False))
    found["runs"][0]["model"]["n_parameters"] = None
    found["headlines"] = [r for r in found["headlines"] if r["quantity"] == "best_probe_top1"]
    of_one_metric(found)
    text = Page(render_comparison(found)).text
    assert "No difference is given, because the texts of the runs differ." in text
    assert text.count("The texts differ between runs.") == 2
    assert "Without a known number of parameters, so in the tables alone: tiny-1." in text
    panel = comparison_figures(found)[0][0].draw.args[0]  # type: ignore[attr-defined]
    assert panel.names == ["tiny-2", "tiny-3"]


def test_one_run_without_anything_says_why_its_parts_are_empty() -> None:
    found = document(Ladder(runs=1, size=TINY))
    parts = ("scores", "headlines", "differences", "marginal", "branching", "configuration")
    found |= {part: [] for part in parts}
    found |= {"verdict": [], "warnings": []}
    text = Page(render_comparison(found)).text
    for words in (
        "This comparison holds no verdict.",
        "Nothing is drawn: no run has both a known number of parameters",
        "Nothing is drawn: no probe was scored",
        "No difference is given, because there is one run only.",
        "No headline numbers were recorded.",
        "No run was marginalized.",
        "How many tokens the next one might be was not recorded",
        "The runs differ in nothing that was recorded",
    ):
        assert words in text


def test_nothing_of_the_runs_acts_in_the_page() -> None:
    tags = Page(page("hostile")).tags
    count = Counter(tag for tag, _ in tags)
    assert (count["script"], count["style"], count["img"], count["iframe"]) == (1, 1, 0, 0)
    assert [name for _, attrs in tags for name in attrs if name.startswith("on")] == []
    assert clean(HOSTILE) in Page(page("hostile")).text
    unfit = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
    assert re.findall(unfit, page("hostile")) == []


def test_nothing_is_loaded_and_every_reference_resolves(plain: Page) -> None:
    html = page("plain")
    loads = [url for name in ("src", "href", "data", "action") for url in plain.all(name)]
    assert [url for url in loads if not url.startswith("#") and url != "data:,"] == []
    assert re.findall(r"@import|url\((?!#)", html) == []
    ids = Counter(plain.all("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    used = re.findall(r"url\(#([^)]+)\)", html)
    used += [url[1:] for url in plain.all("href") if url.startswith("#")]
    used += plain.all("aria-labelledby")
    assert [name for name in used if name not in ids] == []


def test_another_schema_is_refused() -> None:
    with pytest.raises(RunError, match=r"comparisons of schema 'probekit.comparison/1', got None"):
        render_comparison({"runs": []})


def test_too_many_differences_are_left_out_from_the_last_domains() -> None:
    found = given("plain")
    found["differences"] *= MOST_DIFFERENCES // len(found["differences"]) + 1
    table, left_out = difference_table(index(found))
    assert (len(table.rows), left_out) == (
        MOST_DIFFERENCES,
        len(found["differences"]) - MOST_DIFFERENCES,
    )
    domains = [row[2].text for row in table.rows]
    assert domains == sorted(domains, key=["all", "prose", "code"].index)


@pytest.mark.slow
def test_twenty_runs_of_eighty_layers_stay_under_five_megabytes() -> None:
    size = Size(layers=80, offsets=8, seeds=0, families=("linear",))
    html = render_comparison(document(Ladder(runs=20, size=size)))
    assert len(html.encode()) < 5_000_000
    text = Page(html).text
    assert f"Of more than {MOST_LAYERS} layers" in text
    assert "more differences were left out to keep this page small" in text
