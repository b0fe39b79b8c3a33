"""Differences between runs that more training text would move by as much as they are.

Probes are fitted to finitely many positions, and a larger model's to the same number of more
values. What the second half of the training text gave is about what the next doubling would.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

# Quantities that probes are needed for, as sentences name them.
LEARNED = {
    "best_probe_bits": "what the best probe knows",
    "recovered": "what is recovered",
    "recovered_adapted": "what is recovered",
}


def rivalled(row: Row, runs: Iterable[Row]) -> bool:
    """Say whether the second half of its text moved either run by as much as they differ.

    Args:
        row: One of `differences` of a comparison.
        runs: results.json of both; of one that does not say what more text gave nothing is known.
    """
    if row["offset"] < 2 or row["quantity"] not in LEARNED:
        return False
    gains = (last_gain(results, row["quantity"], row["domain"], row["offset"]) for results in runs)
    return any(abs(gain) >= abs(row["value"]) for gain in gains if gain is not None)


def not_compared(rows: Sequence[Row]) -> list[str]:
    """Name the differences of which nothing is said, if there are any."""
    if not rows:
        return []
    offsets: dict[str, list[str]] = {}
    for row in rows:
        places = offsets.setdefault(LEARNED[row["quantity"]], [])
        if f"t+{row['offset']}" not in places:
            places.append(f"t+{row['offset']}")
    listed = "; ".join(f"{name} at {', '.join(places)}" for name, places in offsets.items())
    return [
        f"Not compared: {listed}. The second half of the training text moved a run by as much as "
        "the two differ."
    ]


def last_gain(results: Row, quantity: str, domain: str, offset: int) -> float | None:
    """Return by how much the second half of the training text moved a quantity, in its unit."""
    found = {
        row["role"]: row
        for row in results.get("learning") or ()
        if (row["domain"], row["offset"], row["positions"]) == (domain, offset, "all")
        and row["one_in"] == 1
    }
    if not found:
        return None
    best, floor = found["best"], found["floor"]
    if quantity == "best_probe_bits":
        return float(best["gain_nats"]) / math.log(2)
    return _recovered_gain(results, best, floor)


def _recovered_gain(results: Row, best: Row, floor: Row) -> float | None:
    """Return the share of the room that is read, less the same after half of the text."""
    special = next(
        row
        for row in results["specialization"]
        if (row["domain"], row["offset"]) == (best["domain"], best["offset"])
    )
    if special["room_bits"] is None:
        return None
    half_room = special["room_bits"] + floor["gain_nats"] / math.log(2)
    half = (best["read_bits"] - best["read_gain_bits"]) / half_room
    return float(best["read_bits"] / special["room_bits"] - half)
