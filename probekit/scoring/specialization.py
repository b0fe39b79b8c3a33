"""From scores to the few numbers that decide, and what they say in plain words.

best_layer      the layer whose linear probe has the lowest validation cross-entropy
forgotten_bits  cross-entropy at the last layer minus at the best layer, on test
recovered       (skip-bigram - best probe) / (skip-bigram - marginal), in nats, on the
                positions where marginalization ran
saturation      offset 1: the first layer read from which on the lens has 95 % of that
adaptation      offset 1: the model's cross-entropy minus the (L, 1) probe's. The probe is
                fitted to the text at hand, the model is not; this measures by how much
                that alone helps.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from probekit.scoring.rates import (
    Rate,
    Rates,
)

PROBE = "linear"
SATURATED = 0.95


@dataclass(frozen=True)
class Domain:
    """The rates of one domain that the findings are made of.

    Attributes:
        name: Its name.
        n_layers: Number of blocks of the model.
        validation: Where the best layer is chosen.
        test: On all positions.
        marginal: On those where marginalization ran.
        at_output, target: As `find` takes them.
    """

    name: str
    n_layers: int
    validation: Rates
    test: Rates
    marginal: Rates
    at_output: bool = True
    target: str = "text"

    def adaptation_nats(self) -> Rate | None:
        """Return the gain by fitting to this text; None where it cannot be told."""
        return adaptation_nats(self.test, self.n_layers) if self.at_output else None

    def best_layer(self, offset: int) -> int:
        """Return the layer whose probe has the lowest validation cross-entropy."""
        return self.validation.best_layer(PROBE, offset)

    def forgotten_bits(self, offset: int) -> Rate:
        """Return what the best layer knows on test and the last one does not."""
        last = self.test.nats(PROBE, self.test.layers(PROBE, offset)[-1], offset)
        best = self.test.nats(PROBE, self.best_layer(offset), offset)
        return (last - best) / math.log(2)

    def recovered(self, offset: int, ceiling: str = "marginal") -> Rate | None:
        """Share of the ceiling's gain over the skip-bigram; None without a ceiling above it."""
        if not self.marginal.has(ceiling, None, offset):
            return None
        floor = self.marginal.nats("skip-bigram", None, offset)
        room = floor - self.marginal.nats(ceiling, None, offset)
        if self.marginal.summary(room)[1] <= 0:
            return None
        gain = floor - self.marginal.nats(PROBE, self.best_layer(offset), offset)
        share: Rate = gain / np.where(room > 0, room, np.nan)
        return share

    def saturation_layer(self) -> int | None:
        """Return the first layer from which on the lens has 95 % of the model's accuracy."""
        if not self.test.has("model", None, 1):
            return None
        enough = SATURATED * self.test.rate("top1", "model", None, 1)[0]
        found = None
        for layer in reversed(self.test.layers("lens", 1)):
            if self.test.rate("top1", "lens", layer, 1)[0] < enough:
                break
            found = layer
        return found


def adaptation_nats(rates: Rates, n_layers: int) -> Rate | None:
    """Return by how much the (L, 1) probe beats the model, in nats; None if not scored.

    Both must read the same: the residual stream after the last block.
    """
    if not (rates.has("model", None, 1) and rates.has(PROBE, n_layers, 1)):
        return None
    gain: Rate = rates.nats("model", None, 1) - rates.nats(PROBE, n_layers, 1)
    return gain


def _row(domain: Domain, offset: int) -> dict[str, Any]:
    best = domain.best_layer(offset)
    row: dict[str, Any] = {
        "offset": offset,
        "domain": domain.name,
        "best_layer": best,
        "best_depth": best / domain.n_layers,
    }
    row |= _columns("forgotten_bits", domain.test, domain.forgotten_bits(offset))
    row |= _columns("recovered", domain.marginal, domain.recovered(offset))
    adapted = domain.recovered(offset, "marginal-adapted")
    row |= _columns("recovered_adapted", domain.marginal, adapted)
    if offset == 1:
        row |= _columns("adaptation_nats", domain.test, domain.adaptation_nats())
        row["saturation_layer"] = domain.saturation_layer()
    row["verdict"] = _verdict(row)
    return row


def _columns(name: str, rates: Rates, rate: Rate | None) -> dict[str, float | None]:
    value, low, high = rates.summary(rate) if rate is not None else (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _verdict(row: dict[str, Any]) -> str:
    """Say in words whether the last layer has forgotten what the best layer knew."""
    low, high = row["forgotten_bits_low"], row["forgotten_bits_high"]
    if row["forgotten_bits"] == low == high == 0:
        return "the last layer is the best: nothing is forgotten"
    if low > 0:
        return f"layer {row['best_layer']} knows more than the last: later layers forget"
    if high < 0:
        return "the last layer reads better on test than the layer that validation preferred"
    return "cannot tell whether later layers forget: the interval spans zero"
