"""The headline numbers: accuracies beside their floors, bits read, late loss."""

import math
from collections.abc import Iterator
from typing import Any

from probekit.pipelines.analysis.sentences import FLOORS, OWN, Span, known_room, number, share_words
from probekit.readout import LINEAR, MARGINAL, MARGINAL_ADAPTED
from probekit.scoring.rates import Rates
from probekit.scoring.specialization import DomainRates

CEILINGS = {MARGINAL: "marginalization", MARGINAL_ADAPTED: "marginalization, adapted"}


def headlines(domain: DomainRates, horizon: int) -> Iterator[dict[str, Any]]:
    """Yield the headline numbers of one domain, of what the sentences speak of."""
    if domain.test.has("model", None, 1):
        yield _accuracy("Next token, the model", domain.test, ("model", None, 1))
        yield _accuracy(f"Next token, {_floor(domain, 1)}", domain.test, (*domain.floor(1), 1))
    if horizon < 2:
        return
    at, best, unread = domain.marginal, domain.best_layer(2), domain.unread(2)
    if not unread:
        yield _accuracy(f"t+2, best probe (layer {best})", at, (LINEAR, best, 2))
    ceiling = domain.ceiling(2)
    if ceiling is not None and _known(domain):
        yield _accuracy(f"t+2, {CEILINGS[ceiling]}", at, (ceiling, None, 2))
    yield _accuracy(f"t+2, {_floor(domain, 2)}", at, (*domain.floor(2), 2))
    if unread:
        return
    read = at.summary(domain.read_bits(2))
    yield _headline("Read at t+2", read, "bits", _of_known(domain, ceiling, read))
    rival, lost = domain.late_rival(2), domain.forgotten_bits(2)
    if rival is not None and lost is not None:
        note = f"what the last layer reads less than layer {rival}, the best before it"
        yield _headline("Late loss at t+2", domain.test.summary(lost), "bits", note)


def _floor(domain: DomainRates, offset: int) -> str:
    return FLOORS[domain.floor(offset)[0]].removeprefix("a ")


def _known(domain: DomainRates) -> bool:
    """Whether the ceiling at t+2 is one: of a model, or an output, that is not behind counting."""
    room = known_room(domain, 2)
    return room is not None and not domain.marginal.summary(room)[2] < 0


def _of_known(domain: DomainRates, ceiling: str | None, read: Span) -> str:
    beyond = f"beyond {FLOORS[domain.floor(2)[0]]}"
    if read[1] <= 0:
        return f"{beyond}, not clear of nothing"
    recovered = None if ceiling is None else domain.recovered(2, ceiling)
    if ceiling is None or recovered is None:
        return beyond
    room = known_room(domain, 2)
    known = f"{number(room[0])} that {OWN[ceiling]}" if room is not None else ""
    return f"of the {known} {beyond}: {share_words(domain.marginal.summary(recovered))}"


def _accuracy(label: str, rates: Rates, cell: tuple[str, int | None, int]) -> dict[str, Any]:
    where = "test positions" if cell[2] == 1 else "where the model was marginalized"
    return _headline(label, rates.summary(rates.rate("top1", *cell)), "top-1", where)


def _headline(label: str, interval: Span, unit: str, note: str) -> dict[str, Any]:
    value, low, high = (None if math.isnan(number) else number for number in interval)
    return {"label": label, "value": value, "low": low, "high": high, "unit": unit, "note": note}
