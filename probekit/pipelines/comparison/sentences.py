"""Differences of two runs in words: what is more, what is less, what is the same, what is unknown.

A difference is a row of `differences` of a comparison.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from probekit.pipelines.comparison.paired_differences import ComparedRun
from probekit.readout import MARGINAL, MARGINAL_ADAPTED
from probekit.scoring.rates import ROUGH_NATS

Row = Mapping[str, Any]
# Which model sees further is decided by bits, which are more sensitive than top-1 accuracy.
FURTHER = "best_probe_bits"
SAME = "the same within the arithmetic"
MILLION = 1e6
# Shares that have a sentence, told in per cent.
SHARES: Mapping[str, str] = {
    "next_token_top1": "Of next tokens {run} predicts",
    "recovered": "Of what it knows itself {run} recovers",
    "recovered_adapted": "Of what it knows itself, its output adapted, {run} recovers",
}
CEILINGS = {"recovered": MARGINAL, "recovered_adapted": MARGINAL_ADAPTED}


def is_one_model(run: ComparedRun, reference: ComparedRun) -> bool:
    """Whether two runs measured the same weights."""
    return bool(run.model["fingerprint"] == reference.model["fingerprint"])


def further(reference: ComparedRun, run: ComparedRun, rows: Sequence[Row]) -> str:
    """Say at which offsets the best probe of the larger model knows more.

    Args:
        reference: The smaller run.
        run: The larger one.
        rows: Differences of `FURTHER`, by offset.
    """
    again = is_one_model(run, reference)
    amounts: dict[str, list[str]] = {}  # by answer
    for row in rows:
        amounts.setdefault(_answer(row, again), []).append(_amount(row))
    answers = "; ".join(f"{answer} {', '.join(some)}" for answer, some in amounts.items())
    if again:
        return f"The best probe of {run.name} against that of {reference.name}: {answers}."
    if run.model["n_parameters"] > reference.model["n_parameters"]:
        question = "Does the larger model see further?"
    else:
        question = "Does one of two models of one size see further?"
    sizes = [f"{each.model['n_parameters'] / MILLION:,.1f}M" for each in (run, reference)]
    return (
        f"{question} The best probe of {run.name} ({sizes[0]} parameters) against that of "
        f"{reference.name} ({sizes[1]}): {answers}."
    )


def _answer(row: Row, again: bool) -> str:
    """Return whether the run knows more."""
    if row["same"]:
        return f"{SAME} at"
    if row["low"] <= 0 <= row["high"]:
        return "cannot tell at"
    if row["low"] > 0:
        return "more at" if again else "yes, at"
    return "less at" if again else "no, less at"


def _amount(row: Row) -> str:
    where = f"t+{row['offset']}"
    return where if row["same"] else f"{where} ({_signed(_ends(row), 'bits', 2)})"


def shares(
    run: ComparedRun, reference: ComparedRun, rows: Sequence[tuple[Sequence[float], Row]]
) -> str:
    """Return the sentence of a share that two runs differ in, at one offset or several.

    Args:
        run: The run.
        reference: What it is held against.
        rows: The share of each, and their difference, by offset.
    """
    told = []
    for (a, b), row in rows:
        where = "" if row["offset"] == 1 else f" at t+{row['offset']}"
        more = SAME if row["same"] else _more(_ends(row, 100.0), "points", 1)
        more += _estimated((run, reference), row)
        told.append(f"{100 * a:.1f} %{where}, {reference.name} {100 * b:.1f} % ({more})")
    return f"{SHARES[rows[0][1]['quantity']].format(run=run.name)} {'; '.join(told)}."


def _estimated(runs: Sequence[ComparedRun], row: Row) -> str:
    """Say that a share is an estimate, where sampling leaves a ceiling of it uncertain."""
    readout = CEILINGS.get(row["quantity"])
    place = readout, row["domain"], row["offset"]
    errors = {
        run.name: each["nats_error"] / math.log(2)
        for run in runs
        for each in run.results["marginal"]
        if (each["readout"], each["domain"], each["offset"]) == place
        and each["nats_error"] > ROUGH_NATS
    }
    if not errors:
        return ""
    worst = max(errors, key=lambda name: errors[name])
    return f"; an estimate: what {worst} knows is known to ± {errors[worst]:.2f} bits only"


def nucleus(reference: ComparedRun, run: ComparedRun, values: Sequence[float], row: Row) -> str:
    """Say whether the larger model needs fewer branches, as Mehra et al. (2025) observed."""
    kept = run.settings["nucleus"]
    ours, theirs = (f"{value:,.0f}" for value in values)
    sizes = (
        f"{run.name} keeps {ours} tokens on average in the nucleus ({kept:g} of the next token's "
        f"probability), {reference.name} {theirs}: {_more(_ends(row), 'tokens', 0)}"
    )
    if run.model["n_parameters"] == reference.model["n_parameters"]:
        return f"{sizes}."
    if row["low"] <= 0 <= row["high"]:
        return f"{sizes}: whether larger models need fewer branches cannot be told here."
    if row["value"] < 0:
        return f"{sizes}: the larger model needs fewer branches."
    return f"{sizes}: here the larger model does not need fewer branches."


def bytes_needed(reference: Row, runs: Sequence[tuple[Row, Row]]) -> str:
    """Say how many bits per byte the next token costs each run, against the first.

    Args:
        reference: Headline of the first run.
        runs: Headline of each other run, and its difference to the first.
    """
    others = "; ".join(
        f"{headline['run']} {headline['value']:.2f}, "
        f"{SAME if row['same'] else _more(_ends(row), '', 2)}"
        for headline, row in runs
    )
    return (
        f"Bits per byte that the next token costs: {reference['run']} {reference['value']:.2f}; "
        f"{others}."
    )


def _ends(row: Row, scale: float = 1.0) -> list[float]:
    return [scale * row[end] for end in ("value", "low", "high")]


def _more(numbers: Sequence[float], unit: str, digits: int) -> str:
    """Return a difference and its interval in words.

    >>> _more([-3.0, -4.5, -1.5], "points", 1)
    '3.0 points fewer [1.5, 4.5]'
    >>> _more([1.0, -0.5, 2.5], "points", 1)
    'cannot tell, the difference is +1.0 points [-0.5, +2.5]'
    """
    value, low, high = numbers
    if low <= 0 <= high:
        return f"cannot tell, the difference is {_signed(numbers, unit, digits)}"
    digits = _digits(numbers, digits)
    word = "more" if value > 0 else "fewer"
    ends = ", ".join(f"{end:,.{digits}f}" for end in sorted((abs(low), abs(high))))
    return " ".join(f"{abs(value):,.{digits}f} {unit} {word} [{ends}]".split())


def _signed(numbers: Sequence[float], unit: str, digits: int) -> str:
    """Return a difference with its interval and signs.

    >>> _signed([0.004, -0.004, 0.012], "bits", 2)
    '+0.004 bits [-0.004, +0.012]'
    """
    digits = _digits(numbers, digits)
    value, low, high = (f"{number:+,.{digits}f}" for number in numbers)
    return " ".join(f"{value} {unit} [{low}, {high}]".split())


def _digits(numbers: Sequence[float], least: int) -> int:
    """Return after how many digits the ends of an interval are told apart: two more at most."""
    width = numbers[2] - numbers[1]
    needed = 1 - math.floor(math.log10(width)) if width > 0 else least
    return min(max(least, needed), least + 2)
