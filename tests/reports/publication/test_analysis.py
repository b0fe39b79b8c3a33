"""Figures for print: which there are, what is in their files, what the tables beside them say."""

import csv
import io
import json
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from probekit import reports
from probekit.cli.main import app
from probekit.errors import RunError
from probekit.reports.analysis.curves import curve_figures
from probekit.reports.analysis.layer_maps import build_maps
from probekit.reports.analysis.rows import index
from probekit.reports.publication import figure_files
from probekit.reports.publication.analysis import run_drawings
from probekit.reports.publication.export import FORMATS, Drawing, exported, print_style
from support.pages import shared_pages
from support.pages.synthetic_run import HOSTILE, Size, results


def run_of(**changes: Any) -> dict[str, Any]:
    return results(Size(**({"layers": 3, "offsets": 2} | changes)))


@pytest.fixture(scope="module")
def files() -> Mapping[str, bytes]:
    return shared_pages.figures()


def found(run: dict[str, Any]) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in run_drawings(run)}


def drawn(drawing: Drawing) -> Figure:
    with print_style(drawing.inks):
        return drawing.draw()


def lines(axes: Any, *classes: str) -> list[list[tuple[float, float]]]:
    """Return the points of the lines of axes that have all of these classes, less those of NaN."""
    kept = [line for line in axes.lines if set(classes) <= set(re.split("[: ]", line.get_gid()))]
    return [[(x, y) for x, y in line.get_xydata() if not math.isnan(y)] for line in kept]


def of(rows: Any, **wanted: object) -> list[Any]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def test_there_is_a_file_for_every_figure_of_the_page() -> None:
    run = run_of(layers=2, domains=("prose",))
    names = set(found(run))
    curves = {(figure.group, figure.positions) for figure in curve_figures(index(run))}
    maps = {(view.readout, view.metric) for view in build_maps(index(run)).maps}
    assert names == (
        {f"curves-{m.replace('_', '-')}-{'all' if p == 'all' else 'ceiling'}" for m, p in curves}
        | {f"map-{readout}-{metric.replace('_', '-')}" for readout, metric in maps}
        | {"specialization", "lens-divergence", "entropy-by-position", "learning"}
    )


def test_curves_are_the_numbers_of_their_table() -> None:
    drawing = found(run_of(seeds=2))["curves-top1-ceiling"]
    every = drawn(drawing).axes
    assert len(every) == 3
    for axes, domain in zip(every, ("all", "prose", "code"), strict=True):
        rows = of(drawing.rows, domain=domain)
        told = 0
        for kind in ("probe", "lens", "random"):
            for offset in (1, 2):
                points = [(r["layer"], r["value"]) for r in of(rows, kind=kind, offset=offset)]
                assert lines(axes, f"o{offset}", kind) == ([points] if points else [])
                told += len(points)
        for kind in ("ceiling", "estimate", "skip-bigram"):
            for offset in (1, 2):
                levels = [row["value"] for row in of(rows, kind=kind, offset=offset)]
                assert [y for (_, y), _ in lines(axes, f"o{offset}", kind)] == levels
                told += len(levels)
        unigrams = [row["value"] for row in of(rows, kind="unigram")]
        assert [y for (_, y), _ in lines(axes, "unigram")] == unigrams
        assert told + len(unigrams) == len(rows)
    probe = of(drawing.rows, domain="code", kind="probe", offset=2)[0]
    score = index(run_of(seeds=2)).score("linear", 0, 2, ("code", "marginal"))
    assert (probe["value"], probe["low"]) == (100 * score["top1"], 100 * score["top1_low"])
    assert (probe["unit"], probe["readout"], probe["band"]) == ("%", "linear", "95 % interval")


def test_divergence_entropy_and_map_are_the_numbers_of_their_tables() -> None:
    every = found(run_of())
    for name, place in (("lens-divergence", "depth"), ("entropy-by-position", "position")):
        rows = every[name].rows
        domains = list(dict.fromkeys(row["domain"] for row in rows))
        points = [[(row[place], row["value"]) for row in of(rows, domain=d)] for d in domains]
        assert lines(drawn(every[name]).axes[0], "series") == points
    drawing = every["map-linear-nats"]
    axes: list[Any] = drawn(drawing).axes
    *maps, bar = axes
    told: list[Any] = [row["value"] for row in drawing.rows]
    cells = [value for one in maps for value in one.collections[0].get_array().ravel()]
    assert cells == told
    assert bar.get_xlim() == (min(told), max(told))
    rings = [(patch.get_y(), patch.get_x()) for one in maps for patch in one.patches]
    best = of(drawing.rows, kind="best layer")
    assert [(int(y) + 1, int(x)) for y, x in rings] == [(r["offset"], r["layer"]) for r in best]


