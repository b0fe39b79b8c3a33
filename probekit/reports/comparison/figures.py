"""From the rows of a comparison to its figures, and what each of them says in words."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from probekit.reports.comparison.drawing import SizePanel, Trace, short_count, size_figure
from probekit.reports.comparison.quantities import Quantity, quantity
from probekit.reports.comparison.rows import ComparisonRows
from probekit.reports.components.axes import span_of
from probekit.reports.components.figure import PageFigure

NAMED = 8  # runs; more go by their number
_LONGEST = 16  # letters of a name in a figure
_UNFIT = re.compile(r"[^ -~]")


@dataclass(frozen=True)
class Group:
    """What one choice of the switch shows.

    Attributes:
        name: Value of the switch.
        title: Words of the switch.
        by_domain: Quantities drawn with one line a domain: they have no offset.
        by_offset: (quantity, its ceiling or "") drawn with one line an offset, a panel a domain.
        says: What to see in it.
    """

    name: str
    title: str
    by_domain: Sequence[str]
    by_offset: Sequence[tuple[str, str]]
    says: str


GROUPS = (
    Group(
        "top1", "Top-1", (), (("best_probe_top1", "ceiling_top1"),),
        "Filled: the best probe at each offset. Open: the ceiling, what the model itself knows.",
    ),
    Group(
        "bits", "Bits", (), (("best_probe_bits", "ceiling_bits"),),
        "Filled: the best probe at each offset, in bits over the unigram. Open: the ceiling.",
    ),
    Group(
        "bpb", "Bits per byte", (), (("best_probe_bpb", "ceiling_bpb"),),
        "Cross-entropy of the next token by the best probe in bits per byte of text, in which runs "
        "of different tokenizers may be compared. Lower is better.",
    ),
    Group(
        "recovered", "Recovered", (), (("recovered", ""),),
        "The share of what the model knows beyond the current token that the best probe reads out.",
    ),
    Group(
        "forgotten", "Late loss", (), (("forgotten_bits", ""),),
        "How much better, in bits, the best layer is than the last one.",
    ),
    Group(
        "depth", "Best depth", (), (("best_depth", ""),),
        "Layer of the best probe over the number of blocks; chosen on validation text, so "
        "without an interval.",
    ),
    Group(
        "next", "Next token",
        ("next_token_nats", "next_token_bpb", "next_token_top1", "next_token_entropy"), (),
        "What the model itself says about the next token.",
    ),
    Group(
        "cost", "Cost", ("nucleus_tokens",), (("branches_mean", ""), ("retained_mass", "")),
        "Tokens in the nucleus: how many branches marginalizing t+2 would cost without a cap. "
        "Branches and retained mass: what was spent, and how much of the probability it covers.",
    ),
)  # fmt: skip


def size_groups(comparison: ComparisonRows) -> list[Group]:
    """Return the groups that have something to show, in the runs' common unit alone."""
    there = {name for name in comparison.quantities() if _comparable(comparison, name)}
    kept = []
    for group in GROUPS:
        names = {*group.by_domain, *(name for name, _ in group.by_offset)} & there
        if names:
            by_domain = tuple(name for name in group.by_domain if name in names)
            by_offset = tuple(pair for pair in group.by_offset if pair[0] in names)
            kept.append(Group(group.name, group.title, by_domain, by_offset, group.says))
    return kept


def _comparable(comparison: ComparisonRows, name: str) -> bool:
    """Return whether a quantity is drawn: one loss, nats or bits per byte, and not both."""
    return comparison.mixed == name.endswith("_bpb")


def size_figures(comparison: ComparisonRows) -> list[PageFigure]:
    """Return the figures against parameters; none where no run's parameters are known."""
    if not sized(comparison):
        return []
    figures: list[PageFigure] = []
    for group in size_groups(comparison):
        for name in group.by_domain:
            figures += _by_domain(comparison, group, quantity(name))
        for name, ceiling in group.by_offset:
            figures += _by_offset(comparison, group, (name, ceiling))
    return figures


def labels(comparison: ComparisonRows) -> list[str]:
    """Return what runs are called in figures: by name where few and short, else by number.

    Of long names the beginning that they share is left out. A figure holds printable ASCII alone,
    which every font has and nothing reorders.
    """
    names = list(comparison.runs)
    if any(len(name) > _LONGEST for name in names):
        names = without_prefix(names)
    fit = [name for name in names if not _UNFIT.search(name) and len(name) <= _LONGEST]
    if len(names) <= NAMED and len(fit) == len(names):
        return names
    return [str(number) for number, _ in enumerate(names, 1)]


def without_prefix(names: Sequence[str]) -> list[str]:
    """Return names without the whole words that all begin with.

    >>> without_prefix(["pythia-160m-step-1000", "pythia-160m-step-2000"])
    ['1000', '2000']
    >>> without_prefix(["one", "other"])
    ['one', 'other']
    """
    # In the order of the alphabet the first and the last share what all do.
    first, last = min(names), max(names)
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    cut = 1 + max(first.rfind(mark, 0, shared) for mark in "-_/ ")
    return [name[cut:] for name in names] if all(len(name) > cut for name in names) else [*names]


def ladders(comparison: ComparisonRows) -> list[list[int]]:
    """Return runs of one architecture and tokenizer, if no two of them are of one size."""
    families: dict[str, list[int]] = {}
    for number, run in enumerate(sized(comparison)):
        model = comparison.model(run)
        kind = [model.get(name) for name in ("architecture", "vocab_size", "tokenizer")]
        families.setdefault(repr(kind), []).append(number)
    sizes = [comparison.size(run) for run in sized(comparison)]
    return [
        family
        for family in families.values()
        if len(family) > 1 and len({sizes[run] for run in family}) == len(family)
    ]


