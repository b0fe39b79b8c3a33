"""What was found at each offset, in cells: the table under the first sentence."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probekit.pipelines.analysis.sentences import (
    FLOORS,
    bits,
    known_room,
    number,
    share_words,
)
from probekit.readout import LINEAR, MARGINAL_ADAPTED
from probekit.scoring.rates import ROUGH_NATS
from probekit.scoring.specialization import LEAST_ROOM_BITS, DomainRates


def by_offset(
    domain: DomainRates, rows: Sequence[Mapping[str, Any]], ceiling_errors: Mapping[int, float]
) -> Iterator[dict[str, Any]]:
    """Yield the cells of each offset of one domain.

    Args:
        domain: Its rates.
        rows: Its rows of `specialization`, by offset from 1 on.
        ceiling_errors: Standard error in nats that sampling leaves the ceiling, by offset.
    """
    for row in rows:
        offset = row["offset"]
        error = ceiling_errors.get(offset, 0.0)
        yield {
            "offset": offset,
            "best": "none"
            if domain.unread(offset)
            else f"{row['best_layer']} of {domain.n_layers}",
            "alike": "" if domain.unread(offset) else _alike(domain, row),
            "read": _read(domain, offset),
            "floor": FLOORS[domain.floor(offset)[0]],
            "known": _known(domain, offset, error),
            "share": _share(domain, offset),
            "late_loss": row["verdict"],
            "top1": _accuracies(domain, offset),
        }


def _read(domain: DomainRates, offset: int) -> str:
    """Say what the best layer reads beyond the floor, if it is anything."""
    if domain.unread(offset):
        return "no layer reads it: no probe beats the unigram"
    if domain.floor(offset) == (LINEAR, domain.best_layer(offset)):
        return "no layer reads more than the current token tells"
    value, low, high = read = domain.test.summary(domain.read_bits(offset))
    digits = 3 if domain.ceiling(offset) is None and high < 0.1 else 2  # far ahead it is little
    if high < 0:
        return f"less than the floor, by {bits((-value, -high, -low), digits)}"
    told = bits(read, digits)
    return f"{told}, not clear of nothing" if low <= 0 else told


def _known(domain: DomainRates, offset: int, error: float) -> str:
    """Say what the model knows beyond the floor, or why that is not told."""
    ceiling = domain.ceiling(offset)
    if ceiling is None:
        return "not measured"
    rate = known_room(domain, offset)
    if rate is None:
        return "worse than counting"
    value, low, high = room = domain.drawn(offset).summary(rate)
    adapted = ", its output adapted" if ceiling == MARGINAL_ADAPTED else ""
    if high < 0:
        return f"less than the floor, by {bits((-value, -high, -low))}{adapted}"
    if low < LEAST_ROOM_BITS:
        too = "little" if value < LEAST_ROOM_BITS else "uncertain"
        return f"{bits(room)}{adapted}: too {too} for a share"
    loose = f", an estimate to ± {error / math.log(2):.2f}" if error > ROUGH_NATS else ""
    return f"{number(value)} bits{adapted}{loose}"


def _share(domain: DomainRates, offset: int) -> str:
    """Return the share of what the model knows that is read, in words; empty if it is not told."""
    ceiling = domain.ceiling(offset)
    share = None if ceiling is None else domain.recovered(offset, ceiling)
    clear = not domain.unread(offset) and domain.test.summary(domain.read_bits(offset))[1] > 0
    if clear and share is not None and offset == 1 and bool((share == 1).all()):
        return "100 %, as the last layer's is the model's own output"
    return share_words(domain.drawn(offset).summary(share)) if clear and share is not None else ""


def _accuracies(domain: DomainRates, offset: int) -> dict[str, float | None]:
    """Return the top-1 accuracies of floor, best probe and ceiling, of the probe with its ends."""
    test, drawn, ceiling = domain.test, domain.drawn(offset), domain.ceiling(offset)
    best, room = (LINEAR, domain.best_layer(offset), offset), known_room(domain, offset)
    probe, known = test.rate("top1", *best), None
    if ceiling is not None and room is not None and not drawn.summary(room)[2] < 0:
        more = drawn.rate("top1", ceiling, None, offset) - drawn.rate("top1", *best)
        known = float(probe[0] + more[0])
    floor = float(test.rate("top1", *domain.floor(offset), offset)[0])
    return {"floor": floor, **test.columns("best", probe), "ceiling": known}


def _alike(domain: DomainRates, row: Mapping[str, Any]) -> str:
    """Name the layers that read as the best one does, or cannot be told from it."""
    layers = row["like_best"]
    if len(layers) < 2:
        return ""
    behind, margin = domain.behind_best(row["offset"]), row["late_margin_bits"]
    if any(behind[layer][1] < 0 for layer in layers):  # validation chose another than test
        others = [layer for layer in layers if layer != row["best_layer"]]
        return f"best on validation text; {_named(others)} no worse on test text"
    close = all(behind[layer][1] < margin for layer in layers)
    return f"{_named(layers)} {'read it alike' if close else 'cannot be told apart'}"


def _named(layers: Sequence[int]) -> str:
    """Name layers.

    >>> _named([4, 5, 6]), _named([4, 5]), _named([2, 5, 6]), _named([3])
    ('layers 4 to 6', 'layers 4 and 5', 'layers 2, 5 and 6', 'layer 3')
    """
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if len(layers) > 2 and layers[-1] - layers[0] == len(layers) - 1:
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {', '.join(map(str, layers[:-1]))} and {layers[-1]}"
