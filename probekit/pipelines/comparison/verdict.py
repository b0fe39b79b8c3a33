"""The verdict of a comparison, in sentences: whether a larger model sees further.

A ladder is the runs with one architecture and one tokenizer. In each ladder the largest model is
compared with the smallest; where no two runs are of one ladder, the largest run with the
smallest of all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from probekit.pipelines.comparison.learning import not_compared, rivalled
from probekit.pipelines.comparison.paired_differences import ComparedRun

Row = Mapping[str, Any]
# Which model sees further is decided by bits, which are more sensitive than top-1 accuracy.
FURTHER = ("best_probe_bits", "best_probe_bpb")
NOT_COMPARED = "No difference between these runs is given: they have no text and targets in common."
MILLION = 1e6


def verdict(
    runs: Sequence[ComparedRun], headlines: Sequence[Row], differences: Sequence[Row]
) -> list[str]:
    """Return the sentences that follow from the numbers of a comparison.

    Args:
        runs: The runs, smallest model first.
        headlines: Headline numbers of each run.
        differences: Differences with intervals.
    """
    sentences = []
    for reference, run in _ends(runs):
        every = _between(reference, run, differences)
        rows = [row for row in every if row["low"] is not None]
        if every and not rows:
            both = (each.paired_rates[every[0]["domain"]].test for each in (run, reference))
            shortage = next(test.shortage for test in both if test.shortage)
            sentences.append(f"Cannot tell {run.name} from {reference.name}: {shortage}.")
            continue
        moved = [row for row in rows if rivalled(row, (run.results, reference.results))]
        rows = [row for row in rows if row not in moved]
        values = {
            (row["run"], row["offset"], row["quantity"]): row["value"]
            for row in headlines
            if rows and row["domain"] == rows[0]["domain"]
        }
        sentences += _sentences(reference, run, rows, values) + not_compared(moved)
    return sentences or [NOT_COMPARED]


def _ends(runs: Sequence[ComparedRun]) -> list[tuple[ComparedRun, ComparedRun]]:
    """Return smallest and largest of each ladder; of all runs, where there is no ladder."""
    ladders: dict[tuple[str, str], list[ComparedRun]] = {}
    for run in runs:
        kind = run.model["architecture"], run.model["tokenizer"]
        ladders.setdefault(kind, []).append(run)
    ends = [(ladder[0], ladder[-1]) for ladder in ladders.values() if len(ladder) > 1]
    return ends or [(runs[0], runs[-1])]


def _between(reference: ComparedRun, run: ComparedRun, differences: Sequence[Row]) -> list[Row]:
    """Return the differences of two runs on the first domain that has any."""
    rows = [
        row for row in differences if (row["run"], row["reference"]) == (run.name, reference.name)
    ]
    return [row for row in rows if row["domain"] == rows[0]["domain"]]


def _sentences(
    reference: ComparedRun,
    run: ComparedRun,
    rows: Sequence[Row],
    values: Mapping[tuple[str, int, str], float],
) -> list[str]:
    differences = {(row["offset"], row["quantity"]): row for row in rows}
    offsets = sorted({row["offset"] for row in rows})
    names = run.name, reference.name
    ahead = [row for row in rows if row["offset"] > 1 and row["quantity"] in FURTHER]
    sentences = [_further(reference, run, differences, offsets)] if ahead else []
    for (offset, quantity), row in differences.items():
        # The share recovered of the adapted ceiling replaces that of the plain one.
        replaced = quantity == "recovered" and (offset, "recovered_adapted") in differences
        if quantity in SENTENCES and not replaced:
            pair = tuple(values[name, offset, quantity] for name in names)
            sentences.append(_sentence(names, pair, row))
    nucleus = differences.get((1, "nucleus_tokens"))
    if nucleus is not None:
        pair = tuple(values[name, 1, "nucleus_tokens"] for name in names)
        sentences.append(_nucleus(reference, run, pair, nucleus))
    return sentences


def _further(
    reference: ComparedRun,
    run: ComparedRun,
    differences: Mapping[tuple[int, str], Row],
    offsets: Sequence[int],
) -> str:
    """Say at which offsets the best probe of the larger model knows more."""
    amounts: dict[str, list[str]] = {}  # by answer
    for offset in offsets:
        rows = [differences[offset, name] for name in FURTHER if (offset, name) in differences]
        if offset > 1 and rows:
            amounts.setdefault(_answer(rows[0]), []).append(_amount(rows[0]))
    answers = "; ".join(f"{answer} {', '.join(some)}" for answer, some in amounts.items())
    if run.model["n_parameters"] > reference.model["n_parameters"]:
        question = "Does the larger model see further?"
    else:
        question = "Does one of two models of one size see further?"
    sizes = [f"{each.model['n_parameters'] / MILLION:,.1f}M" for each in (run, reference)]
    return (
        f"{question} The best probe of {run.name} ({sizes[0]} parameters) against that of "
        f"{reference.name} ({sizes[1]}): {answers}."
    )


def _answer(row: Row) -> str:
    """Return whether the run knows more; fewer bits per byte are better."""
    if row["low"] <= 0 <= row["high"]:
        return "cannot tell at"
    return "yes, at" if (row["low"] > 0) == (row["quantity"] != "best_probe_bpb") else "no, less at"


def _amount(row: Row) -> str:
    unit = "bits per byte" if row["quantity"] == "best_probe_bpb" else "bits"
    return f"t+{row['offset']} ({row['value']:+.2f} {unit} [{row['low']:+.2f}, {row['high']:+.2f}])"


# Quantities with a sentence of their own; their values are shares, shown in per cent.
SENTENCES: Mapping[str, str] = {
    "next_token_top1": "{run} predicts {a} % of next tokens, {reference} {b} %",
    "recovered": "{run} recovers {a} % of what it knows itself, {reference} {b} %",
    "recovered_adapted": "{run} recovers {a} % of what it knows itself with its output adapted, "
    "{reference} {b} %",
}


def _sentence(names: tuple[str, str], values: tuple[float, ...], row: Row) -> str:
    run, reference = names
    a, b = (f"{100 * value:.1f}" for value in values)
    shares = SENTENCES[row["quantity"]].format(run=run, reference=reference, a=a, b=b)
    points = [100 * row[end] for end in ("value", "low", "high")]
    where = "" if row["offset"] == 1 else f"t+{row['offset']}: "
    return f"{where}{shares}: {_more(points, 'points', 1)}."


def _more(numbers: Sequence[float], unit: str, digits: int) -> str:
    """Return a difference and its interval in words.

    >>> _more([-3.0, -4.5, -1.5], "points", 1)
    '3.0 points fewer [1.5, 4.5]'
    >>> _more([1.0, -0.5, 2.5], "points", 1)
    'cannot tell, the difference is +1.0 points [-0.5, +2.5]'
    """
    value, low, high = numbers
    if low <= 0 <= high:
        ends = f"[{low:+,.{digits}f}, {high:+,.{digits}f}]"
        return f"cannot tell, the difference is {value:+,.{digits}f} {unit} {ends}"
    word = "more" if value > 0 else "fewer"
    ends = ", ".join(f"{end:,.{digits}f}" for end in sorted((abs(low), abs(high))))
    return f"{abs(value):,.{digits}f} {unit} {word} [{ends}]"


def _nucleus(reference: ComparedRun, run: ComparedRun, values: tuple[float, ...], row: Row) -> str:
    """Say whether the larger model needs fewer branches, as Mehra et al. (2025) observed."""
    share = run.settings["nucleus"]
    ours, theirs = (f"{value:,.0f}" for value in values)
    sizes = (
        f"{run.name} keeps {ours} tokens on average in the nucleus ({share:g} of the next token's "
        f"probability), {reference.name} {theirs}: "
        + _more([row[end] for end in ("value", "low", "high")], "tokens", 0)
    )
    if run.model["n_parameters"] == reference.model["n_parameters"]:
        return f"{sizes}."
    if row["low"] <= 0 <= row["high"]:
        return f"{sizes}: whether larger models need fewer branches cannot be told here."
    if row["value"] < 0:
        return f"{sizes}: the larger model needs fewer branches."
    return f"{sizes}: here the larger model does not need fewer branches."
