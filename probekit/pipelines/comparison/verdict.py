"""What a comparison says in sentences: whether a larger model sees further.

Within one ladder (one architecture, one tokenizer) the largest model is set against the
smallest. Where no two runs are of one ladder, the largest run against the smallest there is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from probekit.pipelines.comparison.paired_differences import Side

Row = Mapping[str, Any]
# Offsets are asked "does it see further?" by bits, which know more than hits do.
FURTHER = ("best_probe_bits", "best_probe_bpb")
NOT_COMPARED = "No difference between these runs is given: they have no text and targets in common."
MILLION = 1e6


def verdict(
    sides: Sequence[Side], headlines: Sequence[Row], differences: Sequence[Row]
) -> list[str]:
    """Return sentences that follow from the numbers of a comparison.

    Args:
        sides: The runs, smallest model first.
        headlines: Numbers of each run.
        differences: Differences with intervals.
    """
    sentences = []
    for reference, side in _asked(sides):
        rows = _between(reference, side, differences)
        values = {
            (row["run"], row["offset"], row["quantity"]): row["value"]
            for row in headlines
            if rows and row["domain"] == rows[0]["domain"]
        }
        sentences += _sentences(reference, side, rows, values)
    return sentences or [NOT_COMPARED]


def _asked(sides: Sequence[Side]) -> list[tuple[Side, Side]]:
    """Return smallest and largest of each ladder; of all runs, where there is no ladder."""
    ladders: dict[tuple[str, str], list[Side]] = {}
    for side in sides:
        kind = side.model["architecture"], side.model["tokenizer"]
        ladders.setdefault(kind, []).append(side)
    ends = [(ladder[0], ladder[-1]) for ladder in ladders.values() if len(ladder) > 1]
    return ends or [(sides[0], sides[-1])]


def _between(reference: Side, side: Side, differences: Sequence[Row]) -> list[Row]:
    """Return the differences of two runs on the first domain that has any."""
    ours = [
        row for row in differences if (row["run"], row["reference"]) == (side.name, reference.name)
    ]
    return [row for row in ours if row["domain"] == ours[0]["domain"]]


def _sentences(
    reference: Side,
    side: Side,
    rows: Sequence[Row],
    values: Mapping[tuple[str, int, str], float],
) -> list[str]:
    found = {(row["offset"], row["quantity"]): row for row in rows}
    offsets = sorted({row["offset"] for row in rows})
    names = side.name, reference.name
    sentences = [_further(reference, side, found, offsets)] if offsets[1:] else []
    for (offset, quantity), row in found.items():
        if quantity in SENTENCES and not _is_told_adapted(found, offset, quantity):
            told = tuple(values[name, offset, quantity] for name in names)
            sentences.append(_sentence(names, told, row))
    nucleus = found.get((1, "nucleus_tokens"))
    if nucleus is not None:
        told = tuple(values[name, 1, "nucleus_tokens"] for name in names)
        sentences.append(_nucleus(reference, side, told, nucleus))
    return sentences


def _is_told_adapted(found: Mapping[tuple[int, str], Row], offset: int, quantity: str) -> bool:
    """Whether what is recovered of the adapted ceiling is told in its place."""
    return quantity == "recovered" and (offset, "recovered_adapted") in found


def _further(
    reference: Side, side: Side, found: Mapping[tuple[int, str], Row], offsets: Sequence[int]
) -> str:
    """Say at which offsets the best probe of the larger model knows more."""
    told: dict[str, list[str]] = {}
    for offset in offsets:
        rows = [found[offset, name] for name in FURTHER if (offset, name) in found]
        if offset > 1 and rows:
            told.setdefault(_answer(rows[0]), []).append(_amount(rows[0]))
    answers = "; ".join(f"{answer} {', '.join(amounts)}" for answer, amounts in told.items())
    if side.model["n_parameters"] > reference.model["n_parameters"]:
        question = "Does the larger model see further?"
    else:
        question = "Does one of two models of one size see further?"
    sizes = [f"{each.model['n_parameters'] / MILLION:,.1f}M" for each in (side, reference)]
    return (
        f"{question} The best probe of {side.name} ({sizes[0]} parameters) against that of "
        f"{reference.name} ({sizes[1]}): {answers}."
    )


def _answer(row: Row) -> str:
    """Return whether the side knows more; of bits per byte fewer is more."""
    if row["low"] <= 0 <= row["high"]:
        return "cannot tell at"
    return "yes, at" if (row["low"] > 0) == (row["quantity"] != "best_probe_bpb") else "no, less at"


def _amount(row: Row) -> str:
    unit = "bits per byte" if row["quantity"] == "best_probe_bpb" else "bits"
    return f"t+{row['offset']} ({row['value']:+.2f} {unit} [{row['low']:+.2f}, {row['high']:+.2f}])"


# Quantities that are told one by one: what the model does, and of what. Shares, in per cent.
SENTENCES: Mapping[str, str] = {
    "next_token_top1": "{run} predicts {a} % of next tokens, {reference} {b} %",
    "recovered": "{run} recovers {a} % of what it knows itself, {reference} {b} %",
    "recovered_adapted": "{run} recovers {a} % of what it knows itself with its output adapted, "
    "{reference} {b} %",
}


def _sentence(names: tuple[str, str], values: tuple[float, ...], row: Row) -> str:
    run, reference = names
    a, b = (f"{100 * value:.1f}" for value in values)
    told = SENTENCES[row["quantity"]].format(run=run, reference=reference, a=a, b=b)
    points = [100 * row[end] for end in ("value", "low", "high")]
    where = "" if row["offset"] == 1 else f"t+{row['offset']}: "
    return f"{where}{told}: {_more(points, 'points', 1)}."


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


def _nucleus(reference: Side, side: Side, values: tuple[float, ...], row: Row) -> str:
    """Say whether the larger model needs fewer branches, as Mehra et al. (2025) observed."""
    share = side.settings["nucleus"]
    ours, theirs = (f"{value:,.0f}" for value in values)
    told = (
        f"{side.name} keeps {ours} tokens on average in the nucleus ({share:g} of the next token's "
        f"probability), {reference.name} {theirs}: "
        + _more([row[end] for end in ("value", "low", "high")], "tokens", 0)
    )
    if side.model["n_parameters"] == reference.model["n_parameters"]:
        return f"{told}."
    if row["low"] <= 0 <= row["high"]:
        return f"{told}: whether larger models need fewer branches cannot be told here."
    if row["value"] < 0:
        return f"{told}: the larger model needs fewer branches."
    return f"{told}: here the larger model does not need fewer branches."
