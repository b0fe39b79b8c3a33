"""The page over several runs: every number is in it, none is made up, none is mixed."""

import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from shared_pages import of_one_metric
from synthetic_comparison import Ladder, document, given, page
from synthetic_run import HOSTILE, Size

from probekit.errors import RunError
from probekit.reports import comparison_pieces, render_comparison
from probekit.reports.colours import DARK, LIGHT, contrast
from probekit.reports.comparison_curves import MOST_LAYERS, is_thinned, thinned
from probekit.reports.comparison_figures import labels, ladders, size_groups
from probekit.reports.comparison_quantities import quantity
from probekit.reports.comparison_rows import compared
from probekit.reports.comparison_tables import (
    MOST_DIFFERENCES,
    difference_table,
    glance_table,
    headline_table,
)
from probekit.reports.escape import clean
from probekit.reports.numbers import DASH, fixed
from probekit.reports.scales import SizePanel, Trace, size_figure
from probekit.reports.series import run_colours
from probekit.reports.svg import inline

SECTIONS = [
    "verdict", "warnings", "glance", "scale", "depth", "differences", "headlines",
    "marginalization", "configuration", "reading", "measured",
]  # fmt: skip
TINY = Size(layers=2, offsets=2, domains=("prose",), seeds=0, families=("linear",))


