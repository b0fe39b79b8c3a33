"""The verdict of a comparison, in sentences: whether a larger model sees further.

A ladder is the runs with one architecture and one tokenizer. In each ladder the largest model is
compared with the smallest; where no two runs are of one ladder, the largest run with the
smallest of all. Runs of other tokenizers are held against the first in bits per byte of the next
token, and in nothing else.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probekit.pipelines.comparison.configuration import configuration
from probekit.pipelines.comparison.learning import not_compared, rivalled
from probekit.pipelines.comparison.paired_differences import ComparedRun
from probekit.pipelines.comparison.sentences import (
    FURTHER,
    SAME,
    SHARES,
    bytes_needed,
    further,
    nucleus,
    shares,
)

Row = Mapping[str, Any]
IN_COMMON = "next_token_bpb"
NOT_COMPARED = "No difference between these runs is given: they have no text and targets in common."
OTHER_TOKENS = (
    "How far ahead they see is not compared: with other tokenizers t+2 is another distance in the "
    "text, and accuracies and costs count other tokens. Compare runs of one tokenizer for that."
)
MOST_SETTINGS = 4  # that a sentence lists


def verdict(
    runs: Sequence[ComparedRun], headlines: Sequence[Row], differences: Sequence[Row]
) -> list[str]:
    """Return the sentences that follow from the numbers of a comparison.

    Args:
        runs: The runs, smallest model first.
        headlines: Headline numbers of each run.
        differences: Differences with intervals.
    """
    compared = [
        sentence
        for reference, run in _ends(runs)
        for sentence in _pair(reference, run, headlines, differences)
    ]
    compared += _other_tokens(runs, headlines, differences)
    return [*_measured_again(runs), *(compared or [NOT_COMPARED])]


def _ends(runs: Sequence[ComparedRun]) -> list[tuple[ComparedRun, ComparedRun]]:
    """Return smallest and largest of each ladder; of all runs, where there is no ladder."""
    ladders: dict[tuple[str, str], list[ComparedRun]] = {}
    for run in runs:
        kind = run.model["architecture"], run.model["tokenizer"]
        ladders.setdefault(kind, []).append(run)
    ends = [(ladder[0], ladder[-1]) for ladder in ladders.values() if len(ladder) > 1]
    one_tokenizer = len({tokenizer for _, tokenizer in ladders}) == 1
    return ends or ([(runs[0], runs[-1])] if one_tokenizer else [])


def _measured_again(runs: Sequence[ComparedRun]) -> Iterator[str]:
    """Say which runs are of one model, and what differs between them."""
    models: dict[str, list[ComparedRun]] = {}
    for run in runs:
        models.setdefault(run.model["fingerprint"], []).append(run)
    for same in (same for same in models.values() if len(same) > 1):
        names = [run.name for run in same]
        rows = configuration(same)
        told = [
            f"{row['key'].removeprefix('settings.')} "
            f"({'; '.join(row['values'][name][:24] for name in names)})"
            for row in rows[:MOST_SETTINGS]
        ]
        told += [f"{len(rows) - MOST_SETTINGS} more"] if len(rows) > MOST_SETTINGS else []
        differ = f"what differs is {', '.join(told)}" if told else "no recorded setting differs"
        yield f"{', '.join(names[:-1])} and {names[-1]} are one model, measured again: {differ}."


def _pair(
    reference: ComparedRun,
    run: ComparedRun,
    headlines: Sequence[Row],
    differences: Sequence[Row],
) -> list[str]:
    """Return the sentences on two runs."""
    every = _between(reference, run, differences)
    rows = [row for row in every if row["low"] is not None]
    if every and not rows:
        return [_shortage(reference, run, every[0]["domain"])]
    # Of the nucleus there are no sums by document from which to tell that it is the same.
    told = [row for row in rows if row["quantity"] != "nucleus_tokens"]
    if told and all(row["same"] for row in told):
        return [
            f"{run.name} and {reference.name} are {SAME}: no number of theirs differs by a "
            "hundredth of its own interval."
        ]
    both = run.results, reference.results
    moved = [row for row in rows if not row["same"] and rivalled(row, both)]
    rows = [row for row in rows if row not in moved]
    values = {
        (row["run"], row["offset"], row["quantity"]): row["value"]
        for row in headlines
        if rows and row["domain"] == rows[0]["domain"]
    }
    said, unsaid = _sentences(reference, run, rows, values), not_compared(moved)
    if said and not any(row["quantity"] == FURTHER and row["offset"] > 1 for row in rows):
        unsaid = [f"Does {run.name} see further than {reference.name}? {each}" for each in unsaid]
        return unsaid + said
    return said + unsaid


def _shortage(reference: ComparedRun, run: ComparedRun, domain: str) -> str:
    both = (each.paired_rates[domain].test for each in (run, reference))
    shortage = next(test.shortage for test in both if test.shortage)
    return f"Cannot tell {run.name} from {reference.name}: {shortage}."


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
    ahead = [row for row in rows if row["offset"] > 1 and row["quantity"] == FURTHER]
    sentences = [further(reference, run, ahead)] if ahead else []
    told: dict[str, list[tuple[Sequence[float], Row]]] = {}
    for (offset, quantity), row in differences.items():
        # The share recovered of the adapted ceiling replaces that of the plain one.
        replaced = quantity == "recovered" and (offset, "recovered_adapted") in differences
        if quantity in SHARES and not replaced:
            pair = [values[each.name, offset, quantity] for each in (run, reference)]
            told.setdefault(quantity, []).append((pair, row))
    sentences += [shares(run, reference, found) for found in told.values()]
    of_nucleus = differences.get((1, "nucleus_tokens"))
    if of_nucleus is not None:
        pair = [values[each.name, 1, "nucleus_tokens"] for each in (run, reference)]
        sentences.append(nucleus(reference, run, pair, of_nucleus))
    return sentences


def _other_tokens(
    runs: Sequence[ComparedRun], headlines: Sequence[Row], differences: Sequence[Row]
) -> list[str]:
    """Say what the next token costs runs of other tokenizers than the first's, in bits per byte."""
    first, pairs, short = runs[0], [], []
    for run in runs:
        if run.model["tokenizer"] == first.model["tokenizer"]:
            continue
        for row in _between(first, run, differences):
            if row["quantity"] == IN_COMMON and row["low"] is not None:
                pairs.append((_headline(run, row, headlines), row))
            elif row["quantity"] == IN_COMMON:
                short.append(_shortage(first, run, row["domain"]))
    if not pairs:
        return short
    return [bytes_needed(_headline(first, pairs[0][1], headlines), pairs), *short, OTHER_TOKENS]


def _headline(run: ComparedRun, row: Row, headlines: Sequence[Row]) -> Row:
    place = run.name, row["domain"], row["offset"], row["quantity"]
    names = "run", "domain", "offset", "quantity"
    return next(each for each in headlines if tuple(each[name] for name in names) == place)
