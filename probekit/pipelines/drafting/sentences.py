"""What a measured draft says, in sentences: the answer first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probekit.pipelines.drafting.candidates import LOOKUP
from probekit.readout import LINEAR

Row = Mapping[str, Any]


def sentences(rows: Sequence[Row], costs: Sequence[Row]) -> Iterator[str]:
    """Yield the answer, and what it rests on, of the first domain.

    Args:
        rows: Rows `drafters` of draft.json.
        costs: Rows `cost`.
    """
    of_first = [row for row in rows if row["domain"] == rows[0]["domain"]]
    rows = [row for row in of_first if row["accepted"] is not None]
    if not rows:
        yield "The texts ended before anything could be drafted: take more --new-tokens."
        return
    lookup = next((row for row in rows if row["drafter"] == LOOKUP), None)
    others = [row for row in rows if row["drafter"] != LOOKUP]
    one = next((row for row in others if row["drafter"] == LINEAR and row["horizon"] == 2), None)
    if one is not None:
        yield _answer(one, lookup)
    if others:
        yield _judgement(max(others, key=lambda row: row["speed"]), lookup)
        yield _on_a_flat_curve(max(others, key=lambda row: row["flat_speed"] or 0), costs)


def _answer(row: Row, lookup: Row | None) -> str:
    speed = f"{_times(row)} as fast as greedy decoding ({_spread(row)})"
    beside = "" if lookup is None else f"; prompt lookup alone: {lookup['speed']:.2f}"
    return (
        f"One token drafted by the linear probe at layer {row['layers'][0]} is accepted "
        f"{100 * row['accepted']:.0f} % of the time: {row['tokens_per_forward']:.2f} tokens a "
        f"forward pass; on this machine {speed}{beside}."
    )


def _judgement(best: Row, lookup: Row | None) -> str:
    name = f"{best['drafter']}, {_shape(best)}"
    beside = 0.0 if lookup is None else lookup["speed"]
    if best["speed_low"] > max(1.0, beside):
        return f"Worth drafting here: {name}, is {_times(best)} as fast ({_spread(best)})."
    if best["speed_low"] > 1:
        return (
            f"Not worth heads here: the best of the other drafters, {name}, is {_times(best)} as "
            f"fast ({_spread(best)}), and prompt lookup, which needs none, {beside:.2f}."
        )
    needed = best["pass_cost"] - 1
    return (
        f"Not worth heads on this machine: the best of the other drafters, {name}, is "
        f"{_times(best)} as fast ({_spread(best)}). A pass of its costs {best['pass_cost']:.2f} of "
        f"one token's: {needed:.2f} drafted tokens would have to be accepted in each, "
        f"{best['accepted']:.2f} are."
    )


def _on_a_flat_curve(best: Row, costs: Sequence[Row]) -> str:
    cost = max(costs, key=lambda row: row["tokens"])
    return (
        f"A forward pass over {cost['tokens']} new tokens costs {cost['ratio']:.1f} times one "
        f"over a single token here. Where all cost the same, as on a GPU that waits for its "
        f"memory, {best['drafter']}, {_shape(best)}, would be {best['flat_speed']:.2f} times as "
        "fast as greedy decoding (computed, not measured)."
    )


def _times(row: Row) -> str:
    return f"{row['speed']:.2f} times"


def _spread(row: Row) -> str:
    return f"{row['speed_low']:.2f} to {row['speed_high']:.2f}"


def _shape(row: Row) -> str:
    """Return a shape in words: a chain of so many tokens, or a tree.

    >>> _shape({"widths": [1, 1]}), _shape({"widths": [3, 2]})
    ('a chain of 2', 'a tree of 3 and 2')
    """
    widths = row["widths"]
    if max(widths) == 1:
        return f"a chain of {len(widths)}"
    return f"a tree of {', '.join(map(str, widths[:-1]))} and {widths[-1]}"
