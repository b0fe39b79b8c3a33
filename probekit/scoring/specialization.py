"""Specialization: from rates to the few numbers that tell which layer knows how much.

best_layer      the layer whose linear probe has the lowest validation cross-entropy
forgotten_bits  cross-entropy at the last layer minus at the best layer, on test
floor           the better readout of the current token alone, by validation: a skip-bigram
                or the probe at layer 0
read_bits       floor minus best probe, on all test positions
reach           the last offset up to which all are read clearly
room_bits       read_bits, and what the ceiling knows beyond the best probe on the positions
                where marginalization ran: what the model knows beyond the current token
recovered       read_bits / room_bits, where the room is not too small for a ratio
saturation      offset 1: the first layer before the last from which on the lens has 95 % of
                the model's accuracy
adaptation      offset 1: the model's cross-entropy minus the (L, 1) probe's. The probe is
                fitted to the text at hand, the model is not; this measures by how much
                that alone helps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from probekit.readout import (
    LENS,
    LINEAR,
    MARGINAL,
    MARGINAL_ADAPTED,
    MODEL,
    SKIP_BIGRAM,
    UNIGRAM,
)
from probekit.scoring.losses import v_information_bits
from probekit.scoring.rates import DocumentSums, Rate, Rates

SATURATED = 0.95
# A room of which the interval reaches below this is too small for a share of it.
LEAST_ROOM_BITS = 0.3
# A late loss surely below the larger of these, the latter of what the best layer reads beyond
# the floor, is not worth mentioning.
LEAST_LOSS_BITS = 0.05
LEAST_LOSS_SHARE = 0.05


@dataclass(frozen=True)
class DomainRates:
    """The rates of one domain that specialization is computed from.

    Attributes:
        name: Name of the domain.
        n_layers: Number of blocks of the model.
        validation: Where the best layer is chosen.
        test: On all positions.
        marginal: On those where marginalization ran.
        at_output: Whether probes read what the output layer reads. Elsewhere the (L, 1) probe
            says nothing of adaptation.
        target: Name of the targets.
    """

    name: str
    n_layers: int
    validation: Rates
    test: Rates
    marginal: Rates
    at_output: bool = True
    target: str = "text"

    @classmethod
    def of(
        cls,
        sums: DocumentSums,
        name: str,
        n_layers: int,
        at_output: bool = True,
        target: str = "text",
    ) -> "DomainRates":
        """Return the rates of a domain from what was scored on validation and test."""
        validation = sums.rates(name, "validation", "all")
        test, marginal = (sums.rates(name, "test", which) for which in ("all", "marginal"))
        return cls(name, n_layers, validation, test, marginal, at_output, target)

    def adaptation_nats(self) -> Rate | None:
        """Return the gain by fitting to this text; None where it cannot be told."""
        return adaptation_nats(self.test, self.n_layers) if self.at_output else None

    def best_layer(self, offset: int) -> int:
        """Return the layer whose probe has the lowest validation cross-entropy."""
        return self.validation.best_layer(LINEAR, offset)

    def behind_best(self, offset: int) -> dict[int, tuple[float, float]]:
        """Return by layer the interval of the bits that it reads less than the best, on test."""
        best, layers = self.best_layer(offset), self.test.layers(LINEAR, offset)
        less = {at: self.test.summary(self._more_bits(best, at, offset)) for at in layers}
        return {layer: (low, high) for layer, (_, low, high) in less.items()}

    def like_best(self, offset: int) -> list[int]:
        """Return the layers that do not read worse than the best one; none without intervals."""
        margin, behind = self.late_margin(offset), self.behind_best(offset)
        return [layer for layer, (low, high) in behind.items() if low <= 0 or high < margin]

    def late_rival(self, offset: int) -> int | None:
        """Return the best layer before the last, by validation; None if the last is alone."""
        before = self.validation.layers(LINEAR, offset)[:-1]
        nats = {at: float(self.validation.nats(LINEAR, at, offset)[0]) for at in before}
        return min(before, key=nats.__getitem__, default=None)

    def forgotten_bits(self, offset: int) -> Rate | None:
        """Return what the last layer reads less than the best before it, on test."""
        rival = self.late_rival(offset)
        last = self.test.layers(LINEAR, offset)[-1]
        return None if rival is None else self._more_bits(rival, last, offset)

    def late_margin(self, offset: int) -> float:
        """Return the bits below which a late loss is not worth mentioning."""
        return max(LEAST_LOSS_BITS, LEAST_LOSS_SHARE * float(self.read_bits(offset)[0]))

    def _more_bits(self, layer: int, other: int, offset: int) -> Rate:
        """Return what the probe of a layer reads more than that of another, on test."""
        nats = (self.test.nats(LINEAR, each, offset) for each in (other, layer))
        return v_information_bits(*nats)

    def unread(self, offset: int) -> bool:
        """Whether no layer's probe beats the unigram, by an interval clear of zero."""
        unigram = self.test.nats(UNIGRAM, None, offset)
        layers = self.test.layers(LINEAR, offset)
        nats = (self.test.nats(LINEAR, layer, offset) for layer in layers)
        lows = (self.test.summary(v_information_bits(unigram, each))[1] for each in nats)
        return not self.test.shortage and not any(low > 0 for low in lows)

    def behind_counting(self) -> tuple[str, Rate] | None:
        """Return which counts predict the next token better than the model, and by which bits."""
        if not self.test.has(MODEL, None, 1):
            return None
        model = self.test.nats(MODEL, None, 1)
        bits = {
            name: v_information_bits(model, self.test.nats(name, None, 1))
            for name in (SKIP_BIGRAM, UNIGRAM)
        }
        name = max(bits, key=lambda each: float(bits[each][0]))
        return (name, bits[name]) if self.test.summary(bits[name])[1] > 0 else None

    def ceiling(self, offset: int) -> str | None:
        """Return the ceiling to go by: with the output adapted, where that was measured."""
        for name in (MODEL,) if offset == 1 else (MARGINAL_ADAPTED, MARGINAL):
            if self.drawn(offset).has(name, None, offset):
                return name
        return None

    def floor(self, offset: int) -> tuple[str, int | None]:
        """Return the better readout of the current token alone, by validation, and its layer."""
        return self.validation.token_floor(offset)

    def drawn(self, offset: int) -> Rates:
        """Return the rates where the ceiling is known: at the next token everywhere."""
        return self.test if offset == 1 else self.marginal

    def read_bits(self, offset: int) -> Rate:
        """Return what the best probe reads beyond the floor."""
        return self._bits_of_layer(self.best_layer(offset), offset)

    def reach(self, farthest: int) -> int:
        """Return the last offset up to which, from t+2 on, all are clearly read; 1 if t+2 is not.

        Taken in order, stopping at the first that is not clear, all offsets together are one test:
        where less is read than this says, that is chance in at most 25 of 1,000 cases.

        Source: Maurer, Hothorn & Lehmacher (1995), on hypotheses ordered beforehand.
        """
        for offset in range(2, farthest + 1):
            low = self.test.summary(self.read_bits(offset))[1]
            if self.unread(offset) or not low > 0:
                return offset - 1
        return farthest

    def room_bits(self, offset: int, ceiling: str = MARGINAL) -> Rate | None:
        """Return what the model knows beyond the floor; None without a ceiling.

        What is read is known on all test positions, the ceiling on some that were drawn: there
        the probe varies with the ceiling, and what lies between them varies less than the room.

        Source: Cochran (1977), "Sampling techniques", on difference estimators.
        """
        drawn = self.drawn(offset)
        if not drawn.has(ceiling, None, offset):
            return None
        best = drawn.nats(LINEAR, self.best_layer(offset), offset)
        unread = v_information_bits(best, drawn.nats(ceiling, None, offset))
        return np.asarray(self.read_bits(offset) + unread)

    def recovered(self, offset: int, ceiling: str = MARGINAL) -> Rate | None:
        """Return the share of the room that the best layer reads; None where there is none."""
        return self.share(self.best_layer(offset), offset, ceiling)

    def shares(self, offset: int) -> dict[int, Rate]:
        """Return by layer the share that its probe reads of what the model knows.

        0 is the floor and 1 is the ceiling to go by, at the next token the model itself; empty
        where there is no ceiling.
        """
        ceiling = self.ceiling(offset)
        if ceiling is None:
            return {}
        layers = self.test.layers(LINEAR, offset)
        shares = ((layer, self.share(layer, offset, ceiling)) for layer in layers)
        return {layer: share for layer, share in shares if share is not None}

    def share(self, layer: int, offset: int, ceiling: str) -> Rate | None:
        """Return the share of the room that a layer reads; None where it is small or unknown.

        Of a model that predicts worse than counting, unless its output is adapted, there is none.
        """
        room = self.room_bits(offset, ceiling)
        if ceiling != MARGINAL_ADAPTED and self.behind_counting():
            return None
        if room is None or not self.drawn(offset).summary(room)[1] >= LEAST_ROOM_BITS:
            return None
        share: Rate = self._bits_of_layer(layer, offset) / np.where(room > 0, room, np.nan)
        return share

    def _bits_of_layer(self, layer: int, offset: int) -> Rate:
        floor = self.test.nats(*self.floor(offset), offset)
        return v_information_bits(floor, self.test.nats(LINEAR, layer, offset))

    def lens_shares(self) -> dict[int, float]:
        """Return by layer the lens's accuracy as a share of the model's at the next token."""
        if not self.test.has(MODEL, None, 1) or not self.test.rate("top1", MODEL, None, 1)[0] > 0:
            return {}
        accuracy = self.test.rate("top1", MODEL, None, 1)[0]
        layers = self.test.layers(LENS, 1)
        return {at: float(self.test.rate("top1", LENS, at, 1)[0] / accuracy) for at in layers}

    def saturation_layer(self) -> int | None:
        """Return the first layer before the last from which on the lens has 95 % of the model's."""
        saturated = None
        for layer, share in reversed(self.lens_shares().items()):
            if share < SATURATED:
                break
            saturated = layer
        return None if saturated == self.n_layers else saturated


