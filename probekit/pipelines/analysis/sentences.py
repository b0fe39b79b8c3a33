"""What was found, in words: how far layers see, then offset by offset."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from probekit.readout import LINEAR, MARGINAL, MARGINAL_ADAPTED, MODEL, SKIP_BIGRAM, UNIGRAM
from probekit.scoring.accepted_length import accepted_length
from probekit.scoring.rates import Rate
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


def say(domain: DomainRates, horizon: int, more_text: Mapping[int, str]) -> list[str]:
    """Return the sentences on one domain.

    Args:
        domain: Its rates; of enough documents for intervals.
        horizon: Largest offset.
        more_text: What more text would do to what is read, in words, by offset.
    """
    said = [*behind_counting(domain, horizon)]
    if horizon > 1:
        said += _how_far(domain, horizon, more_text)
    return [*said, *next_token(domain)]


def drafted(domain: DomainRates, horizon: int) -> str:
    """Say how many of the tokens that probes of one layer draft the model would accept.

    Args:
        domain: Its rates, the targets the model's own tokens.
        horizon: Largest offset, at least 2.
    """
    layers = domain.validation.layers(LINEAR, horizon)
    foreseen = {at: accepted_length(domain.validation, LINEAR, at, horizon)[0] for at in layers}
    best = max(foreseen, key=foreseen.__getitem__)
    at = domain.marginal
    value, low, high = at.summary(accepted_length(at, LINEAR, best, horizon))
    floor = accepted_length(at, SKIP_BIGRAM, None, horizon)[0]
    tokens = "t+2" if horizon == 2 else f"t+2 … t+{horizon}"
    return (
        f"Of {tokens}, drafted by the probes of layer {best}, the model would accept "
        f"{value:.2f} [{low:.2f}, {high:.2f}] a pass, {1 + value:.2f} tokens a forward pass; "
        f"drafted by a skip-bigram, {floor:.2f}."
    )


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
    if ceiling is None or (ceiling != MARGINAL_ADAPTED and domain.behind_counting()):
        return None
    return domain.room_bits(offset, ceiling)


def _how_far(domain: DomainRates, horizon: int, more_text: Mapping[int, str]) -> Iterator[str]:
    """Yield up to which offset all are read, and how much of what is known."""
    ahead = range(2, horizon + 1)
    if all(domain.unread(k) for k in ahead):
        yield "No layer reads any token ahead: no probe beats the unigram."
        return
    reached = domain.reach(horizon)
    known = [k for k in ahead if domain.ceiling(k) is not None]
    far, beyond = _reached(domain, horizon, reached)
    if reached in known:
        there = f"{beyond}. At t+{reached}" if beyond else ". There"
        yield f"{far}{there} {_of_probe(domain, reached, more_text)}."
        return
    if reached > 1:
        read = bits(domain.test.summary(domain.read_bits(reached)), 3)
        each, of = "it", ""
        if reached > 2:
            each, of = f"each token from t+2 to t+{reached}", f"of t+{reached} "
        far += f": of {each} the best probe reads more than the current token tells, {of}{read}"
        far += f" (layer {domain.best_layer(reached)} of {domain.n_layers})"
    yield f"{far}{beyond}."
    if not known:
        yield "What the model itself knows of tokens ahead was not measured."
    elif reached > 1:
        last = known[-1]
        probe = _of_probe(domain, last, more_text)
        yield f"Of t+{last}, the farthest that was marginalized, {probe}."


def _reached(domain: DomainRates, horizon: int, reached: int) -> tuple[str, str]:
    """Say how far layers see, and why no further."""
    if reached == horizon:
        return f"Layers see at least to t+{reached}, the farthest that was asked", ""
    read = domain.test.summary(domain.read_bits(reached + 1))
    why = "not clear of nothing" if read[1] <= 0 else "no more than the unigram"
    less = f"{bits(read, 3)}, {why}"
    if reached == 1:
        return f"No layer clearly reads more of t+2 than the current token tells: {less}", ""
    return f"Layers see to t+{reached}", f"; of t+{reached + 1} they read {less}"


def _of_probe(domain: DomainRates, offset: int, more_text: Mapping[int, str]) -> str:
    """Say how much of what the model knows the best probe reads."""
    more = f"; {more_text[offset]}" if offset in more_text else ""
    read = _of_known(domain, offset)
    layer = f"layer {domain.best_layer(offset)} of {domain.n_layers}"
    return f"the probe at {layer} reads {read}{more}"


def next_token(domain: DomainRates) -> Iterator[str]:
    """Yield from which layer on the lens predicts the next token as the model does."""
    before = {at: share for at, share in domain.lens_shares().items() if at < domain.n_layers}
    layer = domain.saturation_layer()
    if domain.behind_counting() or not before or not _knows_anything(domain):
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
        f"The next token is settled in the last layer: no earlier layer's logit lens {reaches} "
        "95 % of the model's top-1 accuracy (layer "
        f"{last} reaches {math.floor(100 * before[last])} % of it)."
    )


def _knows_anything(domain: DomainRates) -> bool:
    """Whether the model clearly predicts the next token better than a unigram does."""
    gain = domain.test.nats(UNIGRAM, None, 1) - domain.test.nats(MODEL, None, 1)
    return domain.test.summary(gain)[1] > 0


def _of_known(domain: DomainRates, offset: int) -> str:
    """Say which share of what the model knows is read, or else how many bits."""
    read, ceiling = domain.test.summary(domain.read_bits(offset)), domain.ceiling(offset)
    plain = f"{bits(read)} beyond the current token"
    if ceiling is None:
        return f"{plain} (what the model itself knows was not measured)"
    rate = known_room(domain, offset)
    if rate is None:
        return plain
    room, recovered = domain.marginal.summary(rate), domain.recovered(offset, ceiling)
    if recovered is not None:
        share, _, doubt = share_words(domain.marginal.summary(recovered)).partition("], ")
        beside = f"{number(read[0])} of {number(room[0])} bits{'; ' + doubt if doubt else ''}"
        end = "]" if doubt else ""
        return f"{share}{end} of what {OWN[ceiling]} beyond the current token ({beside})"
    if room[2] < 0:
        return plain
    too = "little" if room[0] < LEAST_ROOM_BITS else "uncertain"
    return f"{plain}; what {OWN[ceiling].rstrip(',')}, {bits(room)}, is too {too} for a share"


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
    if low > 0 and row["best_layer"] > rival and high >= margin:
        return f"yet on test text the last layer reads {amount} less than layer {rival}"
    if low > 0 and row["best_layer"] <= rival:
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
    """Return bits with their interval, if there is one.

    >>> bits((0.69, -0.001, 0.78))
    '0.69 bits [0.00, 0.78]'
    """
    value, low, high = (number(each, digits) for each in span)
    return f"{value} bits [{low}, {high}]" if not math.isnan(span[1]) else f"{value} bits"
