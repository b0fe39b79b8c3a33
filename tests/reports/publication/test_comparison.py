"""Comparisons for print: which figures there are, what they show, what their tables say."""

import csv
import io
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from typer.testing import CliRunner

from probekit import reports
from probekit.cli.main import app
from probekit.errors import RunError
from probekit.pipelines.comparison import compare, sweep
from probekit.reports import comparison_figures
from probekit.reports.comparison.rows import index
from probekit.reports.components.svg import MARK
from probekit.reports.publication import figure_files
from probekit.reports.publication.comparison import comparison_drawings
from probekit.reports.publication.export import Drawing, print_style
from support.pages import shared_pages
from support.pages.synthetic_comparison import Ladder, document, given
from support.pages.synthetic_run import HOSTILE, Size


@cache
def found(name: str) -> dict[str, Drawing]:
    return of(given(name))


def of(document: dict[str, Any]) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in comparison_drawings(document)}


def drawn(drawing: Drawing) -> Figure:
    with print_style(drawing.inks):
        return drawing.draw()


def rows_of(drawing: Drawing, **wanted: object) -> list[Mapping[str, object]]:
    return [row for row in drawing.rows if all(row[name] == v for name, v in wanted.items())]


def lines(axes: Any, name: str) -> list[Any]:
    return [line for line in axes.lines if line.get_gid() == f"{MARK}{name}"]


def ys(line: Any) -> list[float]:
    return [float(y) for y in line.get_ydata() if not math.isnan(y)]


def words(figure: Figure, number: int) -> list[str]:
    return [text.get_text() for text in figure.legends[number].get_texts()]


def test_every_figure_of_the_page_is_in_one_of_the_files() -> None:
    for name in ("plain", "mixed"):
        sizes, curves = comparison_figures(given(name))
        of_sizes = {re.sub(r"-\d$", "", piece.name) for piece in sizes}
        of_curves = {re.sub(r"-\d$", "", piece.name) for piece in curves}
        assert set(found(name)) == {f"scale-{one}" for one in of_sizes} | of_curves
        if name == "mixed":
            panels = sum(len(drawn(drawing).axes) for drawing in found(name).values())
            assert panels == len([*sizes, *curves])


def test_sizes_are_the_numbers_of_their_table() -> None:
    drawing = found("plain")["scale-best-probe-top1"]
    told = 0
    for axes, domain in zip(drawn(drawing).axes, ("all", "prose", "code"), strict=True):
        for offset in (1, 2):
            for kind, name in (("probe", "best_probe_top1"), ("ceiling", "ceiling_top1")):
                rows = rows_of(drawing, domain=domain, offset=offset, quantity=name)
                (marks,) = lines(axes, f"o o{offset} {kind}")
                assert ys(marks) == [row["value"] for row in rows]
                (bars,) = lines(axes, f"o o{offset} {kind} bar")
                ends = [row[end] for row in rows for end in ("low", "high")]
                assert ys(bars) == [end for end in ends if end == end]  # noqa: PLR0124  NaN
                told += len(rows)
    assert told == len(drawing.rows) > 30
    (row,) = rows_of(drawing, run="tiny-2", domain="code", offset=2, quantity="best_probe_top1")
    head = index(given("plain")).headline(("tiny-2", "code", 2), "best_probe_top1")
    assert [row[end] for end in ("value", "low", "high")] == [
        100 * head[end] for end in ("value", "low", "high")
    ]
    assert (row["n_parameters"], row["unit"]) == (800_000, "%")


def test_quantities_without_offsets_have_a_series_a_domain() -> None:
    drawing = found("plain")["scale-next-token-nats"]
    figure = drawn(drawing)
    marks = lines(figure.axes[0], "plain")
    assert [ys(line) for line in marks] == [
        [row["value"] for row in rows_of(drawing, domain=domain)]
        for domain in ("all", "prose", "code")
    ]
    assert len({line.get_marker() for line in marks}) == 3
    assert words(figure, 0) == ["all", "prose", "code", "95 % interval"]


def test_curves_are_the_numbers_of_their_table() -> None:
    drawing = found("plain")["depth-bits-1"]
    told = 0
    for axes, offset in zip(drawn(drawing).axes, (1, 2), strict=True):
        for number in (1, 2, 3):
            about = {"run": f"tiny-{number}", "offset": offset}
            probe = rows_of(drawing, kind="probe", **about)
            (line,) = lines(axes, f"r r{number}")
            assert list(zip(*line.get_data(), strict=True)) == [
                (row["depth"], row["value"]) for row in probe
            ]
            (ceiling,) = rows_of(drawing, kind="ceiling", **about)
            (mark,) = lines(axes, f"r r{number} ceiling")
            assert ys(mark) == [ceiling["value"]]
            told += len(probe) + 1
    assert told == len(drawing.rows)
    (row,) = rows_of(drawing, run="tiny-3", offset=2, layer=2)
    own = index(given("plain")).curve(("tiny-3", "prose", 2), "linear")[2]
    assert [row[end] for end in ("value", "low", "high", "depth")] == [
        own[end] for end in ("bits", "bits_low", "bits_high", "depth")
    ]
    assert (row["n_parameters"], row["domain"], row["readout"]) == (1_600_000, "prose", "linear")