def adaptation_nats(rates: Rates, n_layers: int) -> Rate | None:
    """Return by how much the (L, 1) probe beats the model, in nats; None if not scored.

    Both must read the same: the residual stream after the last block.
    """
    if not (rates.has(MODEL, None, 1) and rates.has(LINEAR, n_layers, 1)):
        return None
    gain: Rate = rates.nats(MODEL, None, 1) - rates.nats(LINEAR, n_layers, 1)
    return gain


def specialization_row(domain: DomainRates, offset: int) -> dict[str, Any]:
    """Return the numbers of one domain and offset: a row of `specialization` in results.json."""
    best = domain.best_layer(offset)
    row: dict[str, Any] = {
        "offset": offset,
        "domain": domain.name,
        "best_layer": best,
        "best_depth": best / domain.n_layers,
        "like_best": domain.like_best(offset),
        "late_rival": domain.late_rival(offset),
        "late_margin_bits": domain.late_margin(offset),
    }
    row["floor"], row["floor_layer"] = domain.floor(offset)
    adapted = domain.recovered(offset, MARGINAL_ADAPTED)
    row |= domain.test.columns("forgotten_bits", domain.forgotten_bits(offset))
    room = domain.room_bits(offset)
    row |= domain.test.columns("read_bits", domain.read_bits(offset) if offset > 1 else None)
    row |= domain.marginal.columns("room_bits", room)
    row |= domain.marginal.columns("recovered", domain.recovered(offset))
    row |= domain.marginal.columns("recovered_adapted", adapted)
    if offset == 1:
        row |= domain.test.columns("adaptation_nats", domain.adaptation_nats())
        row["saturation_layer"] = domain.saturation_layer()
    return row
