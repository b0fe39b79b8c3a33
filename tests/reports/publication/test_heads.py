"""Figures of a study of heads for print: which there are, and that they draw what they tell."""

import copy
import csv
import io
from typing import Any

import pytest
from matplotlib.figure import Figure

from probekit import reports
from probekit.errors import RunError
from probekit.reports.components.numbers import METRICS
from probekit.reports.components.svg import MARK
from probekit.reports.heads.panels import difference_dots, score_dots, strategies_of
from probekit.reports.publication.export import FORMATS, Drawing, print_style
from probekit.reports.publication.heads import heads_drawings
from support.pages import shared_pages
from support.pages.synthetic_heads import EVIL, STRATEGIES, TRAINED, document, hostile

NAMES = {
    "strategies-nats", "strategies-top1", "strategies-top5", "differences-nats",
    "differences-top5", "learning", "sweep-nats", "sweep-top1",
}  # fmt: skip


def found(study: dict[str, Any]) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in heads_drawings(study)}


def drawn(drawing: Drawing) -> Figure:
    with print_style(drawing.inks):
        return drawing.draw()


def lines(axes: Any, name: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(point) for point in line.get_xydata()]
        for line in axes.lines
        if str(line.get_gid()) == MARK + name
    ]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def two_domains() -> dict[str, Any]:
    """Return the study with a second domain, whose numbers are others."""
    study = document()
    for name in ("scores", "differences", "sweep"):
        more = copy.deepcopy(study[name])
        for row in more:
            row["domain"] = "code"
            row |= {key: 1.5 * row[key] for key in row if key.startswith(("nats", "top"))
                    and row[key] is not None}  # fmt: skip
        study[name] += more
    return study


def test_there_is_a_figure_for_strategies_their_differences_learning_and_layers() -> None:
    assert set(found(document())) == NAMES
    assert set(found(document() | {"sweep": [], "curves": []})) == {
        name for name in NAMES if name.partition("-")[0] in {"strategies", "differences"}
    }


def test_dots_and_intervals_are_the_numbers_of_their_table() -> None:
    study = two_domains()
    for name, metric in (("strategies-top5", "top5"), ("differences-nats", "nats")):
        drawing = found(study)[name]
        panels = [(offset, domain) for offset in (1, 2) for domain in ("all", "code")]
        for axes, (offset, domain) in zip(drawn(drawing).axes, panels, strict=True):
            rows: list[Any] = [
                row for row in drawing.rows if (row["offset"], row["domain"]) == (offset, domain)
            ]
            places = [STRATEGIES.index(row["strategy"]) + 1 for row in rows]
            dots = [[(row["value"], place)] for row, place in zip(rows, places, strict=True)]
            assert lines(axes, "dot") == dots
            bars = [
                [(row["low"], place), (row["high"], place)]
                for row, place in zip(rows, places, strict=True)
            ]
            assert lines(axes, "bar") == bars
            assert rows[0]["metric"] == metric
    own = next(
        row for row in study["scores"]
        if (row["strategy"], row["offset"], row["positions"]) == ("joint", 2, "marginal")
    )  # fmt: skip
    told: list[Any] = list(found(study)["strategies-top5"].rows)
    (row,) = [
        row for row in told
        if (row["strategy"], row["offset"], row["domain"]) == ("joint", 2, "all")
    ]  # fmt: skip
    assert (row["value"], row["high"], row["unit"]) == (
        100 * own["top5"], 100 * own["top5_high"], "%",
    )  # fmt: skip


def test_the_line_is_the_baseline_and_the_model_itself_is_open() -> None:
    study = document()
    dots = score_dots(study, ("all", 2), METRICS["nats"])
    assert dots.line == dots.points["finetune"][1]
    apart = difference_dots(study, ("all", 2), METRICS["top5"])
    assert (apart.line, apart.label) == (0.0, "Top-5 less the baseline's (points)")
    assert set(apart.points) == set(STRATEGIES) - {"finetune"}
    figure = drawn(found(study)["strategies-nats"])
    first: Any = figure.axes[1]
    assert lines(first, "baseline") == [[(dots.line, 0.0), (dots.line, 1.0)]]
    assert dots.probe == dots.points["linear"][1]
    assert lines(first, "probe") == [[(dots.probe, 0.0), (dots.probe, 1.0)]]
    faces = [line.get_markerfacecolor() for line in first.lines if line.get_gid() == MARK + "dot"]
    assert [face == "white" for face in faces] == [
        name in {"base", "finetune"} for name in strategies_of(study)
    ]


