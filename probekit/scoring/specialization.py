"""Specialization: from rates to the few numbers that tell which layer knows how much.

best_layer      the layer whose linear probe has the lowest validation cross-entropy
forgotten_bits  cross-entropy at the last layer minus at the best layer, on test
floor           the better readout of the current token alone, by validation: a skip-bigram
                or the probe at layer 0
read_bits       floor minus best probe, on the positions where marginalization ran
room_bits       floor minus marginal there: what the model knows beyond the current token
recovered       read_bits / room_bits, where the room is not too small for a ratio
saturation      offset 1: the first layer read from which on the lens has 95 % of that
adaptation      offset 1: the model's cross-entropy minus the (L, 1) probe's. The probe is
                fitted to the text at hand, the model is not; this measures by how much
                that alone helps.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from probekit.readout import LENS, LINEAR, MARGINAL, MARGINAL_ADAPTED, MODEL
from probekit.scoring.losses import v_information_bits
from probekit.scoring.rates import DocumentSums, Rate, Rates

SATURATED = 0.95
# A room of which the interval reaches below this is too small for a share of it.
LEAST_ROOM_BITS = 0.3


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

    def forgotten_bits(self, offset: int) -> Rate:
        """Return what the best layer knows on test and the last one does not."""
        last = self.test.nats(LINEAR, self.test.layers(LINEAR, offset)[-1], offset)
        best = self.test.nats(LINEAR, self.best_layer(offset), offset)
        return (last - best) / math.log(2)

    def floor(self, offset: int) -> tuple[str, int | None]:
        """Return the better readout of the current token alone, by validation, and its layer."""
        return self.validation.token_floor(offset)

    def read_bits(self, offset: int) -> Rate:
        """Return what the best probe reads beyond the floor, where marginalization ran."""
        return self._bits_beyond_floor(LINEAR, self.best_layer(offset), offset)

    def room_bits(self, offset: int, ceiling: str = MARGINAL) -> Rate | None:
        """Return what the model knows beyond the floor; None without a ceiling."""
        scored = self.marginal.has(ceiling, None, offset)
        return self._bits_beyond_floor(ceiling, None, offset) if scored else None

    def recovered(self, offset: int, ceiling: str = MARGINAL) -> Rate | None:
        """Return the share of the room that is read; None where the room is small or unknown."""
        room = self.room_bits(offset, ceiling)
        if room is None or not self.marginal.summary(room)[1] >= LEAST_ROOM_BITS:
            return None
        share: Rate = self.read_bits(offset) / np.where(room > 0, room, np.nan)
        return share

    def _bits_beyond_floor(self, readout: str, layer: int | None, offset: int) -> Rate:
        floor = self.marginal.nats(*self.floor(offset), offset)
        return v_information_bits(floor, self.marginal.nats(readout, layer, offset))

    def saturation_layer(self) -> int | None:
        """Return the first layer from which on the lens has 95 % of the model's accuracy."""
        if not self.test.has(MODEL, None, 1):
            return None
        enough = SATURATED * self.test.rate("top1", MODEL, None, 1)[0]
        saturated = None
        for layer in reversed(self.test.layers(LENS, 1)):
            if self.test.rate("top1", LENS, layer, 1)[0] < enough:
                break
            saturated = layer
        return saturated


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
    }
    row["floor"], row["floor_layer"] = domain.floor(offset)
    adapted = domain.recovered(offset, MARGINAL_ADAPTED)
    row |= domain.test.columns("forgotten_bits", domain.forgotten_bits(offset))
    room = domain.room_bits(offset)
    row |= domain.marginal.columns("read_bits", None if room is None else domain.read_bits(offset))
    row |= domain.marginal.columns("room_bits", room)
    row |= domain.marginal.columns("recovered", domain.recovered(offset))
    row |= domain.marginal.columns("recovered_adapted", adapted)
    if offset == 1:
        row |= domain.test.columns("adaptation_nats", domain.adaptation_nats())
        row["saturation_layer"] = domain.saturation_layer()
    return row