def test_legends_name_runs_and_kinds_of_lines() -> None:
    every = found("plain")
    depth, sizes = drawn(every["depth-top1-0"]), drawn(every["scale-best-probe-top1"])
    assert words(depth, 0) == ["tiny-1", "tiny-2", "tiny-3"]
    assert words(depth, 1) == ["linear probe", "95 % interval", "ceiling"]
    for number, handle in enumerate(depth.legends[0].get_lines(), 1):
        (line,) = lines(depth.axes[0], f"r r{number}")
        assert same_color(handle.get_color(), line.get_color())
        assert handle.get_marker() == line.get_marker()
        assert handle.get_linestyle() == line.get_linestyle()
    assert words(sizes, 0) == ["t+1", "t+2"]
    assert words(sizes, 1) == ["best probe", "ceiling", "95 % interval"]
    called = [text.get_text() for text in sizes.axes[0].texts]
    assert [name for name in called if name.startswith("tiny")] == ["tiny-1", "tiny-2", "tiny-3"]
    assert words(drawn(every["scale-best-depth"]), 1) == []


def test_each_offset_shows_its_own_scale() -> None:
    figure = drawn(found("plain")["depth-top1-0"])
    assert len({axes.get_ylim() for axes in figure.axes}) == 2
    assert all(axes.yaxis.get_tick_params()["labelleft"] for axes in figure.axes)


def test_a_run_of_unknown_size_is_in_the_curves_alone() -> None:
    made = given("plain")
    made["runs"][0]["model"]["n_parameters"] = None
    every = of(made)
    sizes = every["scale-best-probe-top1"]
    assert {row["run"] for row in sizes.rows} == {"tiny-2", "tiny-3"}
    called = [text.get_text() for text in drawn(sizes).axes[0].texts]
    assert [name for name in called if name.startswith("tiny")] == ["tiny-2", "tiny-3"]
    assert {row["run"] for row in every["depth-top1-0"].rows} == {"tiny-1", "tiny-2", "tiny-3"}
    for run in made["runs"]:
        run["model"]["n_parameters"] = None
    assert {name.partition("-")[0] for name in of(made)} == {"depth"}


def test_nothing_drawn_leaves_the_figure_or_lies_on_other_text() -> None:
    many = Size(layers=2, offsets=5, domains=("prose",), seeds=0, families=("linear",))
    sizes, curves = "scale-best-probe-top1", "depth-bits-0"
    for made, names in (
        (given("plain"), (sizes, "scale-next-token-nats")),
        (given("hostile"), (sizes, curves)),
        (document(Ladder(runs=14, size=many)), (sizes, curves)),
    ):
        every = of(made)
        for name in names:
            with print_style(every[name].inks):
                figure = every[name].draw()
                figure.draw_without_rendering()
                whole = figure.bbox
                boxes: list[Any] = [legend.get_window_extent() for legend in figure.legends]
                boxes += [axes.get_tightbbox() for axes in figure.axes]
            for box in boxes:
                assert whole.x0 - 1 <= box.x0 <= box.x1 <= whole.x1 + 1, name
                assert whole.y0 - 1 <= box.y0 <= box.y1 <= whole.y1 + 1, name
            assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]), name


def test_hostile_names_are_inert_and_drawn_short() -> None:
    files = shared_pages.comparison_figures()
    drawing = of(shared_pages.small_comparison())["depth-top1-0"]
    for name, content in files.items():
        if name.endswith(".svg"):
            assert not re.search(rb"DOCTYPE|hacked|@import|url\((?!#)|\bmark:", content)
        if name.endswith(".csv"):
            table = content.decode()
            assert not re.search("[\x00-\x09\x0b-\x1f\u200f\u202e]", table)
            assert HOSTILE not in table
            assert "nan" not in table
    rows = list(csv.DictReader(io.StringIO(files["depth-top1-0.csv"].decode())))
    assert len(rows) == len(drawing.rows)
    assert all(len(word) <= 25 for word in words(drawn(drawing), 0))


def test_another_schema_is_refused() -> None:
    with pytest.raises(
        RunError,
        match=r"comparisons of schema 'probekit.comparison/1', got 'probekit.comparison/2'",
    ):
        reports.figure_files({"schema": "probekit.comparison/2", "runs": []})


def test_both_commands_write_the_figures_beside_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = compare.Comparison((), pd.DataFrame(), given("mixed"))
    swept = sweep.SweepResult((), {}, made, tmp_path / "compare.html")
    monkeypatch.setattr(figure_files, "figure_files", lambda _: {"a.svg": b"<svg/>"})
    monkeypatch.setattr(compare.Comparison, "html", "")
    monkeypatch.setattr(compare, "compare", lambda _: made)
    monkeypatch.setattr(sweep, "sweep", lambda *_: swept)
    folder = tmp_path / "figures"
    runs = [str(tmp_path / name) for name in ("a", "b")]
    page = tmp_path / "compare.html"
    for command in (
        ["compare", *runs, "--output", str(page)],
        ["sweep", "--family", "tiny", "--output", str(tmp_path)],
    ):
        plain = CliRunner().invoke(app, command)
        assert plain.exit_code == 0, plain.exception
        assert not folder.exists()
        done = CliRunner().invoke(app, [*command, "--figures"])
        assert done.stdout.splitlines()[-2:] == [
            f"Figures: {folder} (1 files)",
            f"Comparison: {page}",
        ]
        assert (folder / "a.svg").read_bytes() == b"<svg/>"
        (folder / "a.svg").unlink()
        folder.rmdir()
