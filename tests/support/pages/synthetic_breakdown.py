"""The parts of a run that never was about classes of targets and calibration."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

Row = dict[str, Any]

CLASSES = {
    "piece": ("first piece of a word", "not in a word", "within a word"),
    "repeated": ("not repeated", "repeated"),
    "frequency": ("seen 10 to 99 times", "seen 100 times or more", "seen up to 9 times"),
    "entropy": tuple(f"decile {number:02d}" for number in range(1, 11)),
}


def classes(domains: Sequence[str], offsets: int, seed: int) -> Iterator[Row]:
    """Yield `classes`; the last class of repeats has no ceiling."""
    chance = random.Random(seed)
    for kind, names in CLASSES.items():
        for name in names:
            for domain in domains:
                for offset in range(2, offsets + 1):
                    bare = name == "repeated"
                    values: dict[str, float | None] = {
                        "top1": chance.random() / offset,
                        "read_bits": 1.2 * chance.random() / offset,
                        "share": 1 / len(names),
                        "room_bits": None if bare else 2.0 / offset,
                        "recovered": None if bare or offset > 3 else 0.4,
                    }
                    yield {
                        "kind": kind, "class": name, "domain": domain, "offset": offset,
                        "n_positions": 900, "share_of_positions": 1 / len(names),
                    } | {
                        f"{column}{end}": None if value is None else value + shift
                        for column, value in values.items()
                        for end, shift in (("", 0.0), ("_low", -0.05), ("_high", 0.05))
                    }  # fmt: skip


def calibration(offsets: int, layers: int, marginal: bool) -> Iterator[Row]:
    """Yield `calibration` of the model, the best linear probe and the ceiling."""
    cells: list[tuple[str, int | None, int]] = [("model", None, 1)]
    for offset in range(2, offsets + 1):
        cells.append(("linear", layers - 1, offset))
        if marginal:
            cells.append(("marginal", None, offset))
    for readout, layer, offset in cells:
        gap = 0.02 * offset
        yield {
            "readout": readout, "layer": layer, "offset": offset, "n_positions": 900,
            "calibration_error": gap, "temperature": 1 + gap, "temperature_gain_nats": gap / 10,
            "bins": [
                {"confidence": n / 10 + 0.05, "top1": max(0.0, n / 10 + 0.05 - gap), "n": 90}
                for n in range(10)
            ],
        }  # fmt: skip
