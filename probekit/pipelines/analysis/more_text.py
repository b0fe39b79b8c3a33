"""Whether more text would move what is read, in words, from rows of `learning`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

# A gain from the second half of the text that is a larger share of what is read is said.
MUCH = 0.1


def sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of the first domain at which offsets more text would move what is read.

    Args:
        rows: `learning` of results.json.
    """
    whole = [row for row in rows if row["one_in"] == 1 and row["domain"] == rows[0]["domain"]]
    best = [row for row in whole if row["role"] == "best"]
    rising = [
        row for row in best if row["positions"] == "marginal" and _moves(row, "read_gain_bits")
    ]
    if rising:
        amounts = ", ".join(
            f"{row['read_gain_bits']:.2f} bits {_ends(row, 'read_gain_bits')} at t+{row['offset']}"
            for row in rising
        )
        return [
            "What the best probe reads beyond the floor is at least that, and still rising: the "
            f"second half of the training text gave {amounts} of it."
        ]
    falling = [row for row in best if row["positions"] == "all" and _moves(row, "gain_nats")]
    return [_falling(row) for row in falling[:1]]


def clauses(rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Say by offset what more text would do to what the first domain's best probe reads.

    Args:
        rows: `learning` of results.json. Without intervals nothing is said.
    """
    whole = [row for row in rows if row["one_in"] == 1 and row["domain"] == rows[0]["domain"]]
    said = {}
    for row in whole:
        if row["role"] == "best" and row["positions"] == "marginal":
            high = row["read_gain_bits_high"]
            if _moves(row, "read_gain_bits"):
                said[row["offset"]] = "more text would still raise it"
            elif high is not None and high < MUCH * row["read_bits"]:
                said[row["offset"]] = "more text would hardly move it"
            elif high is not None:
                said[row["offset"]] = "whether more text would move it cannot be told"
    return said


def _falling(row: Mapping[str, Any]) -> str:
    return (
        f"The probes still learn: the second half of the training text took {row['gain_nats']:.2f} "
        f"nats {_ends(row, 'gain_nats')} off the best probe's loss at t+{row['offset']}. What it "
        f"reads beyond the floor, which learns too, moved by {row['read_gain_bits']:+.2f} bits "
        f"{_ends(row, 'read_gain_bits')}."
    )


def _moves(row: Mapping[str, Any], gain: str) -> bool:
    """Say whether a gain is clear of zero and more than a tenth of what is read."""
    unit = 1 / math.log(2) if gain.endswith("nats") else 1.0
    low = row[f"{gain}_low"]
    return low is not None and low > 0 and row[gain] * unit > MUCH * row["read_bits"]


def _ends(row: Mapping[str, Any], name: str) -> str:
    return f"[{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"
