"""The figures over several runs: what is drawn together, by which names, in which colours."""

import numpy as np
import pytest

from probekit.reports import comparison_figures, render_comparison
from probekit.reports.comparison.curves import MOST_LAYERS, answering, is_thinned, thinned
from probekit.reports.comparison.drawing import SizePanel, Trace, size_figure
from probekit.reports.comparison.figures import labels, ladders
from probekit.reports.comparison.rows import index
from probekit.reports.components.colours import DARK, LIGHT, contrast, run_colours
from probekit.reports.components.numbers import fixed
from probekit.reports.components.svg import inline
from support.pages.parsed_pages import Page
from support.pages.synthetic_comparison import Ladder, document, given, page
from support.pages.synthetic_run import Size

TINY = Size(layers=2, offsets=2, domains=("prose",), seeds=0, families=("linear",))


@pytest.fixture(scope="module")
def plain() -> Page:
    return Page(page("plain"))


def test_every_figure_says_its_message_in_words(plain: Page) -> None:
    says = [attrs["aria-label"] or "" for _, attrs in plain.tags if attrs.get("role") == "img"]
    found = given("plain")
    sizes, curves = comparison_figures(found)
    (answer,) = answering(index(found))
    assert says == [piece.message for piece in (answer, *sizes, *curves)]
    top1 = next(p.message for p in sizes if p.name == "best-probe-top1-1")
    values = {
        row["run"]: fixed(100 * row["value"], 1)
        for row in found["headlines"]
        if (row["domain"], row["offset"], row["quantity"]) == ("prose", 2, "best_probe_top1")
    }
    want = f"t+2: from {values['tiny-1']} % for tiny-1 (400K) to {values['tiny-3']} % for tiny-3"
    assert want in top1
    depth = next(p.message for p in curves if p.name == "depth-bits-1-2")
    rows = index(found).curve(("tiny-2", "prose", 2), "linear")
    best = max(rows, key=lambda row: float(row["bits"]))
    want = f"tiny-2: {fixed(best['bits'], 2)} bits at layer {best['layer']} of 3, its best"
    assert want in depth


def test_the_figures_hold_what_the_rows_hold() -> None:
    found = index(given("plain"))
    panel = comparison_figures(found.document)[0][0].draw.args[0]  # type: ignore[attr-defined]
    probe = next(t for t in panel.traces if (t.ink, t.kind) == (2, "probe"))
    rows = [found.headline((run, "all", 2), "best_probe_top1") for run in found.runs]
    assert probe.points == [
        (n, *(100 * row[end] for end in ("value", "low", "high"))) for n, row in enumerate(rows)
    ]
    assert panel.sizes == [400_000, 800_000, 1_600_000]
    lines = comparison_figures(found.document)[1][0].draw.args[0].lines  # type: ignore[attr-defined]
    assert [line.depths for line in lines] == [[0, 1 / 3, 2 / 3, 1]] * 3
    own = found.curve(("tiny-2", "all", 1), "linear")
    assert list(lines[1].values) == [100 * row["top1"] for row in own]
    assert lines[1].ceiling == 100 * found.ceiling(("tiny-2", "all", 1))["top1"]


def test_the_figure_that_answers_is_of_what_the_runs_have_in_common_and_is_drawn_once() -> None:
    found = given("plain")
    (answer,) = answering(index(found))
    assert (answer.group, answer.domain, answer.offset) == ("share", "all", 2)
    lines = answer.draw.args[0].lines  # type: ignore[attr-defined]
    rows = index(found).curve(("tiny-2", "all", 2), "linear")
    assert list(lines[1].values) == [100 * row["share"] for row in rows]
    for row in found["scores"]:
        row["share"] = None
    (answer,) = answering(index(found))
    assert (answer.group, answer.offset) == ("bits", 2)
    drawn = Page(render_comparison(found)).all("aria-label")
    assert drawn.count(answer.message) == 1
    (answer,) = answering(index(given("mixed")))
    assert (answer.group, answer.offset) == ("bpb", 1)
    assert Page(page("mixed")).all("aria-label").count(answer.message) == 1
    assert answering(index(found | {"scores": []})) == []


def test_over_several_tokenizers_the_next_tokens_bits_per_byte_are_shown_and_nothing_else() -> None:
    sizes, curves = comparison_figures(given("mixed"))
    assert {piece.group for piece in sizes} == {"bpb", "next"}
    assert {piece.title for piece in sizes if piece.group == "next"} == {
        "Bits per byte, next token"
    }
    assert {(piece.group, piece.offset) for piece in curves} == {("bpb", 1)}
    tables = Page(page("mixed")).rows
    heads = {name for name, rows in tables.items() for row in rows for name in row}
    for counted in ("Top-1", "nats", "t+2", "recovered", "branches", "mass", "nucleus"):
        assert not [name for name in heads if counted in name], counted
    assert "marginalization" not in tables


def test_a_line_joins_only_sizes_of_one_architecture_and_vocabulary() -> None:
    found = given("plain")
    assert ladders(index(found)) == [[0, 1, 2]]
    found["runs"][2]["model"]["vocab_size"] = 9
    assert ladders(index(found)) == [[0, 1]]
    found["runs"][1]["model"]["architecture"] = "other"
    assert ladders(index(found)) == []
    same = given("plain")
    same["runs"][1]["model"]["n_parameters"] = 400_000
    assert ladders(index(same)) == []


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
    found = index(given("plain"))
    assert labels(found) == ["tiny-1", "tiny-2", "tiny-3"]
    assert labels(index(given("hostile"))) == ["1", "2"]
    points = [(0, 1.0, 0.5, 1.5)]
    panel = SizePanel("y", [1e6], ["$x_{&<"], [Trace(1, "probe", 0, points)], [], (0.0, 2.0))
    assert ">$x_{&amp;&lt;</text>" in inline(lambda: size_figure(panel), "n-")


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
    found = index(given_rows)
    place = ("tiny-1", "prose", 1)
    every, kept = found.curve(place, "linear"), thinned(found, place)
    assert (len(every), is_thinned(found)) == (61, True)
    assert MOST_LAYERS <= len(kept) <= MOST_LAYERS + 3
    best = max(every, key=lambda row: float(row["top1"]))
    assert best["layer"] == 1
    assert {0, 1, 60} <= {row["layer"] for row in kept}
    assert not is_thinned(index(given("plain")))