def sized(comparison: ComparisonRows) -> list[str]:
    """Return the runs whose number of parameters is known, in their order."""
    return [run for run in comparison.runs if comparison.size(run)]


def domain_panel(comparison: ComparisonRows, shown: Quantity) -> SizePanel | None:
    """Return a quantity without offsets, a series a domain; None where it was not measured."""
    traces = [
        _trace(comparison, shown, (domain, 1), (0, "plain", number))
        for number, domain in enumerate(comparison.domains)
    ]
    traces = [trace for trace in traces if trace.points]
    return _panel(comparison, shown, traces, _span(traces)) if traces else None


def offset_panels(comparison: ComparisonRows, names: tuple[str, str]) -> dict[str, SizePanel]:
    """Return a quantity and its ceiling (or "") by domain, a series an offset and kind."""
    panels = {domain: _offset_traces(comparison, names, domain) for domain in comparison.domains}
    panels = {domain: traces for domain, traces in panels.items() if traces}
    span = _span([trace for traces in panels.values() for trace in traces])  # one for all domains
    shown = quantity(names[0])
    return {domain: _panel(comparison, shown, traces, span) for domain, traces in panels.items()}


def _panel(
    comparison: ComparisonRows, shown: Quantity, traces: Sequence[Trace], span: tuple[float, float]
) -> SizePanel:
    names = dict(zip(comparison.runs, labels(comparison), strict=True))
    runs = sized(comparison)
    sizes = [comparison.size(run) or 0.0 for run in runs]
    return SizePanel(
        shown.label, sizes, [names[run] for run in runs], traces, ladders(comparison), span
    )


def _by_domain(comparison: ComparisonRows, group: Group, shown: Quantity) -> list[PageFigure]:
    panel = domain_panel(comparison, shown)
    if panel is None:
        return []
    parts = (
        f"{comparison.domains[trace.style]}: {_message(comparison, shown, trace)}"
        for trace in panel.traces
    )
    message = f"{shown.label} by parameters. {' '.join(parts)}"
    return [
        PageFigure(
            shown.name.replace("_", "-"),
            message,
            partial(size_figure, panel),
            title=shown.label,
            group=group.name,
        )
    ]


def _by_offset(
    comparison: ComparisonRows, group: Group, names: tuple[str, str]
) -> list[PageFigure]:
    shown = quantity(names[0])
    return [
        PageFigure(
            f"{shown.name.replace('_', '-')}-{comparison.domains.index(domain)}",
            _offsets_message(comparison, names, domain, panel.traces),
            partial(size_figure, panel),
            title=shown.label,
            group=group.name,
            domain=domain,
        )
        for domain, panel in offset_panels(comparison, names).items()
    ]


def _offset_traces(comparison: ComparisonRows, names: tuple[str, str], domain: str) -> list[Trace]:
    kinds = [(name, kind) for name, kind in zip(names, ("probe", "ceiling"), strict=True) if name]
    traces = [
        _trace(comparison, quantity(name), (domain, offset), (offset, kind, 0))
        for offset in comparison.offsets
        for name, kind in kinds
    ]
    return [trace for trace in traces if trace.points]


def _trace(
    comparison: ComparisonRows, shown: Quantity, where: tuple[str, int], how: tuple[int, str, int]
) -> Trace:
    points = []
    for number, run in enumerate(sized(comparison)):
        row = comparison.headline((run, *where), shown.name)
        value, low, high = (shown.shown(row, end) for end in ("value", "low", "high"))
        if not math.isnan(value):
            points.append((number, value, low, high))
    return Trace(*how, points)


def _offsets_message(
    comparison: ComparisonRows, names: tuple[str, str], domain: str, traces: Sequence[Trace]
) -> str:
    parts = []
    for trace in traces:
        shown = quantity(names[1] if trace.kind == "ceiling" else names[0])
        what = ", ceiling" if trace.kind == "ceiling" else ""
        parts.append(f"t+{trace.ink}{what}: {_message(comparison, shown, trace)}")
    return f"{domain}: {quantity(names[0]).label} by parameters. {' '.join(parts)}"


def _message(comparison: ComparisonRows, shown: Quantity, trace: Trace) -> str:
    """Say from where to where a series goes, and where between it is farthest out."""
    runs = sized(comparison)

    def text(point: tuple[int, float, float, float]) -> str:
        size = short_count(comparison.size(runs[point[0]]) or 0.0)
        return f"{shown.text(point[1] / shown.scale)} for {runs[point[0]]} ({size})"

    first, last = trace.points[0], trace.points[-1]
    if len(trace.points) == 1:
        return f"{text(first)}."
    path = f"from {text(first)} to {text(last)}"
    most = max(trace.points, key=lambda point: point[1])
    least = min(trace.points, key=lambda point: point[1])
    between = [
        f"{word} {text(point)}"
        for word, point in (("highest", most), ("lowest", least))
        if point[1] not in {first[1], last[1]}
    ]
    return "; ".join([path, *between]) + "."


def _span(traces: Sequence[Trace]) -> tuple[float, float]:
    values = (value for trace in traces for point in trace.points for value in point[1:])
    return span_of(values, room=0.06, alone=0.05)