class Page(HTMLParser):
    """Collects start tags, all text, and the cells of every row by section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: dict[str, list[list[str]]] = {}
        self._section = ""
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append((tag, named))
        if tag == "section":
            self._section = named["id"] or ""
        if tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        if tag in {"td", "th"}:
            self.rows[self._section][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.rows[self._section][-1][-1] += data

    def all(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


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
    ],
)
def test_a_sign_is_said_in_words(
    name: str, ends: tuple[float | None, float], says: tuple[str, str]
) -> None:
    assert quantity(name).sign({"value": 0.1, "low": ends[0], "high": ends[1]}) == says


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


def test_what_is_missing_has_a_reason_and_no_number() -> None:
    found = given("plain")
    gone = found["headlines"].pop(0)
    table, _ = headline_table(compared(found))
    row = next(r for r in table.rows if [c.text for c in r[:3]] == ["tiny-1", "all", "t+1"])
    cell = row[list(table.head).index(quantity(gone["quantity"]).label)]
    assert (cell.text, cell.missing) == (DASH, "not measured there")


def test_every_figure_says_its_message_in_words(plain: Page) -> None:
    says = [attrs["aria-label"] or "" for _, attrs in plain.tags if attrs.get("role") == "img"]
    found = given("plain")
    sizes, curves = comparison_pieces(found)
    assert says == [piece.message for piece in (*sizes, *curves)]
    top1 = next(p.message for p in sizes if p.name == "best-probe-top1-1")
    values = {
        row["run"]: fixed(100 * row["value"], 1)
        for row in found["headlines"]
        if (row["domain"], row["offset"], row["quantity"]) == ("prose", 2, "best_probe_top1")
    }
    want = f"t+2: from {values['tiny-1']} % for tiny-1 (400K) to {values['tiny-3']} % for tiny-3"
    assert want in top1
    depth = next(p.message for p in curves if p.name == "depth-bits-1-2")
    rows = compared(found).curve(("tiny-2", "prose", 2), "linear")
    best = max(rows, key=lambda row: float(row["bits"]))
    want = f"tiny-2: {fixed(best['bits'], 2)} bits at layer {best['layer']} of 3, its best"
    assert want in depth


def test_the_figures_hold_what_the_rows_hold() -> None:
    found = compared(given("plain"))
    panel = comparison_pieces(found.document)[0][0].draw.args[0]  # type: ignore[attr-defined]
    probe = next(t for t in panel.traces if (t.ink, t.kind) == (2, "probe"))
    rows = [found.headline((run, "all", 2), "best_probe_top1") for run in found.runs]
    assert probe.points == [
        (n, *(100 * row[end] for end in ("value", "low", "high"))) for n, row in enumerate(rows)
    ]
    assert panel.sizes == [400_000, 800_000, 1_600_000]
    lines = comparison_pieces(found.document)[1][0].draw.args[0].lines  # type: ignore[attr-defined]
    assert [line.depths for line in lines] == [[0, 1 / 3, 2 / 3, 1]] * 3
    own = found.curve(("tiny-2", "all", 1), "linear")
    assert lines[1].values == [100 * row["top1"] for row in own]
    assert lines[1].ceiling == 100 * found.ceiling(("tiny-2", "all", 1))["top1"]


def test_nothing_that_counts_tokens_is_drawn_over_several_tokenizers() -> None:
    found = given("mixed")
    sizes, curves = comparison_pieces(found)
    drawn = {piece.group for piece in sizes}
    assert drawn == {"bpb", "recovered", "depth", "next", "cost"}
    assert {piece.title for piece in sizes if piece.group == "next"} == {
        "Bits per byte, next token"
    }
    assert {piece.group for piece in curves} == {"bpb"}
    assert "The tokenizers differ. Only bits per byte" in page("mixed")
    assert not any("Cross-entropy" in name for name in glance_table(compared(found)).head)
    names = {name for g in size_groups(compared(found)) for name, _ in g.by_offset}
    assert {n for n in names if quantity(n).per_token} == {"branches_mean"}


def test_differing_texts_and_runs_of_unknown_size_are_named_where_they_matter() -> None:
    found = document(Ladder(runs=3, size=TINY, same_text=False))
    found["runs"][0]["model"]["n_parameters"] = None
    found["headlines"] = [r for r in found["headlines"] if r["quantity"] == "best_probe_top1"]
    of_one_metric(found)
    text = Page(render_comparison(found)).text
    assert "numbers of different runs are of different text" in text
    assert "No difference is given, because the texts of the runs differ." in text
    assert text.count("The texts differ between runs.") == 2
    assert "Without a known number of parameters, so in the tables alone: tiny-1." in text
    panel = comparison_pieces(found)[0][0].draw.args[0]  # type: ignore[attr-defined]
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


def test_a_line_joins_only_sizes_of_one_architecture_and_vocabulary() -> None:
    found = given("plain")
    assert ladders(compared(found)) == [[0, 1, 2]]
    found["runs"][2]["model"]["vocab_size"] = 9
    assert ladders(compared(found)) == [[0, 1]]
    found["runs"][1]["model"]["architecture"] = "other"
    assert ladders(compared(found)) == []
    same = given("plain")
    same["runs"][1]["model"]["n_parameters"] = 400_000
    assert ladders(compared(same)) == []


def test_runs_of_one_size_stand_side_by_side() -> None:
    points = [(n, 1.0, 0.5, 1.5) for n in range(3)]
    panel = SizePanel(
        "y", [1e6, 1e6, 1e6], ["a", "b", "c"], [Trace(1, "probe", 0, points)], [], (0.0, 2.0)
    )
    axes = size_figure(panel).axes[0]
    marks = next(line for line in axes.lines if line.get_marker() == "o")
    xs = np.asarray(marks.get_xdata(), dtype=float).tolist()
    assert xs == sorted(set(xs))
    assert len(xs) == 3


def test_names_in_figures_are_plain_or_numbers() -> None:
    found = compared(given("plain"))
    assert labels(found) == ["tiny-1", "tiny-2", "tiny-3"]
    assert labels(compared(given("hostile"))) == ["1", "2"]
    points = [(0, 1.0, 0.5, 1.5)]
    panel = SizePanel("y", [1e6], ["$x_{&<"], [Trace(1, "probe", 0, points)], [], (0.0, 2.0))
    assert ">$x_{&amp;&lt;</text>" in inline(lambda: size_figure(panel), "n-")


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


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_the_colours_of_runs_are_ordered_and_stand_out_from_the_page(count: int) -> None:
    light, dark = run_colours(count)
    on_light = [contrast(colour, LIGHT) for colour in light]
    on_dark = [contrast(colour, DARK) for colour in dark]
    assert (on_light, on_dark) == (sorted(on_light), sorted(on_dark))
    assert min(*on_light, *on_dark) >= 3
    assert len({*light}) == len({*dark}) == count


def test_long_curves_are_thinned_to_the_ends_and_the_best() -> None:
    size = Size(layers=60, offsets=1, domains=("prose",), seeds=0, families=("linear",))
    given_rows = document(Ladder(runs=1, size=size))
    for row in given_rows["scores"]:
        row["top1"] += row["layer"] == 1  # between two of those that are spread evenly
    found = compared(given_rows)
    place = ("tiny-1", "prose", 1)
    every, kept = found.curve(place, "linear"), thinned(found, place)
    assert (len(every), is_thinned(found)) == (61, True)
    assert MOST_LAYERS <= len(kept) <= MOST_LAYERS + 3
    best = max(every, key=lambda row: float(row["top1"]))
    assert best["layer"] == 1
    assert {0, 1, 60} <= {row["layer"] for row in kept}
    assert not is_thinned(compared(given("plain")))


def test_too_many_differences_are_left_out_from_the_last_domains() -> None:
    found = given("plain")
    found["differences"] *= MOST_DIFFERENCES // len(found["differences"]) + 1
    table, left_out = difference_table(compared(found))
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