def test_each_figure_explains_itself() -> None:
    figure = drawn(found(run_of())["curves-bits-ceiling"])
    words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert words[:3] == ["t+1", "t+2", "linear probe (blind)"]
    assert {"95 % interval", "logit lens at t+1", "ceiling", "untrained blocks"} < set(words)
    first, *others = figure.axes
    assert (first.get_ylabel(), first.get_xlabel()) == ("Bits over the unigram", "Layer")
    assert {axes.get_ylabel() for axes in others} == {""}
    assert all(axes.get_ylim() == first.get_ylim() for axes in others)
    probes = [line for line in first.lines if str(line.get_gid()).endswith(" probe")]
    assert len({line.get_marker() for line in probes} - {"None"}) == 2


def test_nothing_drawn_leaves_the_figure_or_lies_on_other_text() -> None:
    shapes = (
        run_of(),
        run_of(layers=2, domains=("prose",), offsets=6),
        run_of(layers=2, domains=("a", "b", "c" * 90)),
    )
    for run in shapes:
        every = found(run)
        for name in ("curves-nats-ceiling", "entropy-by-position", "map-linear-top1"):
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


def test_an_svg_refers_to_nothing_outside_and_holds_no_hostile_text(
    files: Mapping[str, bytes],
) -> None:
    for name in (name for name in files if name.endswith(".svg")):
        root = ElementTree.fromstring(files[name])
        tags = {node.tag.rpartition("}")[2] for node in root.iter()}
        assert tags <= {"svg", "g", "defs", "style", "path", "use", "clipPath", "rect", "pattern"}
        links = [v for node in root.iter() for k, v in node.attrib.items() if k.endswith("href")]
        assert links
        assert {link[0] for link in links} == {"#"}
        text = files[name].decode()
        assert not re.search(r"DOCTYPE|hacked|@import|url\((?!#)|\bmark:", text)
        ids = [node.attrib["id"] for node in root.iter() if "id" in node.attrib]
        assert len(ids) == len(set(ids))


def test_a_pdf_embeds_its_fonts_and_tells_no_date(files: Mapping[str, bytes]) -> None:
    for name in (name for name in files if name.endswith(".pdf")):
        content = files[name]
        streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
        fonts = [zlib.decompress(s) for s in streams if s[:1] == b"x"]
        assert any(font.startswith(b"\0\1\0\0") for font in fonts), "no TrueType font"
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
        assert not re.search(rb"CreationDate|Matplotlib|/URI|/JavaScript", content)


def test_a_png_has_300_dots_an_inch_and_names_no_software(files: Mapping[str, bytes]) -> None:
    content = files["lens-divergence.png"]
    width = int.from_bytes(content[16:20], "big")
    assert width == round(3.3 * 300)
    assert int.from_bytes(content.partition(b"pHYs")[2][:4], "big") == round(300 / 0.0254)
    assert b"Software" not in content


def test_each_figure_has_its_table(files: Mapping[str, bytes]) -> None:
    names = {name.rpartition(".")[0] for name in files}
    assert set(files) == {f"{name}.{kind}" for name in names for kind in (*FORMATS, "csv")}
    text = files["curves-top1-all.csv"].decode()
    assert "\x00" not in text
    assert "\u202e" not in text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["domain"] for row in rows} >= {"all", "a $x^{ b \\ c"}
    assert any("⟨U+0000⟩" in row["domain"] for row in rows)
    assert "nan" not in text.partition("\n")[2]
    assert HOSTILE not in text
    head = "domain,positions,metric,unit,kind,readout,offset,layer,value,low,high,band"
    assert text.partition("\n")[0] == head


def test_a_hostile_name_of_a_readout_is_no_name_of_a_file() -> None:
    names = [
        drawing.name for drawing in run_drawings(run_of(families=("linear", f"head:{HOSTILE}")))
    ]
    assert any(name.startswith("map-readout-2-") for name in names)
    assert len(names) == len(set(names))
    assert all(re.fullmatch("[a-z0-9-]+", name) for name in names)


def test_names_that_would_be_one_file_are_refused() -> None:
    twice = [Drawing("a", Figure, [{"x": 1}], ("#000",))] * 2
    with pytest.raises(RunError, match="different, plain names, got 'a'"):
        exported(twice)
    with pytest.raises(RunError, match=r"got '\.\./a'"):
        exported([Drawing("../a", Figure, [{"x": 1}], ("#000",))])


def test_report_writes_the_figures_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results.json").write_text(json.dumps(results()))
    monkeypatch.setattr(reports, "render", lambda *_: "")
    monkeypatch.setattr(
        figure_files, "figure_files", lambda _: {"a.svg": b"<svg/>", "a.csv": b"x\n"}
    )
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--figures"])
    assert done.exit_code == 0, done.exception
    folder = tmp_path / "figures"
    assert f"Figures: {folder} (2 files)" in done.stdout.splitlines()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "a.svg": b"<svg/>", "a.csv": b"x\n",
    }  # fmt: skip
