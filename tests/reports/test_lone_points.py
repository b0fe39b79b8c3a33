"""A point without a neighbour is seen: of a model of two blocks, or a run of one layer."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from matplotlib.figure import Figure

from probekit.reports.comparison.drawing import DepthPanel, Line, depth_lines
from probekit.reports.components.axes import mark_alone, one_panel
from probekit.reports.components.line_figures import Curve, LayerPanel, draw_curves, draw_depths
from probekit.reports.reproduction.figures import depth_figure
from support.pages import synthetic_reproduction

ONE = [1.0], [0.5], [0.4], [0.6]
LENS = Curve("lens", 2, [6], *ONE[1:])
PROBE = Curve("probe", 2, [6], *ONE[1:])
TWO_BLOCKS = [row for row in synthetic_reproduction.figure_2()["rows"] if row["last"]]
FIGURES: Mapping[str, Any] = {
    "figure 2 of the paper": lambda: depth_figure(TWO_BLOCKS),
    "divergence": lambda: one_panel(lambda axes: draw_depths(axes, [1.0], [[0.5]])),
    "layers": lambda: one_panel(
        lambda axes: draw_curves(axes, LayerPanel("Bits", [LENS, PROBE], [], (0.0, 1.0)))
    ),
    "depth of compare": lambda: depth_lines(
        DepthPanel("Bits", [Line(0, "a", *ONE, math.nan)], (0.0, 1.0), banded=True)
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_only_point_of_a_line_is_marked(name: str) -> None:
    figure: Figure = FIGURES[name]()
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() != "None"]
    alone = [line for line in lines if len(line.get_xdata()) == 1]  # type: ignore[arg-type]
    assert alone
    assert {line.get_marker() for line in alone} == {"o"}


def test_a_point_beside_another_is_not_marked() -> None:
    nan = math.nan
    figure = Figure()
    (line,) = figure.subplots().plot([0, 1, 2, 3, 4, 5], [1.0, nan, 1.0, 1.0, nan, 1.0])
    mark_alone(line)
    assert line.get_markevery() == [0, 5]
    (whole,) = figure.axes[0].plot([0, 1], [1.0, 1.0])
    mark_alone(whole)
    assert whole.get_marker() == "None"
