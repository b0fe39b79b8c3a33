"""What was found, in words: how far layers see, then offset by offset."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from probekit.readout import LINEAR, MARGINAL, MARGINAL_ADAPTED, SKIP_BIGRAM, UNIGRAM
from probekit.scoring.rates import ROUGH_NATS, Rate
from probekit.scoring.specialization import (
    LEAST_LOSS_BITS,
    LEAST_LOSS_SHARE,
    LEAST_ROOM_BITS,
    SATURATED,
    DomainRates,
)

# What knows the current token alone, or nothing, is called.
FLOORS = {
    SKIP_BIGRAM: "a skip-bigram",
    LINEAR: "the probe at layer 0",
    UNIGRAM: "a unigram",
}
OWN = {MARGINAL: "the model itself knows", MARGINAL_ADAPTED: "the model knows, its output adapted,"}

Span = tuple[float, float, float]  # a number and the ends of its interval


@dataclass(frozen=True)
class Beside:
    """What is known beside the scores, by offset.

    Attributes:
        ceiling_errors: Standard error in nats that sampling leaves the ceiling over all domains;
            where it is large, the ceiling is called an estimate.
        more_text: What more text would do to what is read there, in words.
    """

    ceiling_errors: Mapping[int, float] = field(default_factory=dict)
    more_text: Mapping[int, str] = field(default_factory=dict)


def say(domain: DomainRates, rows: Sequence[Mapping[str, Any]], beside: Beside) -> list[str]:
    """Return the sentences on one domain.

    Args:
        domain: Its rates; of enough documents for intervals.
        rows: Its rows of `specialization`, by offset from 1 on.
        beside: What is known beside the scores.
    """
    horizon = len(rows)
    ahead = range(2, horizon + 1)
    said = [*behind_counting(domain, horizon)]
    said += [_how_far(domain, horizon, beside)] if horizon > 1 else []
    said += next_token(domain)
    if not all(domain.unread(k) for k in ahead):
        said += [_at(domain, rows[k - 1], beside.ceiling_errors.get(k, 0.0)) for k in ahead]
    return said


def behind_counting(domain: DomainRates, horizon: int) -> Iterator[str]:
    """Yield where the model predicts this text worse than counts do."""
    behind, ahead = domain.behind_counting(), range(2, horizon + 1)
    known = {k: known_room(domain, k) for k in ahead}
    rooms = {k: domain.marginal.summary(room) for k, room in known.items() if room is not None}
    worse = [
        f"t+{k} by {bits((-value, -high, -low))}"
        for k, (value, low, high) in rooms.items()
        if high < 0
    ]
    if behind:
        name, more = behind
        rest = "What it knows of later tokens is no measure here, and none is given."
        if len(worse) < len(rooms):
            rest = "What it knows of later tokens is measured with its output adapted to this text."
        yield (
            "The model predicts this text worse than counting does: its next-token loss is "
            f"{bits(domain.test.summary(more))} above that of {FLOORS[name]}. {rest}"
        )
    if worse:
        adapted = ", its output adapted," if domain.ceiling(2) == MARGINAL_ADAPTED else ""
        yield (
            f"Of tokens ahead the model{adapted} tells less than the current token alone, "
            f"{', '.join(worse)}: nothing is measured against it there."
        )


def known_room(domain: DomainRates, offset: int) -> Rate | None:
    """Return what the model knows beyond the floor; None of a model that is behind counting."""
    ceiling = domain.ceiling(offset)
    if ceiling is None or (ceiling == MARGINAL and domain.behind_counting()):
        return None
    return domain.room_bits(offset, ceiling)


def _how_far(domain: DomainRates, horizon: int, beside: Beside) -> str:
    """Say at which offset something is read at all, where, and how much of what is known."""
    ahead = [k for k in range(2, horizon + 1) if not domain.unread(k)]
    if not ahead:
        return "No layer reads any token ahead: no probe beats the unigram."
    read = {k: domain.marginal.summary(domain.read_bits(k)) for k in ahead}
    clear = [k for k in ahead if read[k][1] > 0]
    if not clear:
        return "No layer clearly reads more of any token ahead than the current token tells."
    farthest = clear[-1]
    how_far = f"Layers see at least to t+{farthest}, the farthest that was asked."
    if farthest < horizon:
        how_far = f"Layers see to t+{farthest}; beyond it nothing is clear."
    more = beside.more_text.get(farthest)
    return (
        f"{how_far} There the probe at layer {domain.best_layer(farthest)} of {domain.n_layers} "
        f"reads {_of_known(domain, farthest, read[farthest])}{'; ' + more if more else ''}."
    )


def next_token(domain: DomainRates) -> Iterator[str]:
    """Yield from which layer on the lens predicts the next token as the model does."""
    before = {at: share for at, share in domain.lens_shares().items() if at < domain.n_layers}
    layer = domain.saturation_layer()
    if domain.behind_counting() or not before:
        return
    if layer is not None:
        yield (
            f"The next token is settled at layer {layer} of {domain.n_layers}: from there on the "
            "logit lens has at least 95 % of the model's top-1 accuracy."
        )
        return
    last = max(before)
    reaches = "reaches" if max(before.values()) < SATURATED else "reaches and keeps"
    yield (
        f"The next token is settled in the last layer: no earlier layer's lens {reaches} 95 % of "
        f"the model's top-1 accuracy (layer {last}: {math.floor(100 * before[last])} %)."
    )


def _at(domain: DomainRates, row: Mapping[str, Any], ceiling_error: float) -> str:
    offset, best = row["offset"], row["best_layer"]
    if domain.unread(offset):
        return f"No layer reads the token at t+{offset}: no probe beats the unigram."
    told = _told(domain, offset)
    share = _share(domain, offset)
    if ceiling_error > ROUGH_NATS and share and share in told:
        error = ceiling_error / math.log(2)
        told += f" (an estimate: what the model knows is known to ± {error:.2f} bits only)"
    place = f"The token at t+{offset} is read best at layer {best} of {domain.n_layers}"
    return f"{place}{_alike(domain, row)}. {_opened(told)}. {_opened(row['verdict'])}."


def _told(domain: DomainRates, offset: int) -> str:
    """Say what is read beyond the floor, if it is anything."""
    name, layer = domain.floor(offset)
    if (name, layer) == (LINEAR, domain.best_layer(offset)):
        return "no layer reads more than the current token tells"
    value, low, high = read = domain.marginal.summary(domain.read_bits(offset))
    if high < 0:
        less = bits((-value, -high, -low))
        return f"a linear probe there reads less than {FLOORS[name]}, by {less}"
    if low <= 0:
        beyond = f"what a linear probe there reads beyond {FLOORS[name]}"
        return f"{beyond} is not clear of nothing, {bits(read)}"
    return f"a linear probe there reads {_of_known(domain, offset, read)}"


def _opened(words: str) -> str:
    return words[0].upper() + words[1:]


def _alike(domain: DomainRates, row: Mapping[str, Any]) -> str:
    """Name the layers that read as the best one does, or cannot be told from it."""
    layers = row["like_best"]
    if len(layers) < 2:
        return ""
    behind, margin = domain.behind_best(row["offset"]), row["late_margin_bits"]
    if any(behind[layer][1] < 0 for layer in layers):  # validation chose another than test
        others = [layer for layer in layers if layer != row["best_layer"]]
        return f" on validation text ({_named(others)} no worse on test text)"
    close = all(behind[layer][1] < margin for layer in layers)
    return f" ({_named(layers)} {'read it alike' if close else 'cannot be told apart'})"


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


def _of_known(domain: DomainRates, offset: int, read: Span) -> str:
    """Say how many bits are read, and of how many that the model knows, where that is told."""
    floor, ceiling = FLOORS[domain.floor(offset)[0]], domain.ceiling(offset)
    plain = f"{bits(read)} beyond {floor}"
    if ceiling is None:
        return f"{plain} (what the model itself knows was not measured)"
    rate = known_room(domain, offset)
    if rate is None:
        return plain
    room, share = domain.marginal.summary(rate), _share(domain, offset)
    if share:
        return f"{bits(read)} of the {number(room[0])} that {OWN[ceiling]} beyond {floor}: {share}"
    if room[2] < 0:
        return plain
    too = "little" if room[0] < LEAST_ROOM_BITS else "uncertain"
    return f"{plain}; what {OWN[ceiling].rstrip(',')}, {bits(room)}, is too {too} for a share"


def _share(domain: DomainRates, offset: int) -> str:
    """Return the share of what the model knows that is read, in words; empty if it is not told."""
    ceiling = domain.ceiling(offset)
    recovered = None if ceiling is None else domain.recovered(offset, ceiling)
    return "" if recovered is None else share_words(domain.marginal.summary(recovered))


def share_words(share: Span) -> str:
    """Return a share and its interval, with a word where that leaves 0 to 1.

    >>> share_words((0.25, 0.21, 0.3))
    '25 % [21 %, 30 %]'
    >>> share_words((0.62, 0.43, 1.22))
    '62 % [43 %, 122 %], as much as all of it cannot be excluded'
    """
    value, low, high = (f"{round(100 * end)} %" for end in share)
    words = f"{value} [{low}, {high}]"
    if share[1] > 1:
        return f"{words}, all of it and more"
    if share[1] <= 0:
        words += ", not clear of nothing"
    return f"{words}, as much as all of it cannot be excluded" if share[2] > 1 else words


def late_loss(row: Mapping[str, Any]) -> str:
    """Say in words what the last layer reads less than the best one before it.

    Args:
        row: A row of `specialization`, with intervals.
    """
    rival, margin, value = row["late_rival"], row["late_margin_bits"], row["forgotten_bits"]
    if rival is None:
        return "no layer before the last was read"
    low, high = row["forgotten_bits_low"], row["forgotten_bits_high"]
    amount = bits((value, low, high), 3)
    if low > 0 and row["best_layer"] > rival:
        return f"yet on test text the last layer reads {amount} less than layer {rival}"
    if low > 0:
        little = ", too little to matter" if high < margin else ""
        return f"later layers lose {amount} of what layer {rival} reads{little}"
    if high < 0:
        return f"nothing is lost: the last layer reads more than layer {rival}, the best before it"
    if high < margin:
        of_read = f" ({_percent_of_read(high, margin)})" if margin > LEAST_LOSS_BITS else ""
        return f"at most {number(high, 3)} bits{of_read} are lost after layer {rival}"
    return f"cannot tell whether later layers lose any: {amount} after layer {rival}"


def _percent_of_read(lost: float, margin: float) -> str:
    return f"{math.ceil(100 * LEAST_LOSS_SHARE * lost / margin)} %"


def looks(n_offsets: int, n_domains: int) -> str:
    """Say how many looks were taken, and what loss is not worth mentioning."""
    texts = f" of {n_domains} texts" if n_domains > 1 else ""
    return (
        f"{n_offsets} offsets{texts} are {n_offsets * n_domains} looks, each right 95 times in "
        f"100. A late loss surely below {LEAST_LOSS_BITS:g} bits, or below "
        f"{100 * LEAST_LOSS_SHARE:.0f} % of what the best layer reads where that is more, is not "
        "worth mentioning."
    )


def number(value: float, digits: int = 2) -> str:
    """Return a number without the sign of a negative zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def bits(span: Span, digits: int = 2) -> str:
    """Return bits with their interval.

    >>> bits((0.69, -0.001, 0.78))
    '0.69 bits [0.00, 0.78]'
    """
    value, low, high = (number(each, digits) for each in span)
    return f"{value} bits [{low}, {high}]"
