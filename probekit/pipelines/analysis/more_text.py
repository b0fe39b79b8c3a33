"""Whether more text would move what is read, in words, from rows of `learning`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from probekit.scoring.specialization import LEAST_LOSS_BITS

# A gain from the second half of the text is said that is a larger share of what is read, and
# larger than a late loss that is not worth mentioning.
MUCH = 0.1
MOST_NAMED = 3  # offsets


def sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of the first domain at which offsets more text would move what is read.

    Args:
        rows: `learning` of results.json.
    """
    whole = [row for row in rows if row["one_in"] == 1 and row["domain"] == rows[0]["domain"]]
    best = [row for row in whole if row["role"] == "best"]
    rising = [row for row in best if _is_read(row) and _moves(row, "read_gain_bits")]
    if rising:
        amounts = ", ".join(
            f"{row['read_gain_bits']:.2f} bits {_ends(row, 'read_gain_bits')} at t+{row['offset']}"
            for row in rising[:MOST_NAMED]
        )
        further = len(rising) - MOST_NAMED
        others = f", and as clearly more at {further} other offsets" if further > 0 else ""
        return [
            "What the best probe reads beyond the floor is at least that, and still rising: the "
            f"second half of the training text gave {amounts} of it{others}."
        ]
    falling = [row for row in best if _moves(row, "gain_nats")]
    return [_falling(row) for row in falling[:1]]


def clauses(rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Say by offset what more text would do to what the first domain's best probe reads.

    Args:
        rows: `learning` of results.json. Without intervals nothing is said.
    """
    whole = [row for row in rows if row["one_in"] == 1 and row["domain"] == rows[0]["domain"]]
    said = {}
    for row in whole:
        if row["role"] == "best":
            high = row["read_gain_bits_high"]
            if _moves(row, "read_gain_bits"):
                said[row["offset"]] = "more training text would still raise it"
            elif high is not None and high < MUCH * row["read_bits"]:
                said[row["offset"]] = "more training text would hardly move it"
            elif high is not None:
                said[row["offset"]] = "whether more training text would move it cannot be told"
    return said


def _falling(row: Mapping[str, Any]) -> str:
    names = ("gain_nats", "gain_nats_low", "gain_nats_high")
    gain, low, high = (row[name] / math.log(2) for name in names)
    return (
        f"The probes still learn: the second half of the training text took {gain:.2f} bits "
        f"[{low:.2f}, {high:.2f}] off the best probe's loss at t+{row['offset']}. What it "
        f"reads beyond the floor, which learns too, moved by {row['read_gain_bits']:+.2f} bits "
        f"{_ends(row, 'read_gain_bits')}."
    )


def _is_read(row: Mapping[str, Any]) -> bool:
    """Say whether what is read is clear of zero: only then can it be at least that."""
    return row["read_bits_low"] is not None and row["read_bits_low"] > 0


def _moves(row: Mapping[str, Any], gain: str) -> bool:
    """Say whether a gain is clear of zero, and more than a tenth of what is read."""
    unit = 1 / math.log(2) if gain.endswith("nats") else 1.0
    low = row[f"{gain}_low"]
    return low is not None and low > 0 and row[gain] * unit > _much(row)


def _much(row: Mapping[str, Any]) -> float:
    return float(max(MUCH * row["read_bits"], LEAST_LOSS_BITS))


def _ends(row: Mapping[str, Any], name: str) -> str:
    return f"[{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"
