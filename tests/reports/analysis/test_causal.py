"""The report's causal check: shown where it was made, a figure where several layers were."""

from typing import Any

import pytest

from probekit.reports import render
from probekit.reports.analysis.contrasts import causal_figure, causal_table
from probekit.reports.analysis.rows import index
from support.pages.synthetic_run import Size, results


def checked(layers: tuple[int, ...], best: int, used: int) -> dict[str, Any]:
    """Return a run whose check found t+2 used at one layer alone."""
    run = results(Size(layers=3, offsets=2, domains=("prose",)))
    names = ("nats", "random_nats", "alike_nats", "other_nats", "beyond_nats")
    spans = {f"{name}{end}": 0.25 for name in names for end in ("", "_low", "_high")}
    run["causal"] = [
        {
            "layer": layer, "offset": 2, "scored_offset": scored, "domain": "prose", "rank": 4,
            "variance_share": 0.1, "probe_nats": 0.5, "n_positions": 9, "n_documents": 9,
            "margin_nats": 0.01, "best": layer == best,
            "verdict": "used" if (layer, scored) == (used, 2) else "not used",
        } | spans
        for layer in layers
        for scored in (1, 2)
    ]  # fmt: skip
    return run


@pytest.mark.usefixtures("undrawn")
def test_the_best_layer_alone_is_a_table() -> None:
    run = checked((1,), best=1, used=1)
    table, few = causal_table(index(run))
    assert not few
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["t+2", "prose", "1", "4", "t+1, now", "0.721", *["0.250"] * 5, "not used"],
        ["t+2", "prose", "1", "4", "t+2, in its turn", "0.721", *["0.250"] * 5, "used"],
    ]
    assert causal_figure(index(run)) is None
    page = render(run)
    assert '<section id="causal"' in page
    assert "Whether the model uses" not in page


def test_several_layers_are_a_figure_whose_axis_is_named() -> None:
    figure = causal_figure(index(checked((0, 1, 2), best=2, used=1)))
    assert figure is not None
    assert figure.message == "Used: t+2 at layer 1."
    assert figure.svg.count("probe") == 1
    assert "Beyond random (nats)" in figure.svg


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        (("used", "not used", "used"), "Used: t+2 at layers 0, 2."),
        (
            ("used", "cannot tell"),
            "Used: t+2 at layer 0. Cannot tell at 1 of 2 layers and offsets.",
        ),
        (
            ("not used", "cannot tell"),
            "Found used at no layer. Cannot tell at 1 of 2 layers and offsets.",
        ),
        (("not used", "nothing of its own"), "Found used at no layer."),
        (
            ("cannot tell", "nothing of its own"),
            "Cannot tell at any layer: the intervals are too wide.",
        ),
        (
            ("nothing of its own",) * 2,
            "No layer reads anything of a later token that it does not read of t+1.",
        ),
    ],
)
def test_its_caption_says_where_it_is_used_and_what_cannot_be_told(
    verdicts: tuple[str, ...], message: str
) -> None:
    run = checked(tuple(range(len(verdicts))), best=9, used=9)
    for row in run["causal"]:
        row["verdict"] = verdicts[row["layer"]]
    figure = causal_figure(index(run))
    assert figure is not None
    assert figure.message == message


def test_without_intervals_it_is_drawn_and_nothing_can_be_told() -> None:
    run = checked((0, 1), best=9, used=9)
    for row in run["causal"]:
        row |= {"beyond_nats_low": None, "beyond_nats_high": None, "verdict": "cannot tell"}
    figure = causal_figure(index(run))
    assert figure is not None
    assert figure.message == "Cannot tell at any layer: documents are too few for an interval."
    assert "Layer" in figure.svg


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_it_says_how_to_ask_for_it() -> None:
    run = results(Size(layers=3, offsets=2, domains=("prose",)))
    page = render(run)
    assert 'id="causal"' not in page
    assert "Whether the model uses what is read of later tokens (--causal best)." in page