def test_learning_and_sweep_are_the_numbers_of_their_tables() -> None:
    every = found(document())
    learning = every["learning"]
    for axes, offset in zip(drawn(learning).axes, (1, 2), strict=True):
        for number, strategy in enumerate(TRAINED, 1):
            points = [
                (row["tokens"], row["value"]) for row in learning.rows
                if (row["strategy"], row["offset"]) == (strategy, offset)
            ]  # fmt: skip
            assert lines(axes, f"s{number}") == [points]
            assert points == [(0, 5.0), (500, 4.5), (1000, 4.0)]
        told = [row["value"] for row in learning.rows if row["strategy"] == "linear"]
        assert lines(axes, "probe") == ([[(0.0, told[0]), (1.0, told[0])]] if offset == 2 else [])
    sweep = every["sweep-nats"]
    (axes,) = drawn(sweep).axes
    for readout in ("head", "linear"):
        points = [(row["layer"], row["value"]) for row in sweep.rows if row["readout"] == readout]
        assert lines(axes, readout) == [points]
        assert [layer for layer, _ in points] == [0, 1, 2]


def test_each_figure_explains_itself() -> None:
    every = found(document())
    figure = drawn(every["strategies-nats"])
    handles: list[Any] = figure.legends[0].legend_handles
    assert [handle.get_marker() for handle in handles] == ["o", "o", "None", "None", "None"]
    said = words(figure)
    assert said[:7] == [
        "with heads", "the model itself", "the baseline", "linear probe", "95 % interval", "t+1",
        "t+2",
    ]  # fmt: skip
    rows = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert "heads-on-finetuned" in rows
    assert words(drawn(every["sweep-top1"])) == ["block head", "linear probe", "95 % interval"]
    assert words(drawn(every["learning"]))[0] == "finetuned model, marginalized (baseline)"


def test_no_word_leaves_the_figure_and_no_two_panels_touch() -> None:
    for drawing in found(two_domains()).values():
        figure = drawn(drawing)
        with print_style(drawing.inks):
            figure.draw_without_rendering()
        boxes = [legend.get_window_extent() for legend in figure.legends]
        boxes += [box for axes in figure.axes if (box := axes.get_tightbbox())]
        for box in boxes:
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1


def test_every_figure_is_there_in_every_format_with_its_numbers() -> None:
    files = shared_pages.heads_figures()
    few = {name for name in NAMES if name == "learning" or name.startswith("strategies")}
    assert set(files) == {f"{name}.{kind}" for name in few for kind in (*FORMATS, "csv")}
    rows = list(csv.DictReader(io.StringIO(files["strategies-nats.csv"].decode())))
    assert len(rows) == 2 * len(STRATEGIES) - 1  # the probe has no offset 1
    first = next(row for row in document()["scores"] if row["positions"] == "marginal")
    assert float(rows[0]["value"]) == first["nats"]


def test_names_of_the_run_are_drawn_as_they_are_and_an_absent_number_is_not_zero() -> None:
    study = hostile()
    study["scores"][-1] |= {"nats": None}
    drawing = found(study)["strategies-nats"]
    assert len(drawing.rows) == 2 * len(STRATEGIES) - 2
    figure = drawn(drawing)
    rows = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert any(EVIL[:12] in text for text in rows)
    assert "the baseline" not in words(figure)


def test_another_schema_is_refused() -> None:
    with pytest.raises(RunError, match=r"of schema 'probekit\.heads/1', got 'probekit\.heads/2'"):
        reports.figure_files(document() | {"schema": "probekit.heads/2"})
