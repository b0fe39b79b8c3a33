"""What stands first: what was found at each offset, the specialization curve, the waterfall."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from probekit.readout import MARGINAL_ADAPTED, SKIP_BIGRAM
from probekit.reports.analysis.curves import (
    SHARE,
    curve_message,
    drawn_by,
    of_probes,
    panels,
    positions_of,
)
from probekit.reports.analysis.rows import RunRows
from probekit.reports.components.axes import one_panel
from probekit.reports.components.figure import PageFigure
from probekit.reports.components.numbers import METRICS, Metric, between, fixed, known
from probekit.reports.components.rows import Row, ceiling
from probekit.reports.components.tables import Cell, Table, mark, word
from probekit.reports.components.waterfall import Step, draw_waterfall

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE, _EDGES = (4.9, 3.05), (0.115, 0.915, 0.975, 0.15)
_STEP_SIZE, _STEP_EDGES = (2.75, 1.62), (0.335, 0.965, 0.985, 0.26)


def offset_table(run: RunRows) -> Table | None:
    """Return what was found at each offset of the first domain; None without a probe."""
    rows = [row for row in run.results["offsets"] if row["offset"] in run.few_offsets]
    head = ("Ahead", "Best layer", "Read of what the model knows", "Top-1 accuracy", "Later layers")
    return Table(run.domains[0], head, [_found(row) for row in rows]) if rows else None


def _found(row: Row) -> list[Cell]:
    share, _, doubt = row["share"].partition("], ")
    share += "]" if doubt else ""
    told = f"{row['read']} of {row['known']}" if share else row["read"]
    beyond = f"beyond {row['floor']}"
    known = beyond if share else f"{beyond}; the model knows: {row['known']}"
    return [
        mark(row["offset"]),
        Cell(row["best"], row["alike"], numeric=False),
        Cell(share or told, _joined(doubt, told if share else "", known), numeric=False),
        _accuracy(row["top1"]),
        word(row["late_loss"]),
    ]


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _accuracy(top1: Row) -> Cell:
    """Return the best probe's accuracy, beside it those of floor and model."""
    shown = {name: 100 * (known(top1[name]) or 0.0) for name in ("floor", "best", "ceiling")}
    floor, best, model = (fixed(value, 1) for value in shown.values())
    ends = between(top1["best_low"], top1["best_high"], 1, 100.0)
    beside = f"{ends + '; ' if ends else ''}floor {floor}"
    beside += "" if top1["ceiling"] is None else f", model {model}"
    return Cell(f"{best} %", beside, numeric=False)


def depth_figure(run: RunRows) -> PageFigure | None:
    """Return what each layer reads of the first domain.

    It is the specialization curve, the share of what the model knows; where that is known of no
    token ahead, the bits beyond the current token. None without a probe.
    """
    if run.probe is None:
        return None
    metric, where = depth_shown(run)
    panel = of_probes(panels(run, metric, where[1])[where[0]])
    return PageFigure(
        "depth",
        curve_message(run, metric, where),
        partial(one_panel, partial(drawn_by(metric), panel=panel), _SIZE, _EDGES),
        title=f"{metric.title}, by layer",
        group=metric.name,
        domain=where[0],
    )


def depth_shown(run: RunRows) -> tuple[Metric, tuple[str, str]]:
    """Return the metric of `depth_figure`, and the domain and positions that it is of."""
    first = run.domains[0]
    known = {
        key[2]
        for key, row in run.scores.items()
        if key[3] == first and row.get(SHARE.name) is not None
    }
    metric = (
        SHARE if known and max(known) >= min(2, max(run.offsets)) else METRICS["bits_given_token"]
    )
    return metric, (first, positions_of(run, metric)[-1])


def waterfalls(run: RunRows) -> list[PageFigure]:
    """Return one waterfall an offset: floor, layer 0, best layer, last layer, ceiling, in bits."""
    if run.probe is None:
        return []
    found = {offset: _steps(run, offset) for offset in run.few_offsets}
    ahead = [step.bits for offset, steps in found.items() if offset > 1 for step in steps]
    return [
        PageFigure(
            f"w{offset}",
            _waterfall_message(offset, steps),
            partial(one_panel, _falling(offset, steps, ahead), _STEP_SIZE, _STEP_EDGES),
            offset=offset,
        )
        for offset, steps in found.items()
        if steps
    ]


def _falling(
    offset: int, steps: Sequence[Step], ahead: Sequence[float]
) -> "Callable[[Axes], None]":
    """Return what draws a waterfall: all past the next token on one scale, that on its own."""
    drawn = [step.bits for step in steps] if offset == 1 else ahead
    span = (min(0.0, *drawn), max(drawn))
    return partial(draw_waterfall, steps=steps, offset=offset, span=span)


def _steps(run: RunRows, offset: int) -> Sequence[Step]:
    """Return the steps of one offset, on all test positions."""
    domain, probe, last = run.domains[0], run.probe or "", run.n_layers
    best = run.special(offset, domain).get("best_layer")
    adapted = run.has(MARGINAL_ADAPTED) and offset > 1
    asked = {
        "skip-bigram": (SKIP_BIGRAM, None, "floor"),
        "layer 0": (probe, 0, "floor"),
        f"layer {best}, best": (probe, best, "probe"),
        f"layer {last}, last": (probe, last, "probe"),
    }
    if best == last:
        del asked[f"layer {best}, best"]
    steps = {
        name: (known(run.score(readout, layer, offset, (domain, "all")).get("bits")), kind)
        for name, (readout, layer, kind) in asked.items()
    }
    top = MARGINAL_ADAPTED if adapted else ceiling(offset)
    steps["model, adapted" if adapted else "the model"] = _known(run, top, offset), "ceiling"
    return [Step(name, bits, kind) for name, (bits, kind) in steps.items() if bits is not None]


def _known(run: RunRows, readout: str, offset: int) -> float | None:
    """Return the bits of a ceiling: the best probe's, and what it adds where both were scored."""
    domain, probe = run.domains[0], run.probe or ""
    layer = run.special(offset, domain).get("best_layer")
    everywhere = known(run.score(probe, layer, offset, (domain, "all")).get("bits"))
    for positions in reversed(run.positions()):
        where = domain, positions
        top = known(run.score(readout, None, offset, where).get("bits"))
        best = known(run.score(probe, layer, offset, where).get("bits"))
        if everywhere is not None and top is not None and best is not None:
            return everywhere + top - best
    return None


def _waterfall_message(offset: int, steps: Sequence[Step]) -> str:
    told = ", ".join(f"{step.name} {METRICS['bits'].text(step.bits)}" for step in steps)
    return f"t+{offset}, beyond the unigram: {told}."
